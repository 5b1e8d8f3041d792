"""The arithmetic of sparse convolution, forward and backward: by the chosen back end, or here in plain torch.

On a CPU the native back end computes what has more than a few input channels, where a C compiler made it. Otherwise,
for each chunk of output rows, each tap gathers the inputs of its pairs and multiplies them by its matrix, and
a segment sum adds up the products of every output row: no scattered writes, every result written once, and the same
sums in the same order each time. Layers with few input channels, and all layers on an accelerator, for which launches
cost more than zeros, gather the whole neighbourhood instead, missing voxels as zeros, and multiply once. Forward and
backward are custom operators of torch, so that compiled graphs need not break.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor

from pointcept.ops.backends import SPARSE
from pointcept.ops.sparse.accelerated import accelerated_convolution, backend_for
from pointcept.ops.sparse.kernel_map import KernelMap, Plan
from pointcept.ops.sparse.windows import Windows

# Up to this many input channels the products would take more memory traffic on a CPU than gathering zeros.
_MAX_CHANNELS_DENSE = 8
_ROWS_AT_ONCE_CPU = 2**10  # neighbourhoods that stay in the cache until they are multiplied
_VALUES_AT_ONCE_ACCELERATOR = 2**26  # in neighbourhoods, 256 MB of 32-bit floats


def sparse_convolution(
    features: Float[Tensor, "N C_in"],
    weight: Float[Tensor, "C_out kx ky kz C_in"],
    forward_map: KernelMap,
    backward_map: KernelMap | None,
    *,
    backend: str = "auto",
) -> Float[Tensor, "V C_out"]:
    """Sum over the taps of the features met under the tap, times the tap's matrix.

    Follows autocast. First derivatives only.

    Args:
        features: One row per input voxel.
        weight: spconv 2.x's layout.
        forward_map: Which input row each output row meets under each tap.
        backward_map: The same pairs seen from the inputs; None where opposite taps hold opposite pairs, as they do for
            a kernel centred on its voxel.
        backend: ``auto``, or one of ``pointcept.ops.backends.SPARSE``. What it cannot compute is left to plain torch:
            kernels of more than 32 taps, 64-bit floats, maps without rows.

    Raises:
        ValueError: the back end is unknown, not installed, or cannot work on the device.
    """
    device_type = features.device.type
    if torch.is_autocast_enabled(device_type):
        dtype = torch.get_autocast_dtype(device_type)
        features, weight = features.to(dtype), weight.to(dtype)
    chosen = backend_for(features, forward_map, backend)
    if chosen not in ("torch", "native"):
        return accelerated_convolution(chosen, features, weight, forward_map, backward_map)
    identity_tap = -1 if forward_map.identity_tap is None else forward_map.identity_tap
    lists = _work_lists(features, forward_map, backward_map)
    return _convolve(features, weight, forward_map.num_out, *lists, identity_tap, chosen == "native")


def _work_lists(
    features: Tensor, forward_map: KernelMap, backward_map: KernelMap | None
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """``neighbourhood``, ``plan`` and ``backward`` of :func:`_convolve`: by which scheme the maps are worked on."""
    needs_grad = features.requires_grad and torch.is_grad_enabled()
    by_pairs = _works_by_pairs(features.device.type)
    neighbourhood, plan, backward = [], [], []
    if features.shape[1] > _MAX_CHANNELS_DENSE:
        neighbourhood = [] if by_pairs else [forward_map.table]
    else:
        neighbourhood = [forward_map.table] if forward_map.windows is None else list(forward_map.windows)
    if by_pairs and (needs_grad or not neighbourhood):
        plan = list(forward_map.plan)
    if needs_grad and backward_map is not None:
        backward = list(backward_map.plan) if by_pairs else [backward_map.table]
    return neighbourhood, plan, backward


def _works_by_pairs(device_type: str) -> bool:
    return device_type == "cpu"


@torch.library.custom_op(
    "pointcept::sparse_convolution",
    mutates_args=(),
    schema="(Tensor features, Tensor weight, SymInt num_out, Tensor[] neighbourhood, Tensor[] plan, "
    "Tensor[] backward, int identity_tap, bool is_native) -> Tensor",
)
def _convolve(
    features: Tensor,
    weight: Tensor,
    num_out: int,
    neighbourhood: list[Tensor],
    plan: list[Tensor],
    backward: list[Tensor],
    identity_tap: int,
    is_native: bool,
) -> Tensor:
    """The convolution over a map's neighbourhoods or plan.

    Args:
        features: One row per input voxel.
        weight: spconv 2.x's layout.
        num_out: Number of output rows.
        neighbourhood: The fields of the map's :class:`Windows`, or its table alone, where whole neighbourhoods are
            gathered; else empty.
        plan: The fields of a :class:`Plan`, for gradients of features and, without a neighbourhood, all else; else
            empty.
        backward: The same pairs seen from the inputs, as a plan where there is one, else as a table; empty for a
            centred kernel.
        identity_tap: See :class:`KernelMap`; -1 for none.
        is_native: Whether pairs are worked on by the native back end.
    """
    dtype = features.dtype
    features, weight = _computable(features), _computable(weight)
    if neighbourhood:
        out = _convolve_dense(features, weight.flatten(1).t(), num_out, neighbourhood)
    else:
        convolve = _native().convolve if is_native else _convolve_pairs
        out = convolve(features, _tap_matrices(weight), Plan(*plan), num_out, identity_tap)
    return out.to(dtype)


@_convolve.register_fake
def _(features: Tensor, weight: Tensor, num_out: int, neighbourhood, plan, backward, identity_tap, is_native) -> Tensor:
    return features.new_empty(num_out, weight.shape[0])


@torch.library.custom_op(
    "pointcept::sparse_convolution_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor features, Tensor weight, Tensor[] neighbourhood, Tensor[] plan, "
    "Tensor[] backward, int identity_tap, bool is_native, bool needs_features, bool needs_weight) -> (Tensor, Tensor)",
)
def _convolve_backward(
    grad: Tensor,
    features: Tensor,
    weight: Tensor,
    neighbourhood: list[Tensor],
    plan: list[Tensor],
    backward: list[Tensor],
    identity_tap: int,
    is_native: bool,
    needs_features: bool,
    needs_weight: bool,
) -> tuple[Tensor, Tensor]:
    """The gradients of the features and of the weight; one that is not needed is empty."""
    dtype = grad.dtype
    features, weight, grad = _computable(features), _computable(weight), _computable(grad.contiguous())
    grad_features, grad_weight = grad.new_empty(0), grad.new_empty(0)
    if needs_features and plan:
        convolve = _native().convolve if is_native else _convolve_pairs
        matrices = _tap_matrices(weight).transpose(1, 2)
        if backward:
            grad_features = convolve(grad, matrices, Plan(*backward), features.shape[0], -1)
        else:
            count = features.shape[0]
            grad_features = convolve(grad, matrices, Plan(*plan), count, identity_tap, is_mirrored=True)
    elif needs_features:
        matrices = weight.flatten(1, 3).transpose(0, 1)  # (tap, out, in)
        matrices = (matrices if backward else matrices.flip(0)).flatten(0, 1)
        grad_features = _convolve_dense(grad, matrices, features.shape[0], backward or neighbourhood)
    if needs_weight:
        num_taps = math.prod(weight.shape[1:-1])
        if neighbourhood:
            grad_weight = _weight_grad_dense(features, grad, num_taps, neighbourhood)
        else:
            weight_gradient = _native().weight_gradient if is_native else _weight_grad_pairs
            grad_weight = weight_gradient(features, grad, num_taps, Plan(*plan), identity_tap)
        grad_weight = grad_weight.view(weight.shape)
    return grad_features.to(dtype), grad_weight.to(dtype)


@_convolve_backward.register_fake
def _(grad, features, weight, neighbourhood, plan, backward, identity_tap, is_native, needs_features, needs_weight):
    return (
        torch.empty_like(features, memory_format=torch.contiguous_format) if needs_features else grad.new_empty(0),
        torch.empty_like(weight, memory_format=torch.contiguous_format) if needs_weight else grad.new_empty(0),
    )


def _keep(ctx, inputs: tuple, output: Tensor) -> None:
    features, weight, _, neighbourhood, plan, backward, *choices = inputs
    ctx.save_for_backward(features, weight, *neighbourhood, *plan, *backward)
    ctx.lengths, ctx.choices = [len(neighbourhood), len(plan), len(backward)], choices


def _gradients(ctx, grad: Tensor) -> tuple:
    features, weight, *rest = ctx.saved_tensors
    rest = iter(rest)
    lists = [list(itertools.islice(rest, length)) for length in ctx.lengths]  # neighbourhood, plan, backward
    needs = tuple(ctx.needs_input_grad[:2])
    gradients = _convolve_backward(grad, features, weight, *lists, *ctx.choices, *needs)
    asked = tuple(gradient if is_needed else None for gradient, is_needed in zip(gradients, needs))
    return *asked, None, *([None] * length for length in ctx.lengths), *(None for _ in ctx.choices)


_convolve.register_autograd(_gradients, setup_context=_keep)


def _computable(values: Tensor) -> Tensor:
    """16-bit numbers in 32 on a CPU, where torch compiles 16-bit products anew for each number of rows."""
    return values.float() if values.device.type == "cpu" and values.element_size() == 2 else values


def _native() -> ModuleType:
    return SPARSE.load("native")


def _tap_matrices(weight: Tensor) -> Float[Tensor, "K C_in C_out"]:
    """The matrix of each tap, as a view."""
    return weight.reshape(weight.shape[0], -1, weight.shape[-1]).permute(1, 2, 0)


def _convolve_pairs(
    features: Tensor, matrices: Tensor, plan: Plan, num_out: int, identity_tap: int, *, is_mirrored: bool = False
) -> Tensor:
    channels_out = matrices.shape[2]
    matrices = matrices.unbind(0)[::-1] if is_mirrored else matrices.unbind(0)
    features = features.contiguous()
    out = features.new_empty(num_out, channels_out)
    most = int(plan.counts.sum(1).max()) if plan.counts.shape[0] else 0
    products = features.new_empty(most, channels_out)
    for chunk in plan.chunks(num_out):
        targets = products[: chunk.in_rows.shape[0]].split(chunk.counts)
        for source, matrix, target in zip(_by_tap(features, chunk.in_rows, chunk.counts), matrices, targets):
            if source.shape[0]:
                torch.mm(source, matrix, out=target)
        sums = torch.embedding_bag(products, chunk.bag_rows, chunk.bag_offsets, include_last_offset=True)[0]
        rows = slice(chunk.start, chunk.stop)
        if identity_tap < 0:
            out[rows] = sums
        else:
            torch.addmm(sums, features[rows], matrices[identity_tap], out=out[rows])
    return out


def _weight_grad_pairs(features: Tensor, grad: Tensor, num_taps: int, plan: Plan, identity_tap: int) -> Tensor:
    total = features.new_zeros(grad.shape[1], num_taps, features.shape[1])
    targets = total.unbind(1)
    for chunk in plan.chunks(grad.shape[0]):
        if identity_tap >= 0:
            rows = slice(chunk.start, chunk.stop)
            targets[identity_tap].addmm_(grad[rows].t(), features[rows])
        sources = _by_tap(features, chunk.in_rows, chunk.counts)
        grads = _by_tap(grad, chunk.out_rows, chunk.counts)
        for source, row_grad, target in zip(sources, grads, targets):
            if source.shape[0]:
                target.addmm_(row_grad.t(), source)
    return total


def _by_tap(values: Tensor, rows: Tensor, counts: list[int]) -> Iterable[Tensor]:
    """The rows of the values that each tap's pairs name, gathered when the tap's turn comes.

    The cache then still holds them for the product.
    """
    return (values.index_select(0, tap_rows) for tap_rows in rows.split(counts))


def _convolve_dense(features: Tensor, matrix: Tensor, num_out: int, neighbourhood: list[Tensor]) -> Tensor:
    out = features.new_empty(num_out, matrix.shape[1])
    for rows, columns in _neighbourhoods(features, neighbourhood):
        torch.mm(columns, matrix, out=out[rows])
    return out


def _weight_grad_dense(features: Tensor, grad: Tensor, num_taps: int, neighbourhood: list[Tensor]) -> Tensor:
    total = features.new_zeros(grad.shape[1], num_taps * features.shape[1])
    for rows, columns in _neighbourhoods(features, neighbourhood):
        total.addmm_(grad[rows].t(), columns)
    return total


def _neighbourhoods(features: Tensor, neighbourhood: list[Tensor]) -> Iterator[tuple[slice, Tensor]]:
    """The features under all taps side by side, zero where there is no voxel, chunk by chunk."""
    padded = torch.nn.functional.pad(features, (0, 0, 0, 1))
    if len(neighbourhood) == 1:
        (table,) = neighbourhood
        num_out, width = table.shape[1], table.shape[0] * features.shape[1]
        step = _ROWS_AT_ONCE_CPU if table.device.type == "cpu" else max(_VALUES_AT_ONCE_ACCELERATOR // width, 1)
        for start in range(0, num_out, step):
            rows = slice(start, min(start + step, num_out))
            index = table[:, rows].t().reshape(-1)
            yield rows, padded.index_select(0, index).view(rows.stop - start, -1)
    else:
        yield from Windows(*neighbourhood).chunks(padded)
