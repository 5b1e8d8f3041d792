import copy

import pytest
import timm
import torch
from safetensors.torch import save_file

from pointcept.models.pretraining import TimmTeacher
from pointcept.structures import CameraBatch


@pytest.fixture(scope="module", autouse=True)
def small_models():
    """Small models under their own names: a DINOv2-like transformer of patch 14 with registers, and a ResNet."""

    def tiny_dino(pretrained: bool = False, **options):
        sizes = {"patch_size": 14, "embed_dim": 24, "depth": 3, "num_heads": 2, "reg_tokens": 4, "img_size": 56}
        known = {name: value for name, value in options.items() if name in ("num_classes", "dynamic_img_size")}
        return timm.models.vision_transformer.VisionTransformer(**sizes, **known)

    tiny_dino.__module__ = __name__
    timm.models.register_model(tiny_dino)


def views(height: int = 60, width: int = 80) -> CameraBatch:
    generator = torch.Generator().manual_seed(0)
    return CameraBatch(
        image=torch.rand(1, 2, 3, height, width, generator=generator),
        depth=torch.ones(1, 2, height, width),
        intrinsic=torch.eye(3).expand(1, 2, 3, 3),
        extrinsic=torch.eye(4).expand(1, 2, 4, 4),
        size_px=torch.tensor([[[height, width], [height // 2, width // 2]]]),
    )


@pytest.mark.parametrize(
    ("name", "size", "index", "shape"),
    [
        ("tiny_dino", (42, 70), -1, (24, 3, 5)),
        ("resnet10t", (64, 96), 2, (128, 8, 12)),
        ("vit_tiny_patch16_224", (32, 48), 5, (192, 2, 3)),  # mean and deviation 0.5, not ImageNet's
    ],
)
def test_maps_are_those_of_timm_and_have_no_gradient(name, size, index, shape):
    teacher = TimmTeacher(name, size, random_weights=True, out_index=index)
    assert (teacher.channels, *teacher.map_size) == shape
    cameras = views(*size)  # the first view has the teacher's own size, so that nothing is resized
    maps = teacher(cameras.replace(image=cameras.image.clone().requires_grad_()))
    assert maps.shape == (1, 2, *shape) and not maps.requires_grad and maps.dtype == torch.float32
    network = teacher._network
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())
    config = timm.data.resolve_data_config({}, model=network)
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    image = (cameras.image[0, :1] - mean) / std
    index = index if index >= 0 else 2
    expected = network.forward_intermediates(image, indices=[index], norm="res" not in name, intermediates_only=True)[0]
    torch.testing.assert_close(maps[:, 0], expected, atol=1e-4, rtol=1e-4)


def test_several_maps_are_joined_at_the_finest_and_have_equal_shares():
    fine, coarse = (TimmTeacher("resnet10t", (64, 96), random_weights=True, out_index=index) for index in (1, 3))
    teacher = TimmTeacher("resnet10t", (64, 96), random_weights=True, out_index=(-2, 1))
    assert (teacher.channels, teacher.map_size) == (256 + 64, (16, 24))
    assert teacher.describe().startswith("resnet10t, map 3, 1 of images of (64, 96)")
    maps = teacher(views())
    first, second = maps.split((256, 64), dim=2)
    expected = fine(views())
    torch.testing.assert_close(second, expected / expected.norm(dim=2, keepdim=True))
    resized = torch.nn.Upsample((16, 24), mode="bilinear")(coarse(views())[0])
    torch.testing.assert_close(first[0], resized / resized.norm(dim=1, keepdim=True))
    for wrong in ((), (1, -4), (1, 7)):
        with pytest.raises(ValueError, match="several of the 5 maps of 'resnet10t', none twice: got"):
            TimmTeacher("resnet10t", (64, 96), random_weights=True, out_index=wrong)


def test_a_view_is_seen_alike_alone_and_padded_beside_a_larger_one():
    teacher, cameras = TimmTeacher("tiny_dino", (28, 42), random_weights=True), views()
    small = cameras.image[:, 1:, :, :30, :40]
    alone = CameraBatch(
        image=small,
        depth=torch.ones(1, 1, 30, 40),
        intrinsic=torch.eye(3).expand(1, 1, 3, 3),
        extrinsic=torch.eye(4).expand(1, 1, 4, 4),
        size_px=torch.tensor([[[30, 40]]]),
    )
    torch.testing.assert_close(teacher(cameras)[:, 1], teacher(alone)[:, 0], atol=1e-4, rtol=1e-4)


def test_a_patch_that_does_not_divide_the_image_is_refused_with_a_size_that_fits():
    with pytest.raises(ValueError, match=r"multiples of .* 14 pixels for 'tiny_dino': got \(60, 80\)\. Use \(56, 84\)"):
        TimmTeacher("tiny_dino", (60, 80))
    with pytest.raises(ValueError, match=r"14 pixels for 'vit_small_patch14_reg4_dinov2': got \(224, 300\)"):
        TimmTeacher("vit_small_patch14_reg4_dinov2", (224, 300))


def test_other_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"got 'vit_smal_patch14_dinov2'\. Did you mean 'vit_small_patch14_dinov2'"):
        TimmTeacher("vit_smal_patch14_dinov2", (28, 28))
    with pytest.raises(ValueError, match="several of the 3 maps of 'tiny_dino', none twice: got 3"):
        TimmTeacher("tiny_dino", (28, 28), out_index=3)
    with pytest.raises(ValueError, match="one source of weights"):
        TimmTeacher("tiny_dino", (28, 28), checkpoint="a.pth", random_weights=True)


def test_weights_come_from_the_file_and_all_must_be_there(tmp_path):
    weights = timm.create_model("tiny_dino", num_classes=0, dynamic_img_size=True).state_dict()
    save_file(weights, tmp_path / "all.safetensors")
    teacher = TimmTeacher("tiny_dino", (28, 42), checkpoint=str(tmp_path / "all.safetensors"))
    teacher(views())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in teacher._network.state_dict().items())
    weights.pop("norm.weight")
    save_file(weights, tmp_path / "part.safetensors")
    with pytest.raises(ValueError, match=r"must hold all weights of 'tiny_dino': .* 1 missing \(norm.weight\)"):
        TimmTeacher("tiny_dino", (28, 42), checkpoint=str(tmp_path / "part.safetensors"))(views())


def test_building_and_running_a_teacher_changes_no_random_numbers():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = TimmTeacher("tiny_dino", (28, 42), random_weights=True)(views())
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(TimmTeacher("tiny_dino", (28, 42), random_weights=True)(views()), first)


def test_cached_maps_are_taken_as_they_are_and_must_fit():
    teacher, cameras = TimmTeacher("tiny_dino", (28, 42)), views()
    maps = torch.randn(1, 2, 24, 2, 3)
    assert torch.equal(teacher(cameras.replace(feature=maps)), maps)
    assert teacher._network is None, "the network is not needed, nor its weights"
    assert copy.deepcopy(teacher).describe() == teacher.describe()
    with pytest.raises(ValueError, match=r"must be those of the teacher, \(24, 2, 3\) .*: got \(24, 2, 4\)"):
        teacher(cameras.replace(feature=torch.zeros(1, 2, 24, 2, 4)))
    with pytest.raises(ValueError, match=r"feature must have shape \(1, 2\) \+ \(C, h, w\)"):
        cameras.replace(feature=torch.zeros(1, 1, 24, 2, 3))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_maps_are_the_same_on_a_gpu():
    teacher, cameras = TimmTeacher("tiny_dino", (28, 42), random_weights=True), views()
    expected = teacher(cameras)
    torch.testing.assert_close(teacher(cameras.to("cuda")).cpu(), expected, atol=1e-3, rtol=1e-3)
