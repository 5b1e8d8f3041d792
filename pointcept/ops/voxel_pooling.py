"""From points to dense voxels: the box around each cloud and the mean of the points in each voxel."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pointcept.structures import FeatureVolume, PointBatch
from pointcept.structures.volume import axis_values


def fit_boxes(
    points: PointBatch, grid_shape: tuple[int, int, int], *, padding_m: float, cubes: bool = True
) -> Float[Tensor, "_B 2 3"]:
    """A box of cubic voxels around each cloud, centred on it in x and y, beginning ``padding_m`` below it in z.

    The voxel edge is the smallest with which the cloud and the padding fit into the grid. An empty cloud gets a box
    around the unit cube.

    Args:
        points: The clouds, metres.
        grid_shape: Voxels along x, y and z.
        padding_m: Free space on every side, metres.
        cubes: Voxels are cubes; otherwise the box ends at the padding along every axis.
    """
    index = points.batch_index[:, None].expand(-1, 3)
    limits = torch.full((points.batch_size, 3), torch.inf, dtype=points.coord.dtype, device=points.coord.device)
    lower = limits.scatter_reduce(0, index, points.coord, "amin")
    upper = (-limits).scatter_reduce(0, index, points.coord, "amax")
    return boxes_around(lower, upper, grid_shape, padding_m=padding_m, cubes=cubes)


def boxes_around(
    lower: Float[Tensor, "_B 3"],
    upper: Float[Tensor, "_B 3"],
    grid_shape: tuple[int, int, int],
    *,
    padding_m: float,
    cubes: bool = True,
) -> Float[Tensor, "_B 2 3"]:
    """Boxes as :func:`fit_boxes` makes them, around ``lower`` to ``upper``; infinite bounds mean an empty cloud.

    Args:
        lower: Smallest x, y and z of each scene, metres.
        upper: Largest.
        grid_shape: Voxels along x, y and z.
        padding_m: Free space on every side, metres.
        cubes: Voxels are cubes; otherwise the box ends at the padding along every axis.
    """
    empty = ~torch.isfinite(lower)
    lower = torch.where(empty, torch.zeros_like(lower), lower) - padding_m
    upper = torch.where(empty, torch.ones_like(upper), upper) + padding_m
    if not cubes:
        return torch.stack((lower, upper), dim=1)
    shape = axis_values(grid_shape, lower)
    extent = ((upper - lower) / shape).amax(dim=-1, keepdim=True) * shape
    start = 0.5 * (lower + upper - extent)
    start = torch.cat((start[:, :2], lower[:, 2:]), dim=-1)
    return torch.stack((start, start + extent), dim=1)


def check_box(box: Sequence[float | int] | None) -> None:
    """Refuse a fixed scene box (smallest x, y, z, largest x, y, z; metres) without extent; None is none.

    Raises:
        ValueError: it is no box.
    """
    if box is not None and (len(box) != 6 or not all(low < high for low, high in zip(box[:3], box[3:], strict=True))):
        raise ValueError(f"box must be (x_min, y_min, z_min, x_max, y_max, z_max), metres: got {tuple(box)}.")


def fixed_boxes(box: Sequence[float | int], batch_size: int, like: Tensor) -> Float[Tensor, "_B 2 3"]:
    """The same box for every scene, with the type and device of ``like``."""
    return like.new_tensor(box).view(1, 2, 3).expand(batch_size, -1, -1).contiguous()


def voxel_rows(
    coord: Float[Tensor, "N 3"],
    batch_index: Int[Tensor, "N"],
    box: Float[Tensor, "_B 2 3"],
    grid_shape: tuple[int, int, int],
) -> tuple[Int[Tensor, "N"], Bool[Tensor, "N"]]:
    """The voxel of each point, numbered in the order b, z, y, x, the nearest for points outside; and whether it is in.

    Args:
        coord: Position of each point, metres.
        batch_index: Scene of each point.
        box: Outer faces of the grid of each scene, metres.
        grid_shape: Voxels along x, y and z.
    """
    size_x, size_y, size_z = grid_shape
    shape = axis_values(grid_shape, coord)
    voxel = (box[:, 1] - box[:, 0]) / shape
    cell = ((coord - box[:, 0].index_select(0, batch_index)) / voxel.index_select(0, batch_index)).floor()
    inside = ((cell >= 0) & (cell < shape)).all(dim=-1)
    x, y, z = cell.clamp(min=0).minimum(shape - 1).long().unbind(-1)
    return ((batch_index * size_z + z) * size_y + y) * size_x + x, inside


def mean_pool(
    feat: Float[Tensor, "N _C"],
    coord: Float[Tensor, "N 3"],
    batch_index: Int[Tensor, "N"],
    box: Float[Tensor, "_B 2 3"],
    grid_shape: tuple[int, int, int],
) -> FeatureVolume:
    """Mean feature of the points in each voxel; empty voxels are zero, points outside the box are left out.

    Args:
        feat: Feature of each point.
        coord: Position of each point, metres.
        batch_index: Scene of each point.
        box: Outer faces of the grid of each scene, metres.
        grid_shape: Voxels along x, y and z.
    """
    size_x, size_y, size_z = grid_shape
    batch_size, num_voxels = box.shape[0], size_x * size_y * size_z
    row, inside = voxel_rows(coord, batch_index, box, grid_shape)
    # Points outside go to one more row, which is dropped.
    row, order = torch.where(inside, row, batch_size * num_voxels).sort(stable=True)
    starts = torch.searchsorted(row, torch.arange(batch_size * num_voxels + 1, device=row.device))
    rows = F.embedding_bag(order, feat, starts, mode="mean")[:-1]
    features = rows.view(batch_size, size_z, size_y, size_x, -1).permute(0, 4, 1, 2, 3)
    occupied = (torch.diff(starts) > 0).view(batch_size, size_z, size_y, size_x)
    return FeatureVolume(features=features, box=box, occupied=occupied)
