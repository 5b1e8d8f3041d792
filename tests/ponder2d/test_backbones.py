import logging

import pytest
import timm
import torch
from torch import nn

from pointcept.models.weights import load_weights
from pointcept.registry import MODELS, build
from ponder2d.backbones import TimmBackbone, padded_size
from ponder2d.necks import FeaturePyramid

SMALL = ("test_convnext", "test_resnet", "test_vit", "test_efficientnet", "swin_tiny_patch4_window7_224")


class UserNet(nn.Module):
    """A network as a user would register it with timm: stages, feature_info, no forward_intermediates."""

    def __init__(self, num_classes: int = 10, drop_path_rate: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, stride=4)
        self.deep = nn.Conv2d(6, 8, 2, stride=2)
        self.last = nn.Conv2d(8, 5, 1)
        self.feature_info = [
            dict(num_chs=6, reduction=4, module="stem"),
            dict(num_chs=8, reduction=8, module="deep"),
        ]
        self.fc = nn.Linear(5, num_classes) if num_classes else nn.Identity()

    def forward_features(self, image):
        return self.last(self.deep(self.stem(image)))

    def forward(self, image):
        return self.fc(self.forward_features(image).mean(dim=(2, 3)))


class VectorNet(UserNet):
    """Gives one vector per image and says nothing of maps."""

    def __init__(self, num_classes: int = 10, drop_path_rate: float = 0.0) -> None:
        super().__init__(num_classes, drop_path_rate)
        del self.feature_info


@pytest.fixture
def registered(monkeypatch):
    entries = timm.models._registry
    makers = {"user_net": UserNet, "vector_net": VectorNet}
    for name, maker in makers.items():

        def make(pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, cache_dir=None, *, _m=maker, **kw):
            return _m(**kw)

        monkeypatch.setitem(entries._model_entrypoints, name, make)


