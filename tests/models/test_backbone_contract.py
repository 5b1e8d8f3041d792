"""What every registered backbone must do; a new one is tested as soon as it has an entry in CASES."""

import copy
import dataclasses
import inspect
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from pointcept import create_model, registry
from pointcept.models.backbones import Backbone, backbone_names
from pointcept.models.freezing import freeze, is_frozen, unfreeze
from pointcept.ops.backends import SPARSE
from pointcept.ops.sparse.accelerated import backends_on
from pointcept.registry import MODELS
from pointcept.structures import PointBatch

IN_CHANNELS = 4


@dataclasses.dataclass(frozen=True)
class Case:
    """A small instance: arguments of the constructor, and the data sets it needs to be told apart, if any."""

    arguments: Mapping[str, Any]
    conditions: tuple[str, ...] = ("",)


SPARSE_UNET = {"base_channels": 4, "channels": (4, 6, 8, 8, 6, 5), "layers": (1, 2, 1, 1, 2, 1)}
TRANSFORMER = {
    "order": ("z", "hilbert-trans"),
    "stride": (2, 4),
    "enc_depths": (1, 2, 1),
    "enc_channels": (8, 12, 16),
    "enc_num_head": (2, 3, 4),
    "enc_patch_size": (16, 16, 16),
    "dec_depths": (1, 2),
    "dec_channels": (6, 12),
    "dec_num_head": (2, 3),
    "dec_patch_size": (16, 32),
    "drop_path": 0.2,
}
CASES = {
    "LayerNormPointTransformerV3": Case(TRANSFORMER | {"layer_scale": 0.5}),
    "PointTransformerV3": Case(TRANSFORMER),
    "PromptSparseUNet": Case(
        SPARSE_UNET | {"conditions": ("ScanNet", "S3DIS"), "zero_init": False}, conditions=("ScanNet", "S3DIS")
    ),
    "SparseUNet": Case(SPARSE_UNET),
}


def make_points(*clouds: torch.Tensor, condition: str = "") -> PointBatch:
    """Clouds of given voxels with features that depend on the place alone."""
    grid_coord = torch.cat(clouds)
    phase = torch.arange(1.0, 1.0 + 3 * IN_CHANNELS, dtype=torch.float64).view(3, IN_CHANNELS)
    return PointBatch(
        coord=grid_coord * 0.02 + 0.01,
        grid_coord=grid_coord,
        feat=torch.sin(grid_coord.double() @ phase).float(),
        offset=torch.tensor([len(cloud) for cloud in clouds], dtype=torch.long).cumsum(0),
        condition=(condition,) * len(clouds) if condition else (),
    )


