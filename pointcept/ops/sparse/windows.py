"""The cubes around voxels, read as windows of consecutive cells along z."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

# Empty cells kept beside each axis of the key space, so that no neighbour's key runs over into the next row of cells.
MARGIN = 8
# Up to so many cells per voxel, the columns of a cloud are laid out whole. Scans of rooms have 10 to 20.
_CELLS_PER_VOXEL = 32


class Windows(NamedTuple):
    """For each voxel, the k x k columns of k cells that make up the cube around it.

    Attributes:
        cells: Row of the voxel in each cell, the number of voxels where there is none.
        starts: First of the k cells of each column, the columns ordered by x and then by y.
        bounds: Where the cells of a chunk of voxels begin and end, for each chunk, on the host.
    """

    cells: Int[Tensor, "_S"]
    starts: Int[Tensor, "_V _KK"]
    bounds: Int[Tensor, "_chunks 2"]

    @property
    def kernel_size(self) -> int:
        """Edge of the cubes, k."""
        return math.isqrt(self.starts.shape[1])

    @property
    def table(self) -> Int[Tensor, "_KKK _V"]:
        """The row in each cell of each voxel's cube, cell by cell; the number of voxels where there is none."""
        return _window_table(self.cells, self.starts, self.kernel_size).t()

    def inner(self, margin: int) -> "Windows":
        """Those of the cubes without their outermost ``margin`` layers."""
        count = self.starts.shape[0]
        edge = self.kernel_size
        kept = slice(margin, edge - margin)
        starts = self.starts.view(count, edge, edge)[:, kept, kept] + margin
        return Windows(self.cells, starts.flatten(1), self.bounds)

    def chunks(self, values: Float[Tensor, "_R C"]) -> Iterator[tuple[slice, Float[Tensor, "_N _KKKC"]]]:
        """What the cubes hold, cell by cell, for some voxels at a time: their rows and one line for each.

        Args:
            values: Value of each voxel, and of an empty cell as the last row.
        """
        count, width, size = self.starts.shape[0], values.shape[1], self.kernel_size
        chunk, step = _rows_at_once(self.starts.device)
        for first, (low, high) in zip(range(0, count, chunk), self.bounds.tolist(), strict=True):
            cells = values.index_select(0, self.cells[low:high])
            windows = cells.as_strided((cells.shape[0] - size + 1, size * width), (width, 1))
            stop = min(first + chunk, count)
            for start in range(first, stop, step):
                rows = slice(start, min(start + step, stop))
                lines = windows.index_select(0, (self.starts[rows] - low).view(-1))
                yield rows, lines.view(rows.stop - start, -1)


def _rows_at_once(device: torch.device) -> tuple[int, int]:
    """Voxels of a chunk, whose cells are read together, and voxels whose lines are made together."""
    return (2**12, 2**9) if device.type == "cpu" else (2**15, 2**15)


def find_windows(keys: Int[Tensor, "V"], strides: Int[Tensor, "2"], kernel_size: int) -> Windows:
    """The windows of the voxels with these keys. Waits for the device.

    Args:
        keys: Sorted, unique key of each voxel, ``batch, x, y, z`` from the most to the least significant digit, with
            ``MARGIN`` empty cells at the end of each digit's range.
        strides: Difference of key between neighbours along x and along y, on the host; along z it is 1.
        kernel_size: Odd edge of the cube, at most 2 MARGIN + 1.
    """
    return Windows(*_find_windows(keys, strides, kernel_size))


