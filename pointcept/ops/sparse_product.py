"""Products of a sparse matrix, given by its entries, with dense rows: weighted sums of rows over arbitrary groups.

With entries e of weight w[e] at (target t[e], source s[e]), ``out[t] = sum over e with t[e] = t of w[e] rows[s[e]]``.
Both directions sum in segments of sorted entries, without atomics, and nothing of the size entries x channels is made.
"""

import dataclasses
import functools

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class SparsePattern:
    """Where the E entries of a matrix of T x S lie; an entry may occur several times.

    Attributes:
        target: Row of the result that each entry adds to.
        source: Row of the factor that each entry reads.
        num_targets: T.
        num_sources: S.
    """

    target: Int[Tensor, "_E"]
    source: Int[Tensor, "_E"]
    num_targets: int
    num_sources: int

    @functools.cached_property
    def by_target(self) -> tuple[Int[Tensor, "_E"], Int[Tensor, "_T"]]:
        """Entries sorted by target, and where those of each target begin."""
        return _sorted(self.target, self.num_targets)

    @functools.cached_property
    def by_source(self) -> tuple[Int[Tensor, "_E"], Int[Tensor, "_S"]]:
        """Entries sorted by source, and where those of each source begin."""
        return _sorted(self.source, self.num_sources)


def sparse_product(
    pattern: SparsePattern, weight: Float[Tensor, "_E"], rows: Float[Tensor, "_S C"]
) -> Float[Tensor, "_T C"]:
    """The weighted sums of rows, differentiable with respect to the weights and the rows."""
    return _SparseProduct.apply(weight, rows, pattern)


def _sorted(key: Tensor, count: int) -> tuple[Tensor, Tensor]:
    narrow = torch.int32 if count < 2**31 else torch.int64
    ordered, entries = torch.sort(key.to(narrow), stable=True)
    return entries, torch.searchsorted(ordered, torch.arange(count, device=key.device, dtype=narrow))


def _sum_segments(rows: Tensor, index: Tensor, starts: Tensor, weight: Tensor) -> Tensor:
    return F.embedding_bag(index, rows.contiguous(), starts, per_sample_weights=weight, mode="sum")


class _SparseProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight: Tensor, rows: Tensor, pattern: SparsePattern) -> Tensor:
        ctx.save_for_backward(weight, rows)
        ctx.pattern = pattern
        entries, starts = pattern.by_target
        source = pattern.source.index_select(0, entries)
        return _sum_segments(rows.detach(), source, starts, weight.detach().index_select(0, entries))

    @staticmethod
    def backward(ctx, grad: Tensor):
        weight, rows = ctx.saved_tensors
        pattern, grad = ctx.pattern, grad.contiguous()
        weight_grad = rows_grad = None
        if ctx.needs_input_grad[1]:
            entries, starts = pattern.by_source
            target = pattern.target.index_select(0, entries)
            rows_grad = _sum_segments(grad, target, starts, weight.index_select(0, entries))
        if ctx.needs_input_grad[0]:
            bag = torch.arange(rows.shape[0], device=rows.device)
            # <rows[source], grad[target]> for each entry, without gathering either.
            weight_grad = torch.ops.aten._embedding_bag_per_sample_weights_backward(
                rows.contiguous(), grad, pattern.target, bag, pattern.source, 0
            )
        return weight_grad, rows_grad, None
