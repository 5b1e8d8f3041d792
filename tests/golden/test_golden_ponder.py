"""The way from a cloud and views to the volume and the rays, against PonderV2's."""

import re

import pytest
import torch
from golden_data import GoldenFile, golden_paths, load_golden, relative_error

from pointcept.models.backbones import SparseUNet
from pointcept.models.encoders import ProjectionUNet
from pointcept.ops.voxel_pooling import mean_pool
from pointcept.rendering.rays import make_rays
from pointcept.structures import CameraBatch, PointBatch

PATHS = golden_paths("ponder_indoor")
pytestmark = pytest.mark.golden


def points_of(golden: GoldenFile) -> PointBatch:
    return PointBatch(golden["input.coord"], golden["input.grid_coord"], golden["input.feat"], golden["input.offset"])


def unit_cubes(points: PointBatch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Centre of the floor and longest edge of each cloud's box, which the reference pads by 1e-5 m."""
    cubes = []
    for index in range(points.batch_size):
        cloud = points.coord[points.batch_index == index]
        low, high = cloud.amin(0) - 1e-5, cloud.amax(0) + 1e-5
        centre = torch.cat(((low + high)[:2] / 2, low[2:]))
        cubes.append((centre, (high - low).max()))
    return cubes


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_backbone(path):
    golden = load_golden(path)
    state = golden.group("state.backbone")
    stages = len({name.split(".")[1] for name in state if name.startswith("enc.")})
    names = [f"enc.{stage}" for stage in range(stages)] + [f"dec.{stage}" for stage in reversed(range(stages))]
    backbone = SparseUNet(
        in_channels=state["conv_input.0.weight"].shape[-1],
        base_channels=state["conv_input.0.weight"].shape[0],
        channels=tuple(state[f"{name}.block0.conv2.weight"].shape[0] for name in names),
        layers=tuple(len({key for key in state if re.match(rf"{name}\.block\d+\.bn1\.bias", key)}) for name in names),
    ).eval()
    incompatible = backbone.load_state_dict(state, strict=False)
    assert not incompatible.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in incompatible.missing_keys)
    with torch.no_grad():
        found = backbone(points_of(golden)).feat
    assert relative_error(found, golden["output.backbone"]) < 1e-4


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_pooled_volume(path):
    golden = load_golden(path)
    points, expected = points_of(golden), golden["output.volume_pooled"]
    grid_size, grid_shape = float(golden.arguments["grid_size"]), golden.arguments["grid_shape"]
    shape = torch.tensor(grid_shape)
    positions, boxes, cells = [], [], []
    for index, (centre, edge) in enumerate(unit_cubes(points)):
        metric = points.coord[points.batch_index == index] - centre + torch.tensor([edge / 2, edge / 2, 0.0])
        metric = metric.clamp(1e-5 * edge, (1 - 1e-5) * edge)
        # The reference divides a cube of whole input cells, one more than the cloud spans, into every axis alike.
        lattice = metric // grid_size
        resolution = float((metric.amax(0) // grid_size - metric.amin(0) // grid_size).max()) + 2
        boxes.append(torch.tensor([[0.0, 0, 0], [resolution] * 3]))
        positions.append(lattice + 0.01)  # well inside the cell, whose lower face can be a voxel's face
        # Points that lie on a face of the lattice but for rounding may fall to either side.
        on_face = ((metric / grid_size) - (metric / grid_size).round()).abs().amin(1) < 1e-4
        neighbours = lattice[on_face, None] + torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * 3)
        cell = ((neighbours + 0.01) / (resolution / shape)).floor().long().clamp(min=0)
        cells.append(torch.cat((torch.full((*cell.shape[:2], 1), index), cell), dim=-1).reshape(-1, 4))
    volume = mean_pool(
        golden["output.backbone"], torch.cat(positions), points.batch_index, torch.stack(boxes), grid_shape
    )
    ambiguous = torch.zeros(expected.shape[0], *expected.shape[2:], dtype=torch.bool)
    scene, x, y, z = torch.cat(cells).minimum(torch.tensor([len(boxes), *grid_shape]) - 1).unbind(1)
    ambiguous[scene, z, y, x] = True
    occupied = expected.any(dim=1)
    assert (ambiguous & occupied).sum() < 0.05 * occupied.sum()
    keep = ~ambiguous[:, None].expand_as(expected)
    assert relative_error(volume.features[keep], expected[keep]) < 1e-4


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_projected_volume(path):
    golden = load_golden(path)
    state = golden.group("state.proj_net")
    levels = len({name.split(".")[1] for name in state if name.startswith("encoders.")})
    projection = ProjectionUNet(
        in_channels=golden["output.volume_pooled"].shape[1],
        out_channels=state["final_conv.weight"].shape[0],
        channels=tuple(state[f"encoders.{level}.basic_module.conv.weight"].shape[0] for level in range(levels)),
    ).eval()
    assert not projection.load_state_dict(state, strict=False).unexpected_keys
    with torch.no_grad():
        found = projection(golden["output.volume_pooled"])
    assert relative_error(found, golden["output.volume"]) < 1e-4


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_rays(path):
    golden = load_golden(path)
    depth_m = golden["input.depth"] * golden["input.depth_scale"][:, None, None, None]
    batch, views, height, width = depth_m.shape
    count = int(golden.arguments["ray_nsample"])
    measured = (depth_m > 0).flatten(2)
    order = torch.where(measured, torch.arange(height * width), height * width).sort(dim=-1).values[..., :count]
    pixel = torch.stack((order % width, order // width), dim=-1)
    cameras = CameraBatch(
        image=golden["input.rgb"].permute(0, 1, 4, 2, 3),
        depth=depth_m,
        intrinsic=golden["input.intrinsic"][..., :3, :3],
        extrinsic=golden["input.extrinsic"],
        size_px=torch.tensor([height, width]).expand(batch, views, 2),
    )
    cubes = unit_cubes(points_of(golden))
    scale = torch.stack([edge for _, edge in cubes])
    # The reference keeps rays that meet a cube of edge 1.1 around its unit cube, whose floor is at z = -0.5.
    centre = torch.stack([centre + torch.tensor([0, 0, edge / 2]) for centre, edge in cubes])
    box = torch.stack((centre - 0.55 * scale[:, None], centre + 0.55 * scale[:, None]), dim=1)
    rays, targets, _ = make_rays(cameras, box, pixel)
    origins = (rays.origins - centre[:, None]) / scale[:, None, None]
    valid = rays.valid
    assert valid.any()
    assert relative_error(origins, golden["rays.ray_o"]) < 1e-4
    assert relative_error(rays.directions, golden["rays.ray_d"]) < 1e-4
    color = torch.where(valid[..., None], targets.color, torch.zeros_like(targets.color))
    distance = torch.where(valid, targets.distance / scale[:, None], torch.full_like(targets.distance, -0.001))
    assert relative_error(color, golden["rays.rgb"]) < 1e-4
    assert relative_error(distance, golden["rays.depth"]) < 1e-4