def cloud(count: int, seed: int, extent: int = 20) -> torch.Tensor:
    """Distinct voxels of a few planes, in random order."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.cartesian_prod(torch.arange(extent), torch.arange(extent), torch.tensor([0, 1, 9]))
    return cells[torch.randperm(len(cells), generator=generator)[:count]]


def make(name: str, num_classes: int = 0) -> Backbone:
    """A small backbone whose batch norms know the statistics of a cloud."""
    torch.manual_seed(0)
    model = create_model(name, in_channels=IN_CHANNELS, **CASES[name].arguments)
    model.reset_head(num_classes)
    momentum = {norm: norm.momentum for norm in model.modules() if isinstance(norm, nn.BatchNorm1d)}
    for norm in momentum:
        norm.momentum = 1.0
    with torch.no_grad():
        for condition in CASES[name].conditions:
            model(make_points(cloud(500, 0), condition=condition))
    for norm, value in momentum.items():
        norm.momentum = value
    return model.eval()


def points_of(name: str, *clouds: torch.Tensor) -> PointBatch:
    return make_points(*clouds, condition=CASES[name].conditions[0])


def assert_close(first: torch.Tensor, second: torch.Tensor) -> None:
    scale = second.abs().max().item() if second.numel() else 1.0
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5 * scale)


backbones = pytest.mark.parametrize("name", sorted(CASES))


def test_every_backbone_has_a_case():
    assert [name for name in backbone_names() if name not in CASES] == []
    inside = {
        target.__name__
        for target in map(MODELS.get, MODELS.names())
        if inspect.isclass(target) and target.__module__.startswith("pointcept.models.backbones.")
    }
    assert inside == set(CASES), "classes in pointcept.models.backbones must derive from Backbone and have a case"


def test_a_backbone_without_a_case_is_caught():
    with registry.temporary_names():

        @MODELS.register("Contract-Test-v1m1")
        class ContractTestBackbone(Backbone):
            pass

        assert "ContractTestBackbone" in backbone_names() and "Contract-Test-v1m1" not in backbone_names()
    points = make_points(cloud(1, 1))
    for member, argument in (("forward", points), ("forward_stages", points), ("reset_head", 3)):
        with pytest.raises(NotImplementedError):
            getattr(ContractTestBackbone(), member)(argument)


@backbones
@pytest.mark.parametrize("num_classes", [0, 5])
def test_the_result_has_the_declared_width_and_the_order_of_the_input(name, num_classes):
    model = make(name, num_classes)
    points = points_of(name, cloud(200, 1), cloud(90, 2)).replace(segment=torch.arange(290))
    result = model(points)
    assert model.in_channels == IN_CHANNELS and model.num_classes == num_classes
    assert result.feat.shape == (290, model.out_channels) and result.feat.isfinite().all()
    assert model.out_channels == (num_classes or model.stage_info[0].channels)
    for field in ("coord", "grid_coord", "segment", "offset", "condition"):
        assert getattr(result, field) is getattr(points, field)


@backbones
@torch.no_grad()
def test_a_cloud_gives_the_same_alone_and_in_a_batch(name):
    model = make(name)
    # empty at the start, in the middle and at the end; one point; fewer points than a window
    clouds = [cloud(0, 6), cloud(250, 1), cloud(1, 2), cloud(0, 3), cloud(150, 4), cloud(9, 7), cloud(0, 5)]
    together = model(points_of(name, *clouds)).feat
    assert_close(together, torch.cat([model(points_of(name, c)).feat for c in clouds]))


@backbones
@torch.no_grad()
def test_permuted_points_give_permuted_results(name):
    model, voxels = make(name), cloud(250, 1)
    order = torch.randperm(250, generator=torch.Generator().manual_seed(0))
    assert_close(model(points_of(name, voxels[order])).feat, model(points_of(name, voxels)).feat[order])


@backbones
@torch.no_grad()
def test_empty_clouds_and_single_points_are_legal(name):
    model = make(name)
    assert model(points_of(name, cloud(0, 1), cloud(0, 2))).feat.shape == (0, model.out_channels)
    assert model(points_of(name, cloud(1, 1))).feat.isfinite().all()
    assert [stage.num_points for stage in model.forward_stages(points_of(name, cloud(0, 1)))] == [0] * len(
        model.stage_info
    )


@backbones
@torch.no_grad()
def test_stages_are_the_occupied_voxels_of_their_stride_finest_first(name):
    model = make(name)
    points = points_of(name, cloud(250, 1), cloud(0, 2), cloud(100, 3))
    stages = model.forward_stages(points)
    strides = [info.stride for info in model.stage_info]
    assert len(stages) == len(strides) and strides == sorted(set(strides)) and strides[0] == 1
    for stage, info in zip(stages, model.stage_info, strict=True):
        assert stage.feat.shape == (stage.num_points, info.channels) and stage.feat.isfinite().all()
        assert stage.condition == points.condition
        rows = torch.cat([points.batch_index[:, None], points.grid_coord // info.stride], dim=1)
        voxels, voxel_of_point = torch.unique(rows, dim=0, return_inverse=True)
        found = torch.cat([stage.batch_index[:, None], stage.grid_coord], dim=1)
        order = sorted(range(len(found)), key=found.tolist().__getitem__)
        assert torch.equal(found[order], voxels)
        mean = torch.zeros(len(voxels), 3).index_add(0, voxel_of_point, points.coord)
        mean = mean / torch.bincount(voxel_of_point)[:, None]
        torch.testing.assert_close(stage.coord[order], mean)


@backbones
@torch.no_grad()
def test_the_finest_stage_is_the_result_without_a_head(name):
    model, points = make(name), points_of(name, cloud(250, 1), cloud(100, 3))
    stage = model.forward_stages(points)[0]
    features = {
        tuple(key): row
        for key, row in zip(torch.cat([stage.batch_index[:, None], stage.grid_coord], 1).tolist(), stage.feat)
    }
    keys = torch.cat([points.batch_index[:, None], points.grid_coord], 1).tolist()
    assert_close(torch.stack([features[tuple(key)] for key in keys]), model(points).feat)


@backbones
def test_every_parameter_and_the_input_get_a_gradient(name):
    model = make(name, num_classes=3).train()
    torch.manual_seed(1)
    for condition in CASES[name].conditions:
        points = make_points(cloud(200, 1), cloud(100, 2), condition=condition)
        points = points.replace(feat=points.feat.requires_grad_())
        model(points).feat.square().sum().backward()
    for parameter_name, parameter in [*model.named_parameters(), ("input", points.feat)]:
        assert parameter.grad is not None and parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.any(), parameter_name


@backbones
def test_a_state_dict_makes_another_instance_the_same(name):
    model = make(name, num_classes=3)
    torch.manual_seed(7)
    other = create_model(name, in_channels=IN_CHANNELS, **CASES[name].arguments).eval()
    other.reset_head(3)
    other.load_state_dict(model.state_dict())
    points = points_of(name, cloud(200, 1))
    assert torch.equal(other(points).feat, model(points).feat)


@backbones
def test_a_new_head_changes_only_the_head(name):
    model, points = make(name, num_classes=3), points_of(name, cloud(200, 1))
    stages = model.forward_stages(points)
    model.reset_head(7)
    assert (model.num_classes, model.out_channels) == (7, 7) and model(points).feat.shape == (200, 7)
    model.reset_head(0)
    assert model.out_channels == model.stage_info[0].channels == model(points).feat.shape[1]
    for before, after in zip(stages, model.forward_stages(points), strict=True):
        assert torch.equal(before.feat, after.feat)
    with pytest.raises(ValueError, match=r"num_classes must be at least 0: got -1"):
        model.reset_head(-1)


@backbones
def test_gradient_checkpointing_changes_neither_results_nor_gradients_nor_statistics(name):
    plain = make(name, num_classes=3).train()
    saving = copy.deepcopy(plain)
    saving.set_gradient_checkpointing(True)
    points = points_of(name, cloud(200, 1), cloud(100, 2))
    results = []
    for model in (plain, saving):
        torch.manual_seed(3)
        results.append(model(points).feat)
        results[-1].square().mean().backward()
    torch.testing.assert_close(*results)
    for (parameter_name, first), second in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert (first.grad is None) == (second.grad is None), parameter_name  # norms of other data sets have none
        if first.grad is None:
            continue
        torch.testing.assert_close(second.grad, first.grad, msg=lambda text, n=parameter_name: f"{n}: {text}")
    torch.testing.assert_close(dict(saving.named_buffers()), dict(plain.named_buffers()))


def count_calls(model: nn.Module) -> Counter[str]:
    """A count of the calls of each innermost module, kept up to date."""
    calls = Counter[str]()
    for name, module in model.named_modules():
        if not list(module.children()):
            module.register_forward_pre_hook(lambda *_, name=name: calls.update([name]))
    return calls


@backbones
def test_gradient_checkpointing_really_computes_again_and_can_be_switched_off(name):
    model = make(name, num_classes=3).train()
    calls, points = count_calls(model), points_of(name, cloud(100, 1))
    repeated = []
    for enabled in (True, False):
        model.set_gradient_checkpointing(enabled)
        calls.clear()
        torch.manual_seed(0)
        result = model(points).feat
        before = dict(calls)
        result.square().mean().backward()
        repeated.append(sum(calls[key] > before[key] for key in before))
    assert repeated[0] > 0 and repeated[1] == 0


@backbones
def test_a_frozen_backbone_is_the_same_after_a_training_step(name):
    model = nn.ModuleDict({"backbone": make(name), "head": nn.Linear(make(name).out_channels, 2)})
    freeze(model["backbone"])
    points = points_of(name, cloud(200, 1), cloud(100, 2))
    before = {key: value.clone() for key, value in model["backbone"].state_dict().items()}
    features = model["backbone"](points).feat
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    model.train()
    assert model["head"].training and not any(module.training for module in model["backbone"].modules())
    model["head"](model["backbone"](points).feat).square().mean().backward()
    optimizer.step()
    for key, value in model["backbone"].state_dict().items():
        assert torch.equal(value, before[key]), key
    assert torch.equal(model["backbone"](points).feat, features)
    copied = copy.deepcopy(model).train()
    assert is_frozen(copied["backbone"]) and not copied["backbone"].training
    assert copied["backbone"].train().training is False and model["backbone"].training is False
    unfreeze(model["backbone"])
    model.train()
    assert all(module.training for module in model["backbone"].modules()) and not is_frozen(model["backbone"])
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not copied["backbone"].training  # the copy has its own state


@backbones
@torch.no_grad()
@pytest.mark.parametrize("shift", [(-64, -8, -1600), (2**40, -(2**33), 2**31)], ids=["negative", "beyond 32 bits"])
def test_a_cloud_may_lie_anywhere(name, shift):
    """Moved by whole coarsest voxels; outside [0, 2^16) networks see a cloud from its own corner."""
    model, near = make(name), points_of(name, cloud(200, 1) + 8, cloud(90, 2))
    moved = near.grid_coord + torch.tensor(shift) * (torch.arange(290) < 200)[:, None]
    at_corner = near.grid_coord - 8 * (torch.arange(290) < 200)[:, None]
    assert_close(model(near.replace(grid_coord=moved)).feat, model(near.replace(grid_coord=at_corner)).feat)


@backbones
@torch.no_grad()
def test_points_of_one_voxel_count_as_their_mean(name):
    model, points = make(name), points_of(name, cloud(100, 1))
    change = torch.linspace(-1, 1, 100)[:, None].expand(-1, IN_CHANNELS)
    twice = points_of(name, cloud(100, 1).repeat(2, 1))
    twice = twice.replace(feat=torch.cat([points.feat + change, points.feat - change]))
    assert_close(model(twice).feat, model(points).feat.repeat(2, 1))


@backbones
def test_features_that_are_no_numbers_are_named(name):
    points = points_of(name, cloud(5, 1), cloud(9, 2))
    feat = points.feat.clone()
    feat[6, 2], feat[8, 2] = float("nan"), float("inf")
    with pytest.raises(ValueError, match=r"finite numbers: 2 of 14 .* columns \[2\] of feat and clouds \[1\].* row 6"):
        make(name)(points.replace(feat=feat))


@backbones
def test_a_wrong_feature_width_is_explained(name):
    points = points_of(name, cloud(9, 1))
    with pytest.raises(ValueError, match=rf"built for {IN_CHANNELS} input features .*got feat of shape \(9, 3\)"):
        make(name)(points.replace(feat=points.feat[:, :3]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("backend", ["torch", "spconv"])  # spconv-triton would tune kernels for each width: minutes
@backbones
def test_on_a_gpu_values_and_gradients_are_those_of_the_cpu(name, backend, monkeypatch):
    if backend not in ("torch", *backends_on("cuda")):
        pytest.skip(f"{backend} is not installed for CUDA")
    monkeypatch.setenv(SPARSE.variable, "torch")
    model, points = make(name, num_classes=3), points_of(name, cloud(300, 1), cloud(1, 2), cloud(40, 3))

    def run(model: Backbone, points: PointBatch, dtype: torch.dtype) -> list[torch.Tensor]:
        model.zero_grad()
        with torch.autocast(points.feat.device.type, dtype=dtype, enabled=dtype != torch.float32):
            output = model(points).feat.float()
        output.square().mean().backward()
        gradients = (p.grad.cpu().clone() for p in model.parameters() if p.grad is not None)  # .cuda() moves them
        return [output.detach().cpu(), *gradients]

    expected = run(model, points, torch.float32)
    monkeypatch.setenv(SPARSE.variable, backend)
    model = model.cuda()
    for dtype, tolerance in ((torch.float32, 2e-3), (torch.float16, 2e-2), (torch.bfloat16, 1e-1)):
        found = run(model, points.to("cuda"), dtype)
        assert len(found) == len(expected) and all(bool(tensor.isfinite().all()) for tensor in found)
        # In 16 bits rounding turns single ReLUs of these narrow networks on or off, which gradients show by far more.
        for number, (got, want) in enumerate(zip(found, expected if dtype == torch.float32 else expected[:1])):
            error = float((got - want).norm() / want.norm().clamp_min(1e-3))
            assert error < tolerance, f"{dtype}, tensor {number}: {error}"
