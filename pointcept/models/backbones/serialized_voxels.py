"""The voxels of a batch at one resolution, with the curves through them and their cut into attention windows."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pointcept.models.backbones.prompt_norm import Prompt
from pointcept.ops.attention import Windows, make_windows
from pointcept.ops.serialization import serialize
from pointcept.ops.sparse import VoxelSet


class SerializedVoxels:
    """Voxels and the curves through them. Orders and windows are made on first use and shared by all layers.

    Attributes:
        voxels: The voxels; features have one row for each, in their order.
        codes: Sort key of each voxel along each curve.
        curves: The curve that each order of :meth:`order` follows.
        prompt: What prompt-driven norms need to know of the batch, or None.
    """

    def __init__(
        self, voxels: VoxelSet, codes: Int[Tensor, "K V"], curves: Sequence[int], prompt: Prompt | None = None
    ):
        self.voxels = voxels
        self.codes = codes
        self.curves = tuple(curves)
        self.prompt = prompt
        self.batch_index = voxels.batch_index
        self._orders: dict[int, tuple[Tensor, Tensor]] = {}
        self._windows: dict[int, Windows] = {}

    @property
    def counts(self) -> Int[Tensor, "B"]:
        """Number of voxels of each cloud."""
        ones = torch.ones_like(self.batch_index)
        return ones.new_zeros(self.voxels.batch_size).index_add(0, self.batch_index, ones)

    def order(self, index: int) -> tuple[Int[Tensor, "V"], Int[Tensor, "V"]]:
        """Voxel at each place along the curve ``curves[index]``, and place of each voxel."""
        curve = self.curves[index]
        if curve not in self._orders:
            order = torch.argsort(self.codes[curve])
            inverse = torch.empty_like(order)
            inverse[order] = torch.arange(order.shape[0], device=order.device)
            self._orders[curve] = (order, inverse)
        return self._orders[curve]

    def windows(self, size: int) -> Windows:
        """The cut of every curve into windows of ``size`` voxels."""
        if size not in self._windows:
            self._windows[size] = make_windows(self.counts, size)
        return self._windows[size]

    def pool(
        self, stride: int, curves: Sequence[int], *, orders: Sequence[str] | None
    ) -> tuple["SerializedVoxels", Int[Tensor, "V"]]:
        """Voxels of ``stride`` times the size, and the one that each voxel lies in.

        Args:
            stride: Edge of a coarse voxel, in voxels.
            curves: See the attribute.
            orders: Names of curves that are drawn anew through the coarse voxels; None continues the present ones, for
                which the stride must be a power of two.
        """
        coord = torch.div(self.voxels.coord[:, 1:], stride, rounding_mode="floor")
        coarse, parent = VoxelSet.from_points(coord, self.batch_index, self.voxels.batch_size)
        if orders is None:
            codes = self.codes.new_empty(self.codes.shape[0], len(coarse))
            codes[:, parent] = self.codes >> (3 * (stride.bit_length() - 1))
        else:
            codes = serialize(coarse.coord[:, 1:], coarse.batch_index, coarse.batch_size, orders)
        return SerializedVoxels(coarse, codes, curves, self.prompt), parent


def segment_mean(values: Float[Tensor, "V C"], segment: Int[Tensor, "V"], num_segments: int) -> Float[Tensor, "W C"]:
    """Mean of the rows of each segment; every segment has at least one."""
    total = values.new_zeros(num_segments, values.shape[1]).index_add(0, segment, values)
    count = values.new_zeros(num_segments).index_add(0, segment, values.new_ones(values.shape[0]))
    return total / count[:, None]


def segment_max(values: Float[Tensor, "V C"], segment: Int[Tensor, "V"], num_segments: int) -> Float[Tensor, "W C"]:
    """Largest value of each channel in each segment; every segment has at least one row. Ties share the gradient."""
    index = segment[:, None].expand_as(values)
    empty = values.new_zeros(num_segments, values.shape[1])
    return empty.scatter_reduce(0, index, values, "amax", include_self=False)
