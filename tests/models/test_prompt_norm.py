"""Norms that depend on the data set of each cloud."""

import pytest
import torch
from torch import nn

from pointcept.models.backbones import PromptSparseUNet
from pointcept.models.backbones.prompt_norm import Prompt, PromptNorm, PromptNormFactory, make_prompt
from pointcept.ops.batch_norm import SyncBatchNorm
from pointcept.ops.sparse import VoxelSet
from pointcept.structures import PointBatch

CONDITIONS = ("ScanNet", "S3DIS", "Structured3D")


def voxels_of(counts: list[int]) -> VoxelSet:
    batch = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    grid = torch.stack([torch.arange(len(batch))] * 3, 1)
    return VoxelSet.from_points(grid, batch, len(counts))[0]


@pytest.mark.parametrize("condition", [(0, 2, 1, 0), (1, 1, 1, 1)])
def test_every_cloud_is_normalised_by_the_norm_of_its_data_set(condition):
    torch.manual_seed(0)
    norm = PromptNorm(4, nn.BatchNorm1d, 3)
    features, counts = torch.randn(12, 4), [5, 2, 0, 5]
    parts = features.split(counts)
    result = norm(features, Prompt(condition, None), voxels_of(counts))
    present = {index for index, count in zip(condition, counts) if count}
    for index in present:
        mine = [i for i, c in enumerate(condition) if c == index and counts[i]]
        rows = torch.cat([parts[i] for i in mine])
        expected = (rows - rows.mean(0)) / (rows.var(0, correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(torch.cat([result.split(counts)[i] for i in mine]), expected)
        torch.testing.assert_close(norm.norm[index].running_mean, 0.1 * rows.mean(0))
    unused = set(range(3)) - present
    assert all(norm.norm[index].num_batches_tracked == 0 for index in unused)


def test_an_absent_data_set_needs_no_voxels():
    norm = PromptNorm(4, nn.BatchNorm1d, 3)
    result = norm(torch.randn(5, 4), Prompt((0, 1), None), voxels_of([5, 0]))
    assert result.shape == (5, 4) and norm.norm[1].num_batches_tracked == 0
    with pytest.raises(ValueError, match="at least two voxels"):
        norm(torch.randn(6, 4), Prompt((0, 1), None), voxels_of([5, 1]))
    assert norm.eval()(torch.randn(0, 4), Prompt((0, 1), None), voxels_of([0, 0])).shape == (0, 4)


def test_shift_and_scale_come_from_the_context_of_the_cloud():
    torch.manual_seed(0)
    norm = PromptNorm(3, nn.LayerNorm, 2, decouple=False, context_channels=5)
    features, context = torch.randn(7, 3), torch.randn(2, 5)
    result = norm(features, Prompt((0, 1), context), voxels_of([4, 3]))
    shift, scale = norm.modulation(context).chunk(2, dim=1)
    plain = nn.functional.layer_norm(features, (3,))
    expected = torch.cat([plain[:4] * (1 + scale[0]) + shift[0], plain[4:] * (1 + scale[1]) + shift[1]])
    torch.testing.assert_close(result, expected)


def test_zero_initialised_modulation_is_the_identity():
    make_norm = PromptNormFactory(nn.LayerNorm, 2, context_channels=5, zero_init=True)
    features = torch.randn(7, 3)
    result = make_norm(3)(features, Prompt((1, 0), torch.randn(2, 5)), voxels_of([4, 3]))
    torch.testing.assert_close(result, nn.functional.layer_norm(features, (3,)))
    assert isinstance(PromptNormFactory(nn.LayerNorm)(3), nn.LayerNorm), "without conditions the norm is ordinary"


def test_synchronised_norms_of_all_data_sets_are_called_on_every_process(monkeypatch):
    monkeypatch.setattr("pointcept.models.backbones.prompt_norm.get_world_size", lambda: 2)
    norm, called = PromptNorm(4, SyncBatchNorm, 3), []
    for index, each in enumerate(norm.norm):
        monkeypatch.setattr(each, "forward", lambda x, index=index: called.append((index, len(x))) or x)
    features = torch.randn(6, 4)
    assert torch.equal(norm(features, Prompt((1, 1), None), voxels_of([4, 2])), features)
    assert called == [(0, 0), (1, 6), (2, 0)]


def make_points(condition: tuple[str, ...]) -> PointBatch:
    grid = torch.cartesian_prod(*[torch.arange(6)] * 3)
    offset = torch.tensor([100, 216]) if len(condition) == 2 or not condition else torch.tensor([216])
    return PointBatch(grid.float(), grid, torch.randn(216, 3), offset, condition=condition)


def test_names_become_positions_and_context_vectors():
    table = nn.Embedding(3, 4)
    prompt = make_prompt(make_points(("Structured3D", "ScanNet")), CONDITIONS, table)
    assert prompt.condition == (2, 0) and torch.equal(prompt.context, table.weight[[2, 0]])
    assert make_prompt(make_points(("S3DIS",)), CONDITIONS, None).context is None


def test_messages():
    with pytest.raises(ValueError, match=r"PointBatch.condition\): got none for 2 clouds. Set condition="):
        make_prompt(make_points(()), CONDITIONS, None)
    with pytest.raises(ValueError, match=r"built for \(ScanNet, S3DIS, Structured3D\): got 'Scannet'. Did you mean"):
        make_prompt(make_points(("Scannet",)), CONDITIONS, None)


@pytest.mark.parametrize(("decouple", "adaptive"), [(True, True), (True, False), (False, True)])
def test_a_sparse_unet_with_prompts_mixes_data_sets(decouple, adaptive):
    torch.manual_seed(0)
    network = PromptSparseUNet(
        3,
        base_channels=4,
        channels=(4, 6, 6, 4),
        layers=(1, 1, 1, 1),
        norm_decouple=decouple,
        norm_adaptive=adaptive,
        zero_init=False,
    )
    points = make_points(("Structured3D", "ScanNet"))
    network(points).feat.square().sum().backward()
    grads = {name: parameter.grad for name, parameter in network.named_parameters() if "bns.1" not in name}
    assert all(grad is not None and grad.isfinite().all() for grad in grads.values())
    network.eval()
    with torch.no_grad():
        mixed = network(points).feat
        same = network(points.replace(condition=("Structured3D", "Structured3D"))).feat
    torch.testing.assert_close(mixed[:100], same[:100])
    assert not torch.allclose(mixed[100:], same[100:])
