"""Which input row meets which output row under each tap of a sparse kernel, and the order of work on them."""

import dataclasses
import functools

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

# Output rows worked on together. On a CPU the gathered inputs and the products of one chunk (about 40,000 pairs of a
# surface scan) then stay in the last-level cache; an accelerator wants few, large launches.
_CHUNK_ROWS_CPU = 4096
_CHUNK_ROWS_ACCELERATOR = 2**17


@dataclasses.dataclass(frozen=True)
class Chunk:
    """The pairs of a range of output rows, tap by tap, and how their products are summed.

    Attributes:
        start: First output row.
        stop: End of the output rows.
        counts: Number of pairs of each tap, on the host.
        in_rows: Input row of each pair, ordered by tap and then by output row.
        bag_rows: Positions in that order, listed by output row.
        bag_offsets: Start of each output row's positions in ``bag_rows``, and the end of the last one's.
        cells: Place of each pair among all taps and rows of the map's chunks, ``chunk_rows`` rows to a tap.
        chunk_rows: Rows of a full chunk.
    """

    start: int
    stop: int
    counts: list[int]
    in_rows: Int[Tensor, "_P"]
    bag_rows: Int[Tensor, "_P"]
    bag_offsets: Int[Tensor, "_R"]
    cells: Int[Tensor, "_P"]
    chunk_rows: int

    @functools.cached_property
    def out_rows(self) -> Int[Tensor, "_P"]:
        """Output row of each pair, in the order of ``in_rows``; only gradients need it."""
        return self.cells % self.chunk_rows + self.start


class KernelMap:
    """A table of the input row that each tap shows to each output row.

    Attributes:
        table: Input row by tap and output row; ``num_in`` where the voxel is not occupied.
        num_in: Number of input rows.
        identity_tap: The tap under which every output row meets the input row of the same number, or None.
    """

    def __init__(self, table: Int[Tensor, "K V"], num_in: int, *, identity_tap: int | None = None):
        self.table = table
        self.num_in = num_in
        self.identity_tap = identity_tap

    @property
    def num_taps(self) -> int:
        """K."""
        return self.table.shape[0]

    @property
    def num_out(self) -> int:
        """V, the number of output rows."""
        return self.table.shape[1]

    @property
    def chunk_rows(self) -> int:
        """Number of output rows that are worked on together."""
        return _CHUNK_ROWS_CPU if self.table.device.type == "cpu" else _CHUNK_ROWS_ACCELERATOR

    @functools.cached_property
    def chunks(self) -> list[Chunk]:
        """The pairs in working order, without those of the identity tap. Waits for the device, once per map."""
        if self.num_out == 0:
            return []
        taps, rows = self.num_taps, min(self.chunk_rows, self.num_out)
        num_chunks = -(-self.num_out // rows)
        table = F.pad(self.table, (0, num_chunks * rows - self.num_out), value=self.num_in)
        table = table.view(taps, num_chunks, rows).transpose(0, 1).contiguous()  # (chunk, tap, row)
        if self.identity_tap is not None:
            table[:, self.identity_tap] = self.num_in
        present = table < self.num_in

        cells = present.view(-1).nonzero().view(-1)
        in_rows = table.view(-1).index_select(0, cells)
        order = torch.arange(cells.shape[0], dtype=torch.int32, device=cells.device)
        position = torch.empty_like(table)
        position.view(-1).scatter_(0, cells, order)
        cells_by_row = present.transpose(1, 2).reshape(-1).nonzero().view(-1)
        by_row = position.transpose(1, 2).reshape(-1).index_select(0, cells_by_row)
        row_ends = present.sum(1).view(-1).cumsum(0)
        row_offsets = F.pad(row_ends, (1, 0)).int()
        counts = present.sum(2).tolist()

        chunks, first = [], 0
        for index, tap_counts in enumerate(counts):
            start = index * rows
            stop = min(start + rows, self.num_out)
            last = first + sum(tap_counts)
            chunks.append(
                Chunk(
                    start=start,
                    stop=stop,
                    counts=tap_counts,
                    in_rows=in_rows[first:last],
                    bag_rows=by_row[first:last] - first,
                    bag_offsets=row_offsets[start : stop + 1] - first,
                    cells=cells[first:last],
                    chunk_rows=rows,
                )
            )
            first = last
        return chunks

    @functools.cached_property
    def pairs(self) -> tuple[Int[Tensor, "P"], Int[Tensor, "P"]]:
        """Input and output row of every pair, all taps together. Waits for the device, once per map."""
        _, out_rows = (present := self.table < self.num_in).nonzero(as_tuple=True)
        return self.table[present].long(), out_rows


def centred_table(keys: Int[Tensor, "V"], strides: tuple[int, int], kernel_size: int) -> Int[Tensor, "K V"]:
    """For every voxel, the rows of the voxels in the cube around it.

    Along z the keys of neighbours are consecutive, so one binary search finds a whole column of taps. The voxel that
    sees another one under a tap is seen by it under the opposite tap, so only half of the taps are searched for.

    Args:
        keys: Sorted, unique key of each voxel, ``batch, x, y, z`` from the most to the least significant digit, with
            gaps between the digits' ranges that no neighbour can bridge.
        strides: Difference of key between neighbours along x and along y; along z it is 1.
        kernel_size: Odd edge of the cube.
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
