"""Sparse convolution layers with the weight layout of spconv 2.x, so that its checkpoints load unchanged."""

import math

import torch
from torch import Tensor, nn

from pointcept.ops.sparse.convolution import sparse_convolution
from pointcept.ops.sparse.tensor import SparseTensor
from pointcept.ops.sparse.voxels import VoxelSet


class _SparseConvolutionLayer(nn.Module):
    """Weight ``(out, kx, ky, kz, in)``, bias, and what all layers check and initialise alike.

    Weights start uniform with the variance 1 / (3 * fan_in), torch's default for convolutions; ``fan_in`` is the number
    of inputs that one output can have.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, bias: bool, taps_per_output: int):
        super().__init__()
        if min(in_channels, out_channels, kernel_size) < 1:
            raise ValueError(
                "A sparse convolution needs positive sizes: got "
                f"in_channels={in_channels}, out_channels={out_channels}, kernel_size={kernel_size}."
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self._fan_in = in_channels * taps_per_output
        self.weight = nn.Parameter(torch.empty(out_channels, kernel_size, kernel_size, kernel_size, in_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights and biases."""
        bound = 1 / math.sqrt(self._fan_in)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, bias={self.bias is not None}"

    def _check(self, x: SparseTensor) -> None:
        if x.num_channels != self.in_channels:
            raise ValueError(
                f"{type(self).__name__} needs {self.in_channels} input channels: got features of shape "
                f"{tuple(x.features.shape)}. Set in_channels to the width of the features."
            )

    def _add_bias(self, features: Tensor) -> Tensor:
        return features if self.bias is None else features + self.bias.to(features.dtype)


class SubMConv3d(_SparseConvolutionLayer):
    """Submanifold convolution: outputs on the input's voxels, the kernel centred on each.

    A kernel of size 1 reads the memory of its weight as an ``(in, out)`` matrix. spconv does so, and the field's
    checkpoints hold weights trained that way.

    Source: written from the paper, arXiv 1711.10275; weight layout of spconv 2.x.

    Args:
        in_channels: Width of the input features.
        out_channels: Width of the output features.
        kernel_size: Odd edge of the cubic kernel, in voxels.
        bias: Whether to add a learned value per channel.

    Raises:
        ValueError: a size is not positive, or the kernel is even (when applied).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, *, bias: bool = True):
        super().__init__(in_channels, out_channels, kernel_size, bias=bias, taps_per_output=kernel_size**3)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features of every voxel from those around it."""
        self._check(x)
        if self.kernel_size == 1:
            return x.replace(self._add_bias(x.features @ self.weight.view(self.in_channels, self.out_channels)))
        kernel_map = x.voxels.neighbours(self.kernel_size)
        return x.replace(self._add_bias(sparse_convolution(x.features, self.weight, kernel_map, None)))


class SparseConv3d(_SparseConvolutionLayer):
    """Strided convolution: output voxel o sees the input voxels from ``o * stride - padding`` on.

    The grid has no bounds: every output whose kernel meets an occupied voxel exists, also at negative indices.

    Args:
        in_channels: Width of the input features.
        out_channels: Width of the output features.
        kernel_size: Edge of the cubic kernel, in input voxels.
        stride: Edge of an output voxel, in input voxels.
        padding: Shift of the kernel towards lower indices, in input voxels.
        bias: Whether to add a learned value per channel.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 2,
        stride: int = 2,
        *,
        padding: int = 0,
        bias: bool = True,
    ):
        super().__init__(in_channels, out_channels, kernel_size, bias=bias, taps_per_output=kernel_size**3)
        self.stride = stride
        self.padding = padding

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features of the coarse voxels."""
        self._check(x)
        maps = x.voxels.strided(self.kernel_size, self.stride, self.padding)
        return SparseTensor(
            self._add_bias(sparse_convolution(x.features, self.weight, maps.down, maps.up)), maps.voxels
        )


class SparseInverseConv3d(_SparseConvolutionLayer):
    """Transposed convolution back onto the voxels that a strided convolution started from, over the same pairs.

    Args:
        in_channels: Width of the input features.
        out_channels: Width of the output features.
        kernel_size: That of the strided convolution.
        stride: That of the strided convolution.
        padding: That of the strided convolution.
        bias: Whether to add a learned value per channel.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 2,
        stride: int = 2,
        *,
        padding: int = 0,
        bias: bool = True,
    ):
        taps_per_output = math.ceil(kernel_size / max(stride, 1)) ** 3
        super().__init__(in_channels, out_channels, kernel_size, bias=bias, taps_per_output=taps_per_output)
        self.stride = stride
        self.padding = padding

    def forward(self, x: SparseTensor, fine: VoxelSet) -> SparseTensor:
        """Features of the fine voxels.

        Args:
            x: Features on the coarse voxels that ``fine`` leads to.
            fine: The voxels that the strided convolution was applied to.

        Raises:
            ValueError: ``x`` does not lie on the coarse voxels of ``fine``.
        """
        self._check(x)
        maps = fine.strided(self.kernel_size, self.stride, self.padding)
        if maps.voxels is not x.voxels:
            raise ValueError(
                f"SparseInverseConv3d must return to the voxels that its input came from: got {len(x.voxels)} voxels "
                f"that are not the coarse ones of the given {len(fine)} under kernel_size={self.kernel_size}, "
                f"stride={self.stride}, padding={self.padding}. Pass the voxels of the matching SparseConv3d's input."
            )
        return SparseTensor(self._add_bias(sparse_convolution(x.features, self.weight, maps.up, maps.down)), fine)
