"""The occupied voxels of a batch at one resolution: unique, sorted, and the owner of the kernel maps between them."""

import dataclasses
import math

import torch
from jaxtyping import Int
from torch import Tensor

from pointcept.ops.sparse.kernel_map import KernelMap
from pointcept.ops.sparse.windows import MARGIN, Windows, find_windows

_MAX_KERNEL_SIZE = 2 * MARGIN + 1
_MAX_CELLS = 2**62  # half of what a key could number, so that no neighbour's key overflows


@dataclasses.dataclass(frozen=True)
class StridedMaps:
    """What a strided convolution leads to.

    Attributes:
        voxels: The coarse voxels.
        down: From fine rows to coarse rows.
        up: The same pairs from coarse rows to fine rows.
    """

    voxels: "VoxelSet"
    down: KernelMap
    up: KernelMap


class VoxelSet:
    """Occupied voxels in the order of their keys. Make it with :meth:`from_points`.

    The grid has no bounds: voxel indices may be negative and as large as 64 bits hold. Kernel maps are made on first
    use and kept, so that all layers of one resolution, forward and backward, share them.

    Attributes:
        coord: Cloud, x, y and z index of each voxel.
        batch_size: Number of clouds; clouds may have no voxel.
    """

    def __init__(self, coord: Int[Tensor, "V 4"], keys: Int[Tensor, "V"], strides: Int[Tensor, "2"], batch_size: int):
        self.coord = coord
        self.batch_size = batch_size
        self._keys = keys
        self._strides = strides
        self._neighbours: dict[int, KernelMap] = {}
        self._strided: dict[tuple, StridedMaps] = {}

    @classmethod
    def from_points(
        cls, grid_coord: Int[Tensor, "N 3"], batch_index: Int[Tensor, "N"], batch_size: int
    ) -> tuple["VoxelSet", Int[Tensor, "N"]]:
        """The voxels that points lie in, and the voxel of each point.

        Points may come in any order and share voxels. Each cloud is packed relative to its own minimum, so only the
        extent of a cloud is limited, not its place. Waits for the device twice.

        Args:
            grid_coord: Voxel index of each point.
            batch_index: Cloud of each point; the points of a cloud need not lie together.
            batch_size: Number of clouds.

        Raises:
            ValueError: the coordinates are not integers, or the clouds' common extent does not fit 64-bit keys.
        """
        if grid_coord.is_floating_point():
            raise ValueError(
                f"Voxel indices must be integers: got {grid_coord.dtype}. Divide coordinates by the voxel size and "
                "round down first."
            )
        coord, keys, voxel_of_point, strides = _find_voxels(grid_coord, batch_index, batch_size)
        return cls(coord, keys, strides, batch_size), voxel_of_point

    def __len__(self) -> int:
        return self.coord.shape[0]

    @property
    def batch_index(self) -> Int[Tensor, "V"]:
        """Cloud that each voxel belongs to."""
        return self.coord[:, 0]

    def neighbours(self, kernel_size: int) -> KernelMap:
        """The map of a submanifold convolution: tap (i, j, k) of voxel v is the voxel at v + (i, j, k) - size // 2.

        Raises:
            ValueError: the kernel has no centre or is too large.
        """
        if kernel_size % 2 == 0 or not 1 <= kernel_size <= _MAX_KERNEL_SIZE:
            raise ValueError(
                f"A submanifold kernel must have an odd size from 1 to {_MAX_KERNEL_SIZE}, to be centred on its voxel: "
                f"got {kernel_size}. Use SparseConv3d for other sizes."
            )
        if kernel_size not in self._neighbours:
            self._neighbours[kernel_size] = KernelMap(
                self._windows(kernel_size), len(self), identity_tap=kernel_size**3 // 2
            )
        return self._neighbours[kernel_size]

    def _windows(self, kernel_size: int) -> Windows:
        for larger, known in self._neighbours.items():
            if larger > kernel_size:
                return known.windows.inner((larger - kernel_size) // 2)
        return find_windows(self._keys, self._strides, kernel_size)

    def strided(self, kernel_size: int, stride: int, padding: int = 0) -> StridedMaps:
        """The maps of a strided convolution: tap k of output voxel o is the voxel at o * stride - padding + k.

        Every voxel whose kernel meets an occupied one becomes an output; no border cuts the grid.

        Raises:
            ValueError: a size is not positive, or the padding is negative.
        """
        if min(kernel_size, stride) < 1 or padding < 0:
            raise ValueError(
                "A strided convolution needs kernel_size >= 1, stride >= 1 and padding >= 0: got "
                f"kernel_size={kernel_size}, stride={stride}, padding={padding}."
            )
        key = (kernel_size, stride, padding)
        if key not in self._strided:
            self._strided[key] = self._make_strided(kernel_size, stride, padding)
        return self._strided[key]

    def _make_strided(self, kernel_size: int, stride: int, padding: int) -> StridedMaps:
        device = self.coord.device
        shifted = self.coord[:, 1:] + padding
        base, phase = torch.div(shifted, stride, rounding_mode="floor"), torch.remainder(shifted, stride)

        # A voxel is seen by the outputs base - step under the taps phase + step * stride, for all steps of each axis.
        steps = torch.arange(-(-kernel_size // stride), device=device)
        steps = torch.cartesian_prod(steps, steps, steps).view(-1, 1, 3)
        tap = (phase + steps * stride).view(-1, 3)
        out_coord = (base - steps).view(-1, 3)
        in_row = torch.arange(len(self), device=device).repeat(steps.shape[0])
        if kernel_size % stride:
            inside = (tap < kernel_size).all(1).nonzero().view(-1)
            tap, out_coord, in_row = tap[inside], out_coord[inside], in_row[inside]
        tap = (tap[:, 0] * kernel_size + tap[:, 1]) * kernel_size + tap[:, 2]

        batch_index = self.batch_index.index_select(0, in_row)
        coarse, out_row = VoxelSet.from_points(out_coord, batch_index, self.batch_size)
        down = _pair_table(kernel_size**3, tap, out_row, in_row, num_rows=len(coarse), num_values=len(self))
        up = _pair_table(kernel_size**3, tap, in_row, out_row, num_rows=len(self), num_values=len(coarse))
        return StridedMaps(coarse, KernelMap(down, len(self)), KernelMap(up, len(coarse)))


def _pair_table(
    num_taps: int,
    tap: Int[Tensor, "P"],
    row: Int[Tensor, "P"],
    value: Int[Tensor, "P"],
    *,
    num_rows: int,
    num_values: int,
) -> Int[Tensor, "K V"]:
    table = torch.full((num_taps * num_rows,), num_values, dtype=torch.int32, device=tap.device)
    return table.scatter_(0, tap * num_rows + row, value.int()).view(num_taps, num_rows)


@torch.library.custom_op("pointcept::find_voxels", mutates_args=())
def _find_voxels(grid_coord: Tensor, batch_index: Tensor, batch_size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Coordinates and keys of the voxels, the voxel of each point, and the keys' strides along x and y on the host."""
    grid_coord, batch_index = grid_coord.long(), batch_index.long()
    if grid_coord.shape[0] == 0:
        empty = grid_coord.new_zeros(0)
        return grid_coord.new_zeros(0, 4), empty, empty.clone(), torch.ones(2, dtype=torch.int64)
    lowest = grid_coord.new_full((batch_size, 3), torch.iinfo(torch.int64).max)
    lowest = lowest.scatter_reduce(0, batch_index[:, None].expand(-1, 3), grid_coord, "amin")
    local = grid_coord - lowest.index_select(0, batch_index)
    smallest, extent = torch.stack([local.amin(0), local.amax(0)]).tolist()
    grid = tuple(length + 1 + MARGIN for length in extent)
    if min(smallest) < 0 or batch_size * math.prod(grid) > _MAX_CELLS:
        raise ValueError(
            f"The extent of the clouds must fit 64-bit voxel keys (clouds x X x Y x Z at most 2^62): got "
            f"{batch_size} clouds and an extent of {[length + 1 for length in extent]} voxels. Remove outliers, "
            "crop the clouds, or use larger voxels."
        )
    keys = ((batch_index * grid[0] + local[:, 0]) * grid[1] + local[:, 1]) * grid[2] + local[:, 2]
    keys, voxel_of_point = torch.unique(keys, return_inverse=True)
    coord = grid_coord.new_empty(keys.shape[0], 4)
    coord[voxel_of_point] = torch.cat([batch_index[:, None], grid_coord], dim=1)
    return coord, keys, voxel_of_point, torch.tensor([grid[1] * grid[2], grid[2]])


@_find_voxels.register_fake
def _(grid_coord: Tensor, batch_index: Tensor, batch_size: int):
    count = torch.library.get_ctx().new_dynamic_size()
    return (
        grid_coord.new_empty(count, 4, dtype=torch.int64),
        grid_coord.new_empty(count, dtype=torch.int64),
        grid_coord.new_empty(grid_coord.shape[0], dtype=torch.int64),
        torch.empty(2, dtype=torch.int64, device="cpu"),
    )
