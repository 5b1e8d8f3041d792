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
        slope: Derivative of the weight with respect to the position, 1/metre; None where it was not asked for.
        num_rows: Number of rows of the volume.
    """

    index: Int[Tensor, "M 8"]
    weight: Float[Tensor, "M 8"]
    slope: Float[Tensor, "M 8 3"] | None
    num_rows: int

    def __getitem__(self, part: slice) -> "Corners":
        """The corners of some of the positions."""
        slope = None if self.slope is None else self.slope[part]
        return Corners(self.index[part], self.weight[part], slope, self.num_rows)

    @functools.cached_property
    def by_row(self) -> tuple[Int[Tensor, "_E"], Int[Tensor, "_V"], Int[Tensor, "_V"] | None]:
        """Entries (sample times 8 plus corner) sorted by row, where each row's entries begin, and which rows these are.

        On a CPU only the rows that occur. Elsewhere their number would have to be waited for: there all rows, and None.
        """
        narrow = torch.int32 if self.num_rows < 2**31 else torch.int64
        rows, entries = torch.sort(self.index.reshape(-1).to(narrow), stable=True)
        if rows.device.type != "cpu":
            every = torch.arange(self.num_rows, device=rows.device, dtype=rows.dtype)
            return entries, torch.searchsorted(rows, every), None
        touched, counts = torch.unique_consecutive(rows, return_counts=True)
        return entries, counts.cumsum(0) - counts, touched.long()

    def compact(self) -> tuple[Int[Tensor, "_T"], "Corners"]:
        """The rows that occur, and the same corners counted within them: ``rows[touched]`` takes the place of ``rows``.

        For a piece of work that touches few rows, so that its gradient is no larger than those. It needs a CPU.
        """
        entries, starts, touched = self.by_row
        counts = torch.diff(starts, append=starts.new_tensor([entries.shape[0]]))
        place = torch.repeat_interleave(torch.arange(touched.shape[0]), counts)
        index = torch.empty_like(entries).scatter_(0, entries, place).view(-1, 8)
        local = Corners(index, self.weight, self.slope, touched.shape[0])
        local.__dict__["by_row"] = (entries, starts, torch.arange(touched.shape[0]))  # the order has not changed
        return touched, local

    def half_rows(self, half: int) -> "Corners":
        """The same corners in rows that were cut in two: the halves of row i are now rows 2 i and 2 i + 1."""
        return Corners(self.index * 2 + half, self.weight, self.slope, self.num_rows * 2)


def find_corners(volume: FeatureVolume, positions: Float[Tensor, "B M 3"], *, with_slope: bool = True) -> Corners:
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
    # Positions lie along the last dimension until the end: short last dimensions are slow.
    size = axis_values(volume.grid_shape, positions)[:, None, None]
    voxel = volume.voxel_size
    grid = ((positions - (volume.box[:, 0] + 0.5 * voxel)[:, None]) / voxel[:, None]).permute(2, 0, 1).contiguous()
    lower = grid.detach().floor().clamp(min=-2).minimum(size)
    fraction = grid - lower
    voxels = torch.stack((lower, lower + 1))  # the two voxels of each axis: (2, 3, B, M)
    inside = ((voxels >= 0) & (voxels < size)).to(grid.dtype)
    x, y, z = (torch.stack((1 - fraction, fraction)) * inside).unbind(1)
    slope = None
    if with_slope:
        by_x, by_y, by_z = (torch.stack((-inside[0], inside[1])) / voxel.T[:, :, None]).unbind(1)
        slope = torch.stack((_products(z, y, by_x), _products(z, by_y, x), _products(by_z, y, x))).permute(2, 1, 0)
    column, row, layer = voxels.clamp(min=0).minimum(size - 1).long().unbind(1)
    size_x, size_y, size_z = volume.grid_shape
    layer = layer + torch.arange(volume.batch_size, device=positions.device)[:, None] * size_z
    index = ((layer[:, None] * size_y + row)[:, :, None] * size_x + column).reshape(8, -1)
    return Corners(
        index=index.T.contiguous(),
        weight=_products(z, y, x).T.contiguous(),
        slope=slope,
        num_rows=volume.batch_size * size_x * size_y * size_z,
    )


def _products(z: Float[Tensor, "2 B M"], y: Float[Tensor, "2 B M"], x: Float[Tensor, "2 B M"]) -> Float[Tensor, "8 _P"]:
    return ((z[:, None] * y)[:, :, None] * x).reshape(8, -1)


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
        # Detached: where gradients are wanted embedding_bag prepares for a backward pass that is not its own.
        weight = weight.detach().contiguous()
        return F.embedding_bag(corners.index, rows.detach(), per_sample_weights=weight, mode="sum")

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
        entries, starts, touched = corners.by_row
        sums = F.embedding_bag(
            entries >> 3,
            features.detach().contiguous(),
            starts,
            per_sample_weights=weight.detach().reshape(-1).index_select(0, entries),
            mode="sum",
        )
        if touched is None or touched.shape[0] == corners.num_rows:
            return sums
        return sums.new_zeros(corners.num_rows, sums.shape[1]).index_copy_(0, touched, sums)

    @staticmethod
    def backward(ctx, grad: Tensor):
        features, weight = ctx.saved_tensors
        grad = grad.contiguous()
        features_grad = read(grad, ctx.corners, weight) if ctx.needs_input_grad[0] else None
        weight_grad = corner_dot(grad, ctx.corners, features) if ctx.needs_input_grad[1] else None
        return features_grad, weight_grad, None


class _CornerDot(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor, features: Tensor, corners: Corners) -> Tensor:
        ctx.save_for_backward(rows, features)
        ctx.corners = corners
        count = features.shape[0]
        # The derivative of a weighted bag with respect to its weights is this product, and gathers nothing.
        bag = torch.arange(count, device=features.device)
        product = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            features.contiguous(), rows, corners.index.reshape(-1), bag * 8, bag.repeat_interleave(8), 0
        )
        return product.view(count, 8)

    @staticmethod
    def backward(ctx, grad: Tensor):
        rows, features = ctx.saved_tensors
        grad = grad.contiguous()
        rows_grad = splat(features, ctx.corners, grad) if ctx.needs_input_grad[0] else None
        features_grad = read(rows, ctx.corners, grad) if ctx.needs_input_grad[1] else None
        return rows_grad, features_grad, None
