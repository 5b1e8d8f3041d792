"""Trilinear reads from feature volumes, and their derivative in space, differentiable to any order.

With weights w and rows V, the form T(V, w, f) = sum_m sum_c w[m, c] <V[index[m, c]], f[m]> over samples m and their
corners c is linear in each argument. Its three partial derivatives are the three operations here: ``read`` (by f),
``splat`` (by V) and ``corner_dot`` (by w). The backward of each consists of the other two, which closes the family, and
no operation needs atomics or a second derivative of an interpolation kernel.
"""

import dataclasses
import functools

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from pointcept.structures import FeatureVolume
from pointcept.structures.volume import axis_values


@dataclasses.dataclass(frozen=True)
class Corners:
    """The 8 voxels around each of M positions.

    Attributes:
        index: Row of the voxel in ``FeatureVolume.rows()``.
        weight: Trilinear weight; the 8 of a position sum to 1 within the outermost voxel centres.
        slope: Derivative of the weight with respect to the position, 1/metre.
        num_rows: Number of rows of the volume.
    """

    index: Int[Tensor, "M 8"]
    weight: Float[Tensor, "M 8"]
    slope: Float[Tensor, "M 8 3"]
    num_rows: int

    @functools.cached_property
    def by_row(self) -> tuple[Int[Tensor, "_E"], Int[Tensor, "_V"]]:
        """Entries (sample times 8 plus corner) sorted by row, and where each row's entries begin."""
        rows, entries = torch.sort(self.index.reshape(-1), stable=True)
        starts = torch.searchsorted(rows, torch.arange(self.num_rows, device=rows.device))
        return entries, starts


def find_corners(volume: FeatureVolume, positions: Float[Tensor, "B M 3"]) -> Corners:
    """The voxels whose values a trilinear read at ``positions`` (metres, world frame) combines.

    Outside the grid features are zero, so values fade to zero within half a voxel beyond the outermost centres (torch's
    ``padding_mode="zeros"``). Weights and slopes are differentiable with respect to the positions almost everywhere.

    Raises:
        ValueError: volume and positions differ in batch size or device.
    """
    if positions.shape[0] != volume.batch_size or positions.device != volume.box.device:
        raise ValueError(
            f"positions and volume must agree in batch size and device: got {positions.shape[0]} on {positions.device} "
            f"and {volume.batch_size} on {volume.box.device}. Move both to one device."
        )
    shape = axis_values(volume.grid_shape, positions)
    voxel = volume.voxel_size[:, None]
    grid = (positions - (volume.box[:, None, 0] + 0.5 * voxel)) / voxel
    lower = grid.detach().floor().clamp(min=-2).minimum(shape)
    fraction = (grid - lower)[:, :, None]

    number = torch.arange(8, device=positions.device)
    side = torch.stack((number & 1, (number >> 1) & 1, number >> 2), dim=-1)  # (8, 3), 1 = the upper neighbour
    corner = lower[:, :, None] + side  # (B, M, 8, 3)
    inside = ((corner >= 0) & (corner < shape)).all(dim=-1).to(grid.dtype)
    x, y, z = torch.where(side.bool(), fraction, 1 - fraction).unbind(-1)
    others = torch.stack((y * z, x * z, x * y), dim=-1)
    slope = (2 * side - 1) / voxel[:, :, None] * others * inside[..., None]
    column, row, layer = corner.clamp(min=0).minimum(shape - 1).long().unbind(-1)
    size_x, size_y, size_z = volume.grid_shape
    scene = torch.arange(volume.batch_size, device=positions.device)[:, None, None]
    index = ((scene * size_z + layer) * size_y + row) * size_x + column
    return Corners(
        index=index.reshape(-1, 8),
        weight=(x * others[..., 0] * inside).reshape(-1, 8),
        slope=slope.reshape(-1, 8, 3),
        num_rows=volume.batch_size * size_x * size_y * size_z,
    )


def read(rows: Float[Tensor, "V C"], corners: Corners, weight: Float[Tensor, "M 8"]) -> Float[Tensor, "M C"]:
    """Weighted sum of the corner rows of each position: ``sum_c weight[m, c] rows[index[m, c]]``."""
    return _Read.apply(rows, weight, corners)