@pytest.mark.parametrize("name", SMALL)
def test_maps_are_those_of_timm_for_normalised_images(name):
    torch.manual_seed(0)
    backbone = TimmBackbone(name).eval()
    image = torch.rand(2, 3, 64, 96)
    config = backbone.model.pretrained_cfg
    normal = (image - torch.tensor(config["mean"]).view(3, 1, 1)) / torch.tensor(config["std"]).view(3, 1, 1)
    expected = backbone.model.forward_intermediates(normal, norm=backbone.is_plain, intermediates_only=True)
    maps = backbone(image)
    assert [tuple(one.shape) for one in maps] == [
        (2, c, 64 // s, 96 // s) for c, s in zip(backbone.channels, backbone.strides)
    ]
    assert min(backbone.strides) >= 4
    torch.testing.assert_close(maps[-1], expected[-1])


@pytest.mark.parametrize("name", SMALL)
def test_the_state_dict_is_that_of_timm_and_exactly_the_used_parameters_train(name):
    backbone = TimmBackbone(name)
    plain = timm.create_model(name, num_classes=0)
    assert {k: v.shape for k, v in backbone.state_dict().items()} == {k: v.shape for k, v in plain.state_dict().items()}
    backbone.load_state_dict(plain.state_dict(), strict=True)
    assert all(torch.equal(value, plain.state_dict()[key]) for key, value in backbone.state_dict().items())
    sum(one.square().sum() for one in backbone(torch.rand(2, 3, 64, 64))).backward()
    for key, parameter in backbone.model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key


def test_the_names_are_those_of_timm_inside_a_larger_model_too():
    outer = nn.ModuleDict({"first": nn.Linear(1, 1), "backbone": TimmBackbone("test_resnet"), "last": nn.Linear(1, 1)})
    names = list(outer.state_dict())
    assert "backbone.conv1.0.weight" in names or "backbone.conv1.weight" in names
    assert not any(".model." in name for name in names) and {"first.weight", "last.weight"} <= set(names)
    again = nn.ModuleDict({"first": nn.Linear(1, 1), "backbone": TimmBackbone("test_resnet"), "last": nn.Linear(1, 1)})
    again.load_state_dict(outer.state_dict(), strict=True)
    assert all(torch.equal(a, b) for a, b in zip(outer.state_dict().values(), again.state_dict().values(), strict=True))


def test_images_of_any_size_are_padded_right_and_bottom_and_it_is_said_once(caplog):
    backbone = TimmBackbone("test_convnext").eval()
    image = torch.rand(1, 3, 40, 70)
    with caplog.at_level(logging.INFO, "pointcept"):
        maps, again = backbone(image), backbone(image)
    assert [tuple(one.shape[-2:]) for one in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    said = [r.getMessage() for r in caplog.records]
    assert said == ["Images of (40, 70) (height, width) are padded to (64, 96), multiples of 32, for 'test_convnext'."]
    mean_colored = backbone.mean.expand(1, 3, 64, 96).clone()
    mean_colored[..., :40, :70] = image
    torch.testing.assert_close(backbone(mean_colored)[0], maps[0])
    torch.testing.assert_close(again[0], maps[0])
    assert padded_size((64, 65), 32) == (64, 96)


def test_chosen_maps_come_in_order_and_the_stages_behind_them_do_not_train():
    backbone = TimmBackbone("test_convnext", out_indices=(0, -3))
    assert backbone.strides == (4, 8)
    frozen = {k.split(".")[1] for k, p in backbone.model.named_parameters() if not p.requires_grad and "stages" in k}
    assert frozen == {"2", "3"}
    with pytest.raises(ValueError, match=r"out_indices must rise within 0..3.*strides 4, 8, 16, 32\): got \(1, 0\)"):
        TimmBackbone("test_convnext", out_indices=(1, 0))
    with pytest.raises(ValueError, match=r"out_indices must rise within 0..3"):
        TimmBackbone("test_convnext", out_indices=(0, 4))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
def test_gradient_checkpointing_changes_neither_results_nor_gradients_nor_statistics(name):
    results = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        backbone = TimmBackbone(name, gradient_checkpointing=checkpointing).train()
        maps = backbone(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
        sum(one.square().mean() for one in maps).backward()
        gradients = {k: p.grad for k, p in backbone.named_parameters() if p.requires_grad}
        results.append((maps, gradients, dict(backbone.named_buffers())))
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, atol=1e-6, rtol=1e-4)


def test_a_users_timm_model_needs_no_more_than_feature_info(registered):
    backbone = TimmBackbone("user_net")
    image = torch.rand(2, 3, 16, 24)
    stem, deep = backbone(image)
    normal = backbone.normalized(image)
    torch.testing.assert_close(stem, backbone.model.stem(normal))
    torch.testing.assert_close(deep, backbone.model.deep(backbone.model.stem(normal)))
    assert not backbone.model.last.weight.requires_grad and backbone.model.deep.weight.requires_grad
    assert not backbone.model.stem._forward_hooks
    with pytest.raises(ValueError, match="has no set_grad_checkpointing"):
        backbone.set_gradient_checkpointing(True)


def test_models_that_do_not_fit_are_told_apart(registered):
    with pytest.raises(
        ValueError, match=r"must be a model of timm .*got 'convnext_ato'\. Did you mean 'convnext_atto'"
    ):
        TimmBackbone("convnext_ato")
    with pytest.raises(ValueError, match=r"must give feature maps: 'vector_net' has no feature_info"):
        TimmBackbone("vector_net")
    with pytest.raises(
        ValueError, match=r"no feature maps of an image of \(64, 64\).*built for one size, set image_size"
    ):
        TimmBackbone("mixer_s32_224")
    with pytest.raises(ValueError, match=r"one source: got pretrained=True and checkpoint='a.pth'"):
        TimmBackbone("test_vit", pretrained=True, checkpoint="a.pth")
    with pytest.raises(ValueError, match="cover the image evenly: 'crossvit_tiny_240' says"):
        TimmBackbone("crossvit_tiny_240")


def test_models_of_one_size_take_images_of_that_size():
    backbone = TimmBackbone("mixer_s32_224", image_size=(64, 96))
    assert backbone(torch.rand(1, 3, 64, 96))[0].shape[-2:] == (2, 3)
    with pytest.raises(ValueError, match=r"was built for images of \(64, 96\).*got \(64, 64\)"):
        backbone(torch.rand(1, 3, 64, 64))


def test_weights_without_network_are_an_error_with_a_remedy(monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(timm.models._builder, "load_pretrained", offline)
    with pytest.raises(FileNotFoundError, match=r"weights of 'test_vit'.*Network is unreachable.*give a file as check"):
        TimmBackbone("test_vit", pretrained=True)


def test_weights_come_from_files_of_timm_and_of_this_toolkit(tmp_path):
    source = timm.create_model("test_resnet", num_classes=3)
    torch.save(source.state_dict(), tmp_path / "timm.pth")
    backbone = TimmBackbone("test_resnet", checkpoint=str(tmp_path / "timm.pth"))
    assert torch.equal(backbone.model.layer4[0].conv1.weight, source.layer4[0].conv1.weight)
    trained = nn.ModuleDict({"encoder": nn.ModuleDict({"backbone": backbone, "neck": nn.Linear(2, 2)})})
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "run.pth")
    again = TimmBackbone("test_resnet", checkpoint=str(tmp_path / "run.pth"))
    assert torch.equal(again.model.layer4[0].conv1.weight, source.layer4[0].conv1.weight)
    assert load_weights(again, tmp_path / "run.pth").is_exact
    with pytest.raises(ValueError, match=r"nothing in .* does|must hold all weights of 'test_convnext'"):
        TimmBackbone("test_convnext", checkpoint=str(tmp_path / "run.pth"))


def test_a_pyramid_joins_maps_from_coarse_to_fine():
    pyramid = build(dict(type="FeaturePyramid", in_channels=(1, 1), in_strides=(4, 8), out_channels=1), "neck", MODELS)
    with torch.no_grad():
        for layer in pyramid.laterals:
            layer.weight.fill_(1), layer.bias.zero_()
        pyramid.smooth.weight.zero_()
        pyramid.smooth.weight[0, 0, 1, 1] = 1
        pyramid.smooth.bias.zero_()
    fine, coarse = torch.tensor([[[[1.0, 2], [3, 4]]]]), torch.tensor([[[[10.0]]]])
    assert pyramid([fine, coarse]).tolist() == [[[[11, 12], [13, 14]]]]


def test_a_pyramid_of_coarse_maps_is_refined():
    pyramid = FeaturePyramid((5, 5), (16, 16), out_channels=4, out_stride=4)
    assert pyramid([torch.rand(1, 5, 2, 3), torch.rand(1, 5, 2, 3)]).shape == (1, 4, 8, 12)
    with pytest.raises(ValueError, match=r"one width and one stride per map: got \(5,\) and \(4, 8\)"):
        FeaturePyramid((5,), (4, 8))
