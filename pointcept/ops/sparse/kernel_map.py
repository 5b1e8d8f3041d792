"""Which input row meets which output row under each tap of a sparse kernel, and the order of work on them."""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from pointcept.ops.sparse.windows import Windows

# Output rows worked on together: the products of one chunk (about 40,000 pairs of a surface scan) stay in a CPU's
# last-level cache. Accelerators use the table.
_CHUNK_ROWS = 4096


class Chunk(NamedTuple):
    """The pairs of a range of output rows, tap by tap, and how their products are summed.

    Attributes:
        start: First output row.
        stop: End of the output rows.
        counts: Number of pairs of each tap.
        in_rows: Input row of each pair, ordered by tap and then by output row.
        bag_rows: Positions in that order, listed by output row.
        bag_offsets: Start of each output row's positions in ``bag_rows``, and the end of the last one's.
        out_rows: Output row of each pair, ordered as ``in_rows``.
    """

    start: int
    stop: int
    counts: list[int]
    in_rows: Tensor
    bag_rows: Tensor
    bag_offsets: Tensor
    out_rows: Tensor


class Plan(NamedTuple):
    """The pairs of a map in working order: by chunk, by tap, by row. Those of the identity tap are left out.

    Attributes:
        in_rows: Input row of each pair.
        bag_rows: Positions of the pairs of a chunk within it, listed by output row.
        bag_offsets: For each chunk, where each output row's positions begin, and the end of the last one's.
        out_rows: Output row of each pair; what gradients of weights need.
        counts: Number of pairs of each chunk and tap, on the host.
    """

    in_rows: Int[Tensor, "_P"]
    bag_rows: Int[Tensor, "_P"]
    bag_offsets: Int[Tensor, "_chunks _rows"]
    out_rows: Int[Tensor, "_P"]
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
                self.out_rows[pairs],
            )
            first = last


class KernelMap:
    """Which input row each tap shows to each output row.

    Args:
        table: Input row by tap and output row, ``num_in`` where the voxel is not occupied; or, for a kernel centred on
            its voxel, the windows that hold them.
        num_in: Number of input rows.
        identity_tap: The tap under which every output row meets the input row of the same number, or None.

    Attributes:
        windows: Those, or None.
        forms: The map as other packages want it, kept by them.
    """

    def __init__(self, table: Int[Tensor, "K V"] | Windows, num_in: int, *, identity_tap: int | None = None):
        self.windows = table if isinstance(table, Windows) else None
        self.num_in = num_in
        self.identity_tap = identity_tap
        self.forms: dict[str, object] = {}
        self._table = None if isinstance(table, Windows) else table
        self._plan: Plan | None = None

    @property
    def table(self) -> Int[Tensor, "K V"]:
        """Input row by tap and output row; ``num_in`` where the voxel is not occupied."""
        if self._table is None:  # no cached_property, here and below: its lock breaks compiled graphs
            self._table = self.windows.table
        return self._table

    @property
    def num_taps(self) -> int:
        """K."""
        return self.table.shape[0] if self.windows is None else self.windows.kernel_size**3

    @property
    def num_out(self) -> int:
        """V, the number of output rows."""
        return self.table.shape[1] if self.windows is None else self.windows.starts.shape[0]

    def to(self, device: torch.device | str) -> "KernelMap":
        """The same map on a device."""
        return KernelMap(self.table.to(device), self.num_in, identity_tap=self.identity_tap)

    @property
    def plan(self) -> Plan:
        """The pairs in working order. Waits for the device, once per map."""
        if self._plan is None:
            identity_tap = -1 if self.identity_tap is None else self.identity_tap
            self._plan = Plan(*_make_plan(self.table, self.num_in, identity_tap, _CHUNK_ROWS))
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
    num_taps, num_out = table.shape
    rows = max(min(chunk_rows, num_out), 1)
    present = (table.t() < num_in).contiguous()
    if identity_tap >= 0:
        present[:, identity_tap] = False
    present = F.pad(present, (0, 0, 0, -num_out % rows)).view(-(-num_out // rows), rows, num_taps)
    by_row = present.view(-1).nonzero().view(-1)  # the pairs, row by row
    narrow = torch.int32 if by_row.shape[0] < 2**31 else torch.int64

    counts, row_counts = present.sum(1), present.sum(2, dtype=torch.int32)
    first = (counts.view(-1).cumsum(0) - counts.view(-1)).view_as(counts)
    place = present.to(narrow)
    if present.shape[0]:
        place[:, 0] += (first - 1).to(narrow)
    place = place.cumsum_(1).view(-1).index_select(0, by_row).long()  # of the pairs, tap by tap
    in_rows = table.new_empty(by_row.shape[0]).scatter_(0, place, table.t().reshape(-1).index_select(0, by_row))
    out_rows = torch.arange(present.shape[0] * rows, dtype=torch.int32, device=table.device)
    out_rows = torch.empty_like(in_rows).scatter_(0, place, out_rows.repeat_interleave(row_counts.view(-1)))
    bag_rows = (place - first[:, 0].repeat_interleave(counts.sum(1))).int()
    bag_offsets = F.pad(row_counts.cumsum(1, dtype=torch.int32), (1, 0))
    return in_rows, bag_rows, bag_offsets, out_rows, counts.cpu()


@_make_plan.register_fake
def _(table: Tensor, num_in: int, identity_tap: int, chunk_rows: int):
    sizes = torch.library.get_ctx()
    num_pairs, num_chunks, row_ends = (sizes.new_dynamic_size() for _ in range(3))
    return (
        table.new_empty(num_pairs),
        table.new_empty(num_pairs, dtype=torch.int32),
        table.new_empty(num_chunks, row_ends, dtype=torch.int32),
        table.new_empty(num_pairs),
        table.new_empty(num_chunks, table.shape[0], dtype=torch.int64, device="cpu"),
    )