def splat(features: Float[Tensor, "M C"], corners: Corners, weight: Float[Tensor, "M 8"]) -> Float[Tensor, "V C"]:
    """Transpose of ``read``: adds ``weight[m, c] features[m]`` to row ``index[m, c]``."""
    return _Splat.apply(features, weight, corners)


def corner_dot(rows: Float[Tensor, "V C"], corners: Corners, features: Float[Tensor, "M C"]) -> Float[Tensor, "M 8"]:
    """Dot product of each corner row with the position's own feature: ``<rows[index[m, c]], features[m]>``."""
    return _CornerDot.apply(rows, features, corners)


def sample(volume: FeatureVolume, positions: Float[Tensor, "B M 3"]) -> Float[Tensor, "B M C"]:
    """Features at ``positions`` (metres, world frame), trilinear between voxel centres."""
    corners = find_corners(volume, positions)
    return read(volume.rows(), corners, corners.weight).reshape(*positions.shape[:2], volume.num_channels)


def spatial_gradient(
    rows: Float[Tensor, "V C"], corners: Corners, feature_gradient: Float[Tensor, "M C"]
) -> Float[Tensor, "M 3"]:
    """Gradient in space of a scalar whose gradient with respect to the read feature is known, per metre.

    With f(x) = read(rows, weight(x)) and s = S(f), ds/dx = sum_c slope_c <rows_c, dS/df>: bilinear in the rows and in
    dS/df, so that its backward needs no second derivative of the interpolation.
    """
    return torch.einsum("mc,mcd->md", corner_dot(rows, corners, feature_gradient), corners.slope)


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor, weight: Tensor, corners: Corners) -> Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.corners = corners
        return F.embedding_bag(corners.index, rows, per_sample_weights=weight.contiguous(), mode="sum")

    @staticmethod
    def backward(ctx, grad: Tensor):
        rows, weight = ctx.saved_tensors
        grad = grad.contiguous()
        rows_grad = splat(grad, ctx.corners, weight) if ctx.needs_input_grad[0] else None
        weight_grad = corner_dot(rows, ctx.corners, grad) if ctx.needs_input_grad[1] else None
        return rows_grad, weight_grad, None


class _Splat(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features: Tensor, weight: Tensor, corners: Corners) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.corners = corners
        entries, starts = corners.by_row
        return F.embedding_bag(
            entries // 8,
            features.contiguous(),
            starts,
            per_sample_weights=weight.reshape(-1).index_select(0, entries),
            mode="sum",
        )

    @staticmethod
    def backward(ctx, grad: Tensor):
        features, weight = ctx.saved_tensors
        grad = grad.contiguous()
        features_grad = read(grad, ctx.corners, weight) if ctx.needs_input_grad[0] else None
        weight_grad = corner_dot(grad, ctx.corners, features) if ctx.needs_input_grad[1] else None
        return features_grad, weight_grad, None


class _CornerDot(torch.autograd.Function):
    _CHUNK = 8192  # positions whose corner rows are gathered at a time

    @staticmethod
    def forward(ctx, rows: Tensor, features: Tensor, corners: Corners) -> Tensor:
        ctx.save_for_backward(rows, features)
        ctx.corners = corners
        result = features.new_empty(features.shape[0], 8)
        for start in range(0, features.shape[0], _CornerDot._CHUNK):
            part = slice(start, start + _CornerDot._CHUNK)
            gathered = rows.index_select(0, corners.index[part].reshape(-1)).view(-1, 8, rows.shape[1])
            torch.bmm(gathered, features[part, :, None], out=result[part, :, None])
        return result

    @staticmethod
    def backward(ctx, grad: Tensor):
        rows, features = ctx.saved_tensors
        grad = grad.contiguous()
        rows_grad = splat(features, ctx.corners, grad) if ctx.needs_input_grad[0] else None
        features_grad = read(rows, ctx.corners, grad) if ctx.needs_input_grad[1] else None
        return rows_grad, features_grad, None
