"""The whole chain against known surfaces: rays, sampling, weights, losses and gradients have to agree to pass."""

import pytest
import torch
from scipy.spatial import cKDTree

from pointcept.rendering import (
    DepthGuidedSampler,
    EikonalLoss,
    FreeSpaceLoss,
    NeuSRenderer,
    RaySampler,
    SDFField,
    SDFLoss,
)
from pointcept.rendering.rays import camera_rays
from pointcept.structures import CameraBatch, FeatureVolume
from pointcept.visualization import extract_surface
from pointcept.visualization.mesh import keep_vertices
from pointcept.visualization.trimming import visible

EXTENT_M, VOXELS = 2.0, 16
VOXEL_M = EXTENT_M / VOXELS
BOX = torch.tensor([[[-1.0, -1, -1], [1, 1, 1]]]) * EXTENT_M / 2
BAND_M = 0.15
VIEWS, PIXELS, STEPS = 40, 32, 150


def sphere(position: torch.Tensor) -> torch.Tensor:
    return position.norm(dim=-1) - 0.6


def cuboid(position: torch.Tensor, half_size: tuple[float, float, float] = (0.6, 0.45, 0.5)) -> torch.Tensor:
    outside = position.abs() - torch.tensor(half_size)
    return outside.clamp(min=0).norm(dim=-1) + outside.amax(dim=-1).clamp(max=0)


def room(position: torch.Tensor) -> torch.Tensor:
    """Walls around 1.6 x 1.6 x 1.4 m, a box in a corner and a ball in the air."""
    walls = -cuboid(position, (0.8, 0.8, 0.7))
    furniture = cuboid(position - torch.tensor([0.5, 0.55, -0.5]), (0.3, 0.25, 0.2))
    ball = (position - torch.tensor([-0.4, -0.3, 0.0])).norm(dim=-1) - 0.22
    return torch.minimum(walls, torch.minimum(furniture, ball))


def look_at(origins: torch.Tensor, goals: torch.Tensor) -> torch.Tensor:
    forward = torch.nn.functional.normalize(goals - origins, dim=-1)
    right = torch.nn.functional.normalize(torch.cross(forward, torch.tensor([[0.0, 0.1, 1.0]]), dim=-1), dim=-1)
    rotation = torch.stack((right, torch.cross(forward, right, dim=-1), forward), dim=1)
    extrinsic = torch.eye(4).repeat(len(origins), 1, 1)
    extrinsic[:, :3, :3] = rotation
    extrinsic[:, :3, 3] = -(rotation @ origins[..., None])[..., 0]
    return extrinsic


def photograph(surface, extrinsic: torch.Tensor, focal_px: float) -> CameraBatch:
    """Views with the depth at which their rays meet the surface, found by sphere tracing."""
    middle = (PIXELS - 1) / 2
    intrinsic = torch.tensor([[focal_px, 0, middle], [0, focal_px, middle], [0, 0, 1]]).expand(VIEWS, 3, 3)
    row, column = torch.meshgrid(torch.arange(float(PIXELS)), torch.arange(float(PIXELS)), indexing="ij")
    pixel = torch.stack((column, row), dim=-1).reshape(1, -1, 2).expand(VIEWS, -1, 2)
    origin, direction, distance_per_depth = camera_rays(intrinsic, extrinsic, pixel)
    distance = torch.zeros(VIEWS, PIXELS**2)
    for _ in range(100):
        distance = distance + surface(origin[:, None] + distance[..., None] * direction)
    hit = surface(origin[:, None] + distance[..., None] * direction).abs() < 1e-3
    depth = torch.where(hit, distance / distance_per_depth, torch.zeros_like(distance))
    return CameraBatch(
        image=torch.zeros(1, VIEWS, 3, PIXELS, PIXELS),
        depth=depth.view(1, VIEWS, PIXELS, PIXELS),
        intrinsic=intrinsic[None],
        extrinsic=extrinsic[None],
        size_px=torch.tensor([PIXELS, PIXELS]).expand(1, VIEWS, 2),
    )


def views(surface) -> CameraBatch:
    generator = torch.Generator().manual_seed(0)
    away = torch.nn.functional.normalize(torch.randn(VIEWS, 3, generator=generator), dim=-1)
    if surface is room:
        return photograph(surface, look_at(0.3 * away * torch.tensor([1.0, 1.0, 0.5]), away), focal_px=PIXELS / 2.5)
    return photograph(surface, look_at(1.7 * away, torch.zeros(VIEWS, 3)), focal_px=1.1 * PIXELS)


@pytest.mark.parametrize("surface", [sphere, cuboid, room])
def test_a_known_surface_is_found_to_half_a_voxel(surface):
    torch.manual_seed(0)
    cameras = views(surface)
    field = SDFField(8, hidden_channels=16, geometry_channels=2)
    renderer = NeuSRenderer(field, DepthGuidedSampler(8, 6, 4, band_m=BAND_M))
    features = (0.02 * torch.randn(1, 8, VOXELS, VOXELS, VOXELS)).requires_grad_()
    losses = [SDFLoss(10.0, truncation_m=BAND_M), FreeSpaceLoss(truncation_m=BAND_M), EikonalLoss(0.3)]
    ray_sampler = RaySampler(num_rays=20)
    optimizer = torch.optim.Adam([{"params": [features], "lr": 0.05}, {"params": renderer.parameters(), "lr": 5e-3}])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=[0.05, 5e-3], total_steps=STEPS)
    for step in range(STEPS):
        seed = torch.tensor([step])
        rays, targets = ray_sampler(cameras, BOX, seed)
        rendering = renderer(FeatureVolume(features, BOX), rays, seed, targets.distance)
        terms = [(loss.weight, *loss(rendering, targets, rays)) for loss in losses]
        loss = sum(weight * total / count.clamp(min=1) for weight, total, count in terms)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    axis = torch.linspace(-0.95, 0.95, 39)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).permute(2, 1, 0, 3)
    with torch.no_grad():
        sdf = field.query_sdf(FeatureVolume(features, BOX), grid.reshape(1, -1, 3)).view(grid.shape[:3])
    mesh = extract_surface(sdf.numpy(), torch.full((3,), -0.95).numpy(), torch.full((3,), 0.05).numpy())
    # What is kept reaches twice as far behind the surface as the error may be: the cut hides no error.
    mesh = keep_vertices(mesh, visible(torch.from_numpy(mesh.vertices), cameras, margin_m=VOXEL_M).numpy())
    error = surface(torch.from_numpy(mesh.vertices)).abs() / VOXEL_M
    assert error.max() < 0.5, error.sort().values[-20:]
    assert error.mean() < 0.1

    # And nothing of what was measured is missing.
    rays, targets = RaySampler(num_rays=100)(cameras, BOX, torch.tensor([0]))
    points = (rays.origins + rays.directions * targets.distance[..., None])[rays.valid]
    assert len(points) > 1000
    assert cKDTree(mesh.vertices).query(points.numpy())[0].max() < VOXEL_M
