"""The arithmetic of sparse convolution, forward and backward, in plain torch.

For each chunk of output rows the inputs of all pairs are gathered once, each tap multiplies its slice by its matrix,
and a segment sum adds up the products of every output row: no scattered writes, every result written once, and the
same sums in the same order each time. Layers with few input channels gather the whole neighbourhood instead, missing
voxels as zeros, and multiply once.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from pointcept.ops.sparse.kernel_map import KernelMap

# Up to this many input channels the products would take more memory traffic than gathering zeros.
_MAX_CHANNELS_DENSE = 8


def sparse_convolution(
    features: Float[Tensor, "N C_in"],
    weight: Float[Tensor, "C_out kx ky kz C_in"],
    forward_map: KernelMap,
    backward_map: KernelMap | None,
) -> Float[Tensor, "V C_out"]:
    """Sum over the taps of the features met under the tap, times the tap's matrix.

    Follows autocast. First derivatives only.

    Args:
        features: One row per input voxel.
        weight: spconv 2.x's layout.
        forward_map: Which input row each output row meets under each tap.
        backward_map: The same pairs seen from the inputs; None where opposite taps hold opposite pairs, as they do for
            a kernel centred on its voxel.
    """
    device_type = features.device.type
    if torch.is_autocast_enabled(device_type):
        dtype = torch.get_autocast_dtype(device_type)
        features, weight = features.to(dtype), weight.to(dtype)
    return _SparseConvolution.apply(features, weight, forward_map, backward_map)


class _SparseConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, features: Tensor, weight: Tensor, forward_map: KernelMap, backward_map: KernelMap | None
    ) -> Tensor:
        features = features.contiguous()
        ctx.save_for_backward(features, weight)
        ctx.forward_map, ctx.backward_map = forward_map, backward_map
        if features.shape[1] <= _MAX_CHANNELS_DENSE:
            return _convolve_dense(features, weight, forward_map)
        return _convolve_pairs(features, _tap_matrices(weight), forward_map)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        features, weight = ctx.saved_tensors
        grad = grad.contiguous()
        grad_features = grad_weight = None
        if ctx.needs_input_grad[0]:
            transposed = [matrix.t() for matrix in _tap_matrices(weight)]
            if ctx.backward_map is None:
                grad_features = _convolve_pairs(grad, transposed[::-1], ctx.forward_map)
            else:
                grad_features = _convolve_pairs(grad, transposed, ctx.backward_map)
        if ctx.needs_input_grad[1]:
            accumulate = _weight_grad_dense if features.shape[1] <= _MAX_CHANNELS_DENSE else _weight_grad_pairs
            grad_weight = accumulate(features, grad, ctx.forward_map).view(weight.shape)
        return grad_features, grad_weight, None, None


def _tap_matrices(weight: Tensor) -> list[Tensor]:
    """The (in, out) matrix of each tap, as views."""
    return list(weight.reshape(weight.shape[0], -1, weight.shape[-1]).permute(1, 2, 0).unbind(0))


def _convolve_pairs(features: Tensor, matrices: list[Tensor], kernel_map: KernelMap) -> Tensor:
    channels_in, channels_out = matrices[0].shape
    out = features.new_empty(kernel_map.num_out, channels_out)
    most = max((chunk.in_rows.shape[0] for chunk in kernel_map.chunks), default=0)
    gathered, products = features.new_empty(most, channels_in), features.new_empty(most, channels_out)
    for chunk in kernel_map.chunks:
        count = chunk.in_rows.shape[0]
        torch.index_select(features, 0, chunk.in_rows, out=gathered[:count])
        sources, targets = gathered[:count].split(chunk.counts), products[:count].split(chunk.counts)
        for source, matrix, target in zip(sources, matrices, targets):
            if source.shape[0]:
                torch.mm(source, matrix, out=target)
        sums = torch.embedding_bag(products, chunk.bag_rows, chunk.bag_offsets, include_last_offset=True)[0]
        rows = slice(chunk.start, chunk.stop)
        if kernel_map.identity_tap is None:
            out[rows] = sums
        else:
            torch.addmm(sums, features[rows], matrices[kernel_map.identity_tap], out=out[rows])
    return out


def _weight_grad_pairs(features: Tensor, grad: Tensor, kernel_map: KernelMap) -> Tensor:
    total = features.new_zeros(grad.shape[1], kernel_map.num_taps, features.shape[1])
    targets = total.unbind(1)
    for chunk in kernel_map.chunks:
        if kernel_map.identity_tap is not None:
            rows = slice(chunk.start, chunk.stop)
            targets[kernel_map.identity_tap].addmm_(grad[rows].t(), features[rows])
        sources = features.index_select(0, chunk.in_rows).split(chunk.counts)
        grads = grad.index_select(0, chunk.out_rows).split(chunk.counts)
        for source, row_grad, target in zip(sources, grads, targets):
            if source.shape[0]:
                target.addmm_(row_grad.t(), source)
    return total


def _convolve_dense(features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    matrix = weight.reshape(weight.shape[0], -1).t()
    out = features.new_empty(kernel_map.num_out, weight.shape[0])
    for rows, columns in _neighbourhoods(features, kernel_map):
        torch.mm(columns, matrix, out=out[rows])
    return out


def _weight_grad_dense(features: Tensor, grad: Tensor, kernel_map: KernelMap) -> Tensor:
    total = features.new_zeros(grad.shape[1], kernel_map.num_taps * features.shape[1])
    for rows, columns in _neighbourhoods(features, kernel_map):
        total.addmm_(grad[rows].t(), columns)
    return total


def _neighbourhoods(features: Tensor, kernel_map: KernelMap):
    """The features under all taps side by side, zero where there is no voxel, chunk by chunk."""
    padded = torch.nn.functional.pad(features, (0, 0, 0, 1))
    for start in range(0, kernel_map.num_out, kernel_map.chunk_rows):
        rows = slice(start, min(start + kernel_map.chunk_rows, kernel_map.num_out))
        index = kernel_map.table[:, rows].t().reshape(-1)
        yield rows, padded.index_select(0, index).view(rows.stop - start, -1)
