"""The scenes that the benchmarks of backbones run on."""

import numpy as np
import torch
from torch import nn

from pointcept.structures import PointBatch

IN_CHANNELS, NUM_VOXELS, VOXEL_SIZE = 6, 60_000, 0.02


def make_points() -> PointBatch:
    """One furnished room, scanned with noise, at about one point per voxel face; always the same one."""
    rng = np.random.default_rng(0)
    coord = scan_room(rng)
    grid_coord = np.unique(np.floor((coord - coord.min(0)) / VOXEL_SIZE).astype(np.int64), axis=0)
    if len(grid_coord) < NUM_VOXELS:
        raise RuntimeError(f"The room must fill {NUM_VOXELS} voxels: got {len(grid_coord)}.")
    # The indices are sorted by x first, so this cuts the room's far end off.
    grid_coord = torch.from_numpy(grid_coord[:NUM_VOXELS])
    feat = torch.from_numpy(rng.standard_normal((NUM_VOXELS, IN_CHANNELS)).astype(np.float32))
    return PointBatch(
        coord=grid_coord.float() * VOXEL_SIZE,
        grid_coord=grid_coord,
        feat=feat,
        offset=torch.tensor([NUM_VOXELS]),
    )


def scan_room(rng: np.random.Generator) -> np.ndarray:
    """Points on the floor, the walls and eight boxes of a room that is not aligned with the grid, metres."""
    length, width, height = 2.8, 2.4, 1.4
    axes = np.diag([length, width, height])
    faces = [(np.zeros(3), axes[0], axes[1])]
    faces += [(corner, side, axes[2]) for corner, side in ((axes[0] * 0, axes[0]), (axes[1], axes[0]))]
    faces += [(corner, side, axes[2]) for corner, side in ((axes[0] * 0, axes[1]), (axes[0], axes[1]))]
    for _ in range(8):
        size, angle = rng.uniform([0.3, 0.3, 0.3], [0.7, 0.6, 0.9]), rng.uniform(0, np.pi)
        side_a = size[0] * np.array([np.cos(angle), np.sin(angle), 0])
        side_b = size[1] * np.array([-np.sin(angle), np.cos(angle), 0])
        up = np.array([0, 0, size[2]])
        corner = np.array([rng.uniform(0.4, length - 0.4), rng.uniform(0.4, width - 0.4), 0]) - (side_a + side_b) / 2
        faces += [
            (corner, side_a, up),
            (corner + side_b, side_a, up),
            (corner, side_b, up),
            (corner + side_a, side_b, up),
        ]
        faces.append((corner + up, side_a, side_b))
    cloud = []
    for corner, side_a, side_b in faces:
        normal = np.cross(side_a, side_b)
        area = np.linalg.norm(normal)
        share = rng.random((int(1.9 * area / VOXEL_SIZE**2), 2))
        noise = rng.normal(0, 0.002, (len(share), 1))
        cloud.append(corner + share[:, :1] * side_a + share[:, 1:] * side_b + noise * normal / area)
    cos, sin = np.cos(0.35), np.sin(0.35)
    return np.concatenate(cloud) @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])


@torch.no_grad()
def calibrate(network: nn.Module, points: PointBatch) -> None:
    """Give batch norm the room's statistics, so that features keep their scale through the network; then evaluate."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d)]
    for norm in norms:
        norm.momentum = 1.0
    network.train()
    network(points)
    for norm in norms:
        norm.momentum = 0.01
    network.eval()


def large_batch(num_points: int) -> PointBatch:
    """Eight clouds of noisy planes, about one point per voxel, far beyond any single scan."""
    generator = torch.Generator().manual_seed(0)
    share = num_points // 8
    side = int((share / 6) ** 0.5) + 1  # of six planes, in voxels
    clouds = []
    for start in range(0, share * 8, share):
        count = min(share, num_points - start)
        flat = torch.rand(count, 2, generator=generator) * side
        height = torch.arange(count) % 6 * (side / 6) + torch.rand(count, generator=generator) * 2
        clouds.append(torch.cat([flat, height[:, None]], dim=1).long())
    grid_coord = torch.cat(clouds)
    feat = torch.randn(len(grid_coord), IN_CHANNELS, generator=generator)
    offset = torch.tensor([len(cloud) for cloud in clouds]).cumsum(0)
    return PointBatch(coord=grid_coord * VOXEL_SIZE, grid_coord=grid_coord, feat=feat, offset=offset)
