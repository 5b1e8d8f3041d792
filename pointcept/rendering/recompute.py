"""Evaluates a function of volume rows piece by piece, and again in the backward pass instead of keeping its insides."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable


class LocatedPiece:
    """A part of the work of which it is known where it reads."""

    def compact(self) -> tuple[list[Int[Tensor, "_T"]], "LocatedPiece"]:
        """The rows that each branch of the piece touches, and the same piece, reading from these rows alone."""
        raise NotImplementedError

    def evaluate(self, branches: tuple[Float[Tensor, "_V _C"], ...]) -> tuple[Tensor, ...]:
        """Results of the piece, rays along the second dimension, differentiable in the rows and in parameters.

        Args:
            branches: The rows that each branch reads.
        """
        raise NotImplementedError


class Piece:
    """A part of the work."""

    def locate(self) -> LocatedPiece:
        """Finds out which rows the piece touches."""
        raise NotImplementedError


def evaluate_pieces(
    pieces: Sequence[Piece], rows: Float[Tensor, "_V _C"], num_branches: int, parameters: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Results of all pieces, joined along the second dimension.

    The backward pass evaluates each piece once more, with gradients, and adds the gradient to the rows that the piece
    touches; no more than one piece's insides are in memory at a time. It can be differentiated once. CPU only.

    Args:
        pieces: What is to be done.
        rows: Rows of a volume.
        num_branches: How many branches read them.
        parameters: All leaves, besides the rows, that the results depend on.
    """
    return _Pieces.apply(pieces, num_branches, rows, *parameters)


class _Pieces(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, pieces: Sequence[Piece], num_branches: int, rows: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.pieces = pieces
        ctx.save_for_backward(rows, *parameters)
        results = zip(*(piece.locate().evaluate((rows,) * num_branches) for piece in pieces), strict=True)
        return tuple(torch.cat(parts, dim=1) for parts in results)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor):
        rows, *parameters = ctx.saved_tensors
        wanted = [p for p, needed in zip(parameters, ctx.needs_input_grad[3:], strict=True) if needed]
        rows_grad = torch.zeros_like(rows) if ctx.needs_input_grad[2] else None
        totals: list[Tensor | None] = [None] * len(wanted)
        begin = 0
        for piece in ctx.pieces:
            touched, located = piece.locate().compact()
            branches = tuple(rows.index_select(0, index).requires_grad_(rows_grad is not None) for index in touched)
            with torch.enable_grad():
                results = located.evaluate(branches)
            count = results[0].shape[1]
            inputs = [*wanted, *branches] if rows_grad is not None else wanted
            used = [(r, g.narrow(1, begin, count)) for r, g in zip(results, grads, strict=True) if r.requires_grad]
            begin += count
            outputs, output_grads = zip(*used, strict=True)
            found = list(torch.autograd.grad(outputs, inputs, output_grads, allow_unused=True))
            if rows_grad is not None:
                for index, grad in zip(touched, found[len(wanted) :], strict=True):
                    rows_grad.index_add_(0, index, grad)
            totals = [
                new if old is None else old if new is None else old.add_(new) for old, new in zip(totals, found)
            ]  # those of the rows are behind and left out
        result = iter(totals)
        return None, None, rows_grad, *(next(result) if needed else None for needed in ctx.needs_input_grad[3:])
