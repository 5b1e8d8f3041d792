"""Which input row meets which output row under each tap of a sparse kernel, and the order of work on them."""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

# Output rows worked on together. On a CPU the products of one chunk (about 40,000 pairs of a surface scan) then stay in
# the last-level cache; an accelerator wants few, large launches.
_CHUNK_ROWS_CPU = 4096
_CHUNK_ROWS_ACCELERATOR = 2**17


class Chunk(NamedTuple):
    """The pairs of a range of output rows, tap by tap, and how their products are summed.

    Attributes:
        start: First output row.
        stop: End of the output rows.
        counts: Number of pairs of each tap.
        in_rows: Input row of each pair, ordered by tap and then by output row.
        bag_rows: Positions in that order, listed by output row.
        bag_offsets: Start of each output row's positions in ``bag_rows``, and the end of the last one's.
        cells: Place of each pair among all taps and rows of all chunks.
    """

    start: int
    stop: int
    counts: list[int]
    in_rows: Tensor
    bag_rows: Tensor
    bag_offsets: Tensor
    cells: Tensor


class Plan(NamedTuple):
    """The pairs of a map in working order: by chunk, by tap, by row. Those of the identity tap are left out.

    Attributes:
        in_rows: Input row of each pair.
        bag_rows: Positions of the pairs of a chunk within it, listed by output row.
        bag_offsets: For each chunk, where each output row's positions begin, and the end of the last one's.
        cells: Place of each pair among all chunks, taps and rows.
        counts: Number of pairs of each chunk and tap, on the host.
    """

    in_rows: Int[Tensor, "_P"]
    bag_rows: Int[Tensor, "_P"]
    bag_offsets: Int[Tensor, "_chunks _rows"]
    cells: Int[Tensor, "_P"]
    counts: Int[Tensor, "_chunks _K"]

    @property
    def chunk_rows(self) -> int:
        """Number of output rows that are worked on together."""
        return self.bag_offsets.shape[1] - 1

    def chunks(self, num_out: int) -> Iterator[Chunk]:
        """The chunks of a map onto ``num_out`` rows."""
        first, rows = 0, self.chunk_rows
        for index, (counts, offsets) in enumerate(zip(self.counts.tolist(), self.bag_offsets)):
            start, last = index * rows, first + sum(counts)
            stop, pairs = min(start + rows, num_out), slice(first, last)
            yield Chunk(
                start,
                stop,
                counts,
                self.in_rows[pairs],
                self.bag_rows[pairs],
                offsets[: stop - start + 1],
                self.cells[pairs],
            )
            first = last

    def out_rows(self, chunk: Chunk) -> Int[Tensor, "_P"]:
        """Output row of each pair of a chunk, in the order of its ``in_rows``; only gradients need it."""
        return chunk.cells % self.chunk_rows + chunk.start


class KernelMap:
    """A table of the input row that each tap shows to each output row.

    Attributes:
        table: Input row by tap and output row; ``num_in`` where the voxel is not occupied.
        num_in: Number of input rows.
        identity_tap: The tap under which every output row meets the input row of the same number, or None.
        forms: The map as other packages want it, kept by them.
    """

    def __init__(self, table: Int[Tensor, "K V"], num_in: int, *, identity_tap: int | None = None):
        self.table = table
        self.num_in = num_in
        self.identity_tap = identity_tap
        self.forms: dict[str, object] = {}
        self._plan: Plan | None = None

    @property
    def num_taps(self) -> int:
        """K."""
        return self.table.shape[0]

    @property
    def num_out(self) -> int:
        """V, the number of output rows."""
        return self.table.shape[1]

    def to(self, device: torch.device | str) -> "KernelMap":
        """The same map on a device."""
        return KernelMap(self.table.to(device), self.num_in, identity_tap=self.identity_tap)

    @property
    def plan(self) -> Plan:
        """The pairs in working order. Waits for the device, once per map."""
        if self._plan is None:  # no cached_property: its lock breaks compiled graphs
            identity_tap = -1 if self.identity_tap is None else self.identity_tap
            self._plan = Plan(*_make_plan(self.table, self.num_in, identity_tap, rows_at_once(self.table.device)))
        return self._plan

    @functools.cached_property
    def mirrored(self) -> "KernelMap":
        """The pairs of a centred kernel seen from the inputs: opposite taps hold opposite pairs."""
        return KernelMap(self.table.flip(0), self.num_out, identity_tap=self.identity_tap)

    @functools.cached_property
    def pairs(self) -> tuple[Int[Tensor, "P"], Int[Tensor, "P"]]:
        """Input and output row of every pair, all taps together. Waits for the device, once per map."""
        _, out_rows = (present := self.table < self.num_in).nonzero(as_tuple=True)
        return self.table[present].long(), out_rows


