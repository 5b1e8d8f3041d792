"""The custom operators keep torch's rules, and a network of sparse layers compiles into one graph."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pointcept.ops.backends import SPARSE
from pointcept.ops.sparse import VoxelSet, voxels
from pointcept.ops.sparse.convolution import _convolve, _convolve_backward, _work_lists
from pointcept.ops.sparse.kernel_map import _make_plan

CHECKS = ("test_schema", "test_autograd_registration", "test_faketensor")


def voxel_set(count: int) -> VoxelSet:
    grid_coord = torch.randint(0, 4, (count, 3), generator=torch.Generator().manual_seed(0))
    return VoxelSet.from_points(grid_coord, torch.arange(count) % 2, 2)[0]


@pytest.mark.parametrize("is_native", [False, True])
@pytest.mark.parametrize("count", [0, 20])
def test_the_convolution_is_a_proper_operator(channels, count, is_native):
    if is_native and not SPARSE.is_installed("native"):
        pytest.skip("there is no C compiler")
    found = voxel_set(count)
    maps = found.strided(2, 2)
    for size, forward_map, backward_map in ((3, found.neighbours(3), None), (2, maps.down, maps.up)):
        features = torch.randn(len(found), channels, requires_grad=True)
        weight = torch.randn(5, size, size, size, channels, requires_grad=True)
        identity_tap = -1 if forward_map.identity_tap is None else forward_map.identity_tap
        rest = (*_work_lists(features, forward_map, backward_map), identity_tap, is_native)
        torch.library.opcheck(_convolve, (features, weight, forward_map.num_out, *rest), test_utils=CHECKS)
        grad = torch.randn(forward_map.num_out, 5)
        inputs = (grad, features.detach(), weight.detach(), *rest, True, True)
        torch.library.opcheck(_convolve_backward, inputs, test_utils=CHECKS)


def test_finding_voxels_and_planning_are_proper_operators():
    grid_coord = torch.randint(0, 4, (20, 3), generator=torch.Generator().manual_seed(0))
    torch.library.opcheck(voxels._find_voxels, (grid_coord, torch.arange(20) % 2, 2), test_utils=CHECKS)
    table = voxel_set(20).neighbours(3).table
    torch.library.opcheck(_make_plan, (table, table.shape[1], 13, 4), test_utils=CHECKS)


# In a process of its own, where the annotations are not checked: the checks break graphs.
COMPILED = """
import torch
from pointcept import create_model
from pointcept.structures import PointBatch

torch._dynamo.config.capture_dynamic_output_shape_ops = True
torch.manual_seed(0)
model = create_model("SpUNet-v1m1", in_channels=6, num_classes=4, base_channels=8, channels=(8, 8), layers=(1, 1))
compiled = torch.compile(model, fullgraph=True, backend="eager")
for count in (60, 90):
    grid_coord = torch.randint(0, 5, (count, 3))
    points = PointBatch(grid_coord * 0.1, grid_coord, torch.randn(count, 6), torch.tensor([20, count]))
    results = []
    for network in (compiled, model):
        model.zero_grad()
        feat = network(points).feat
        feat.square().sum().backward()
        results.append([feat.detach(), *(parameter.grad.clone() for parameter in model.parameters())])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)
print("one graph")
"""


def test_a_sparse_network_compiles_into_one_graph():
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPILED], capture_output=True, text=True, cwd=root, env=environment
    )
    assert done.stdout == "one graph\n", done.stderr[-3000:]
