"""The whole chain against known surfaces: rays, sampling, weights, losses and gradients have to agree to pass."""

import pytest
import torch
from skimage.measure import marching_cubes

from pointcept.rendering import (
    DepthGuidedSampler,
    EikonalLoss,
    FreeSpaceLoss,
    NeuSRenderer,
    SDFField,
    SDFLoss,
)
from pointcept.rendering.rays import intersect_box
from pointcept.structures import FeatureVolume, RayBatch, RayTargets

EXTENT_M, VOXELS = 2.0, 16
STEPS, RAYS = 100, 500
VOXEL_M = EXTENT_M / VOXELS


def sphere(position: torch.Tensor) -> torch.Tensor:
    return position.norm(dim=-1) - 0.6


def cuboid(position: torch.Tensor) -> torch.Tensor:
    outside = position.abs() - torch.tensor([0.6, 0.45, 0.5])
    return outside.clamp(min=0).norm(dim=-1) + outside.amax(dim=-1).clamp(max=0)


def look_from_around(surface, count: int) -> tuple[RayBatch, RayTargets]:
    """Rays from all sides, and the distances at which they meet the surface, by sphere tracing."""
    generator = torch.Generator().manual_seed(0)
    origins = torch.nn.functional.normalize(torch.randn(1, count, 3, generator=generator), dim=-1) * 1.6
    goals = (torch.rand(1, count, 3, generator=generator) - 0.5) * 1.2
    directions = torch.nn.functional.normalize(goals - origins, dim=-1)
    distance = torch.zeros(1, count)
    for _ in range(200):
        distance = distance + surface(origins + distance[..., None] * directions)
    hit = surface(origins + distance[..., None] * directions).abs() < 1e-3
    box = torch.tensor([[[-1.0, -1, -1], [1, 1, 1]]]) * EXTENT_M / 2
    near, far, valid = intersect_box(origins, directions, box, 0.01)
    rays = RayBatch(origins=origins, directions=directions, near=near, far=far, valid=valid & hit)
    return rays, RayTargets(color=torch.zeros(1, count, 3), distance=torch.where(hit, distance, torch.zeros(1, count)))


@pytest.mark.parametrize("surface", [sphere, cuboid])
def test_a_known_surface_is_found_to_half_a_voxel(surface):
    torch.manual_seed(0)
    rays, targets = look_from_around(surface, STEPS * RAYS)
    assert rays.valid.float().mean() > 0.7
    field = SDFField(8, hidden_channels=16, geometry_channels=2)
    renderer = NeuSRenderer(field, DepthGuidedSampler(6, 4, 4, band_m=0.2))
    features = (0.02 * torch.randn(1, 8, VOXELS, VOXELS, VOXELS)).requires_grad_()
    box = torch.tensor([[[-1.0, -1, -1], [1, 1, 1]]]) * EXTENT_M / 2
    losses = [SDFLoss(weight=10.0, truncation_m=0.2), FreeSpaceLoss(truncation_m=0.2), EikonalLoss(weight=0.1)]
    optimizer = torch.optim.Adam([{"params": [features], "lr": 0.05}, {"params": renderer.parameters(), "lr": 5e-3}])
    for step in range(STEPS):
        part = slice(step * RAYS, (step + 1) * RAYS)  # new rays in every step, so that no part stays unseen
        some = RayBatch(**{name: value[:, part] for name, value in vars(rays).items()})
        seen = RayTargets(color=targets.color[:, part], distance=targets.distance[:, part])
        rendering = renderer(FeatureVolume(features, box), some, torch.tensor([step]), seen.distance)
        terms = [(loss.weight, *loss(rendering, seen, some)) for loss in losses]
        loss = sum(weight * total / count.clamp(min=1) for weight, total, count in terms)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    axis = torch.linspace(-0.9, 0.9, 46)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    with torch.no_grad():
        sdf = field.query_sdf(FeatureVolume(features, box), grid.reshape(1, -1, 3)).view(grid.shape[:3])
    vertices, *_ = marching_cubes(sdf.numpy(), 0.0, spacing=(0.04, 0.04, 0.04))
    error = surface(torch.from_numpy(vertices.copy()).float() - 0.9).abs()
    near = error < 2 * VOXEL_M  # further inside the object no ray is measured, and anything may be there
    assert near.float().mean() > 0.9
    assert error[near].mean() < 0.25 * VOXEL_M and error[near].quantile(0.95) < 0.5 * VOXEL_M