@torch.library.custom_op("pointcept::kernel_plan", mutates_args=())
def _make_plan(
    table: Tensor, num_in: int, identity_tap: int, chunk_rows: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The fields of a :class:`Plan`; ``identity_tap`` is -1 where there is none."""
    taps, num_out = table.shape
    rows = max(min(chunk_rows, num_out), 1)
    num_chunks = -(-num_out // rows)
    table = F.pad(table, (0, num_chunks * rows - num_out), value=num_in)
    table = table.view(taps, num_chunks, rows).transpose(0, 1).contiguous()  # (chunk, tap, row)
    if identity_tap >= 0:
        table[:, identity_tap] = num_in
    present = table < num_in

    cells = present.view(-1).nonzero().view(-1)
    in_rows = table.view(-1).index_select(0, cells)
    counts = present.sum(2)
    first = counts.sum(1).cumsum(0) - counts.sum(1)
    narrow = torch.int32 if cells.shape[0] < 2**31 else torch.int64
    position = torch.empty_like(table, dtype=narrow)
    position.view(-1).scatter_(0, cells, torch.arange(cells.shape[0], dtype=narrow, device=cells.device))
    position -= first[:, None, None].to(narrow)  # within the chunk, which is far below 2^31 pairs
    cells_by_row = present.transpose(1, 2).reshape(-1).nonzero().view(-1)
    bag_rows = position.transpose(1, 2).reshape(-1).index_select(0, cells_by_row).int()
    bag_offsets = F.pad(present.sum(1).cumsum(1), (1, 0)).int()
    return in_rows, bag_rows, bag_offsets, cells, counts.cpu()


@_make_plan.register_fake
def _(table: Tensor, num_in: int, identity_tap: int, chunk_rows: int):
    sizes = torch.library.get_ctx()
    num_pairs, num_chunks, row_ends = (sizes.new_dynamic_size() for _ in range(3))
    return (
        table.new_empty(num_pairs),
        table.new_empty(num_pairs, dtype=torch.int32),
        table.new_empty(num_chunks, row_ends, dtype=torch.int32),
        table.new_empty(num_pairs, dtype=torch.int64),
        table.new_empty(num_chunks, table.shape[0], dtype=torch.int64, device="cpu"),
    )


def rows_at_once(device: torch.device) -> int:
    """Number of output rows that are worked on together."""
    return _CHUNK_ROWS_CPU if device.type == "cpu" else _CHUNK_ROWS_ACCELERATOR


def centred_table(keys: Int[Tensor, "V"], strides: Int[Tensor, "2"], kernel_size: int) -> Int[Tensor, "K V"]:
    """For every voxel, the rows of the voxels in the cube around it.

    Along z the keys of neighbours are consecutive, so one binary search finds a whole column of taps. The voxel that
    sees another one under a tap is seen by it under the opposite tap, so only half of the taps are searched for.

    Args:
        keys: Sorted, unique key of each voxel, ``batch, x, y, z`` from the most to the least significant digit, with
            gaps between the digits' ranges that no neighbour can bridge.
        strides: Difference of key between neighbours along x and along y, on the host; along z it is 1.
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