@torch.library.custom_op("pointcept::find_windows", mutates_args=())
def _find_windows(keys: Tensor, strides: Tensor, kernel_size: int) -> tuple[Tensor, Tensor, Tensor]:
    stride_x, height = strides.tolist()
    column_keys, column = torch.unique_consecutive(keys // height, return_inverse=True)
    most_cells = _CELLS_PER_VOXEL * keys.shape[0]
    span = int(column_keys[-1] - column_keys[0]) if keys.shape[0] else 0
    if kernel_size <= MARGIN and max(span, column_keys.shape[0] * height) < most_cells:
        z = keys - column_keys.index_select(0, column) * height
        return _lay_out(column_keys - column_keys[0], span, column, z, stride_x // height, height, kernel_size)
    # Few voxels far apart: the cubes themselves, one after another.
    cells = _search(keys, (stride_x, height), kernel_size).t().reshape(-1)
    first = torch.arange(keys.shape[0] + 1, device=keys.device) * kernel_size**3
    starts = first[:-1, None] + torch.arange(0, kernel_size**3, kernel_size, device=keys.device)
    return cells, starts, _bounds(first[:-1], first[1:])


@_find_windows.register_fake
def _(keys: Tensor, strides: Tensor, kernel_size: int):
    sizes = torch.library.get_ctx()
    num_cells, num_chunks = sizes.new_dynamic_size(), sizes.new_dynamic_size()
    return (
        keys.new_empty(num_cells, dtype=torch.int32),
        keys.new_empty(keys.shape[0], kernel_size**2),
        keys.new_empty(num_chunks, 2, device="cpu"),
    )


def _lay_out(
    column_keys: Tensor, span: int, column: Tensor, z: Tensor, stride_x: int, height: int, kernel_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The fields of :class:`Windows` where all columns of voxels along z are laid out one after another.

    Args:
        column_keys: Sorted, unique key of each column, from 0 to ``span``.
        span: The largest key.
        column: Column of each voxel.
        z: Cell of each voxel in its column.
        stride_x: Difference of key between neighbouring columns along x; along y it is 1.
        height: Cells of a column, the last ``MARGIN`` of them empty.
        kernel_size: Edge of the cube.
    """
    columns, count, radius, device = column_keys.shape[0], column.shape[0], kernel_size // 2, column.device
    cells = torch.full((columns * height + 2 * radius,), count, dtype=torch.int32, device=device)
    cells.scatter_(0, column * height + z + radius, torch.arange(count, dtype=torch.int32, device=device))

    # Which column has a key: -1 where there is none.
    reach = radius * (stride_x + 1)  # of the keys of the columns around a column
    places = torch.full((span + 2 * reach + 1,), -1, device=device)
    places.scatter_(0, column_keys + reach, torch.arange(columns, device=device))
    offsets = torch.arange(-radius, radius + 1, device=device)
    shifts = (offsets[:, None] * stride_x + offsets).view(-1) + reach
    around = places.index_select(0, (column_keys[:, None] + shifts).view(-1)).view(columns, -1)
    # Where there is no column, a window lies in the voxel's own column, behind its last voxel.
    behind = torch.arange(columns, device=device)[:, None] * height + (height - MARGIN + radius)
    starts = torch.where(around >= 0, around * height, behind)
    low, high = starts.amin(1), starts.amax(1) + height + kernel_size
    bounds = _bounds(low.index_select(0, column), high.index_select(0, column))
    starts = starts.index_select(0, column)
    return cells, starts.addcmul_((around >= 0).long().index_select(0, column), z[:, None]), bounds


def _search(keys: Tensor, strides: tuple[int, int], kernel_size: int) -> Int[Tensor, "K V"]:
    """The row of the voxel under each tap by binary search, the number of voxels where there is none.

    Along z the keys of neighbours are consecutive, so one search finds a whole column of taps. The voxel that sees
    another one under a tap is seen by it under the opposite tap, so only half of the taps are searched for.
    """
    count, radius, num_taps = keys.shape[0], kernel_size // 2, kernel_size**3
    # The last column takes what the search for a missing neighbour would write, and is cut off in the end.
    table = torch.full((num_taps, count + 1), count, dtype=torch.int32, device=keys.device)
    rows = torch.arange(count, dtype=torch.int32, device=keys.device)
    table[num_taps // 2, :count] = rows
    padded_keys = torch.cat([keys, keys.new_full((1,), torch.iinfo(keys.dtype).max)])
    for column in range(kernel_size**2 // 2 + 1):
        shift_x, shift_y = column // kernel_size - radius, column % kernel_size - radius
        wanted = keys + (shift_x * strides[0] + shift_y * strides[1] - radius)
        row = torch.searchsorted(keys, wanted)
        for tap in range(column * kernel_size, min((column + 1) * kernel_size, num_taps // 2)):
            found = padded_keys.index_select(0, row) == wanted
            neighbour = torch.where(found, row, count)
            table[tap, :count] = neighbour
            table[num_taps - 1 - tap].scatter_(0, neighbour, rows)
            row += found.long()
            wanted += 1
    return table[:, :count]


def _bounds(low: Int[Tensor, "V"], high: Int[Tensor, "V"]) -> Int[Tensor, "_chunks 2"]:
    """The lowest and the highest of each chunk of voxels."""
    rows, _ = _rows_at_once(low.device)
    limits = F.pad(torch.stack([low, -high]), (0, -low.shape[0] % rows), value=2**62).view(2, -1, rows).amin(2)
    return torch.stack([limits[0], -limits[1]], dim=1).cpu()


@torch.library.custom_op("pointcept::window_table", mutates_args=())
def _window_table(cells: Tensor, starts: Tensor, kernel_size: int) -> Tensor:
    windows = cells.as_strided((max(cells.shape[0] - kernel_size + 1, 0), kernel_size), (1, 1))
    return windows.index_select(0, starts.view(-1)).view(-1, kernel_size**3)


@_window_table.register_fake
def _(cells: Tensor, starts: Tensor, kernel_size: int) -> Tensor:
    return cells.new_empty(starts.shape[0], kernel_size**3)
