"""Pooling of sparse tensors: over strided windows, and over whole clouds. Empty voxels never count."""

from jaxtyping import Float
from torch import Tensor

from pointcept.ops.sparse.tensor import SparseTensor


def max_pool(x: SparseTensor, kernel_size: int = 2, stride: int = 2, *, padding: int = 0) -> SparseTensor:
    """Largest value of each channel among the occupied voxels of each window; ties share the gradient."""
    maps = x.voxels.strided(kernel_size, stride, padding)
    in_rows, out_rows = maps.down.pairs
    values = x.features.index_select(0, in_rows)
    index = out_rows[:, None].expand_as(values)
    empty = values.new_zeros(len(maps.voxels), x.num_channels)
    return SparseTensor(empty.scatter_reduce(0, index, values, "amax", include_self=False), maps.voxels)


def mean_pool(x: SparseTensor, kernel_size: int = 2, stride: int = 2, *, padding: int = 0) -> SparseTensor:
    """Mean of each channel over the occupied voxels of each window."""
    maps = x.voxels.strided(kernel_size, stride, padding)
    in_rows, out_rows = maps.down.pairs
    total = x.features.new_zeros(len(maps.voxels), x.num_channels)
    total = total.index_add(0, out_rows, x.features.index_select(0, in_rows))
    count = x.features.new_zeros(len(maps.voxels)).index_add(0, out_rows, x.features.new_ones(out_rows.shape[0]))
    return SparseTensor(total / count[:, None], maps.voxels)


def global_mean_pool(x: SparseTensor) -> Float[Tensor, "B C"]:
    """Mean of each channel over the voxels of each cloud; zero for an empty cloud."""
    clouds = x.voxels.batch_index
    total = x.features.new_zeros(x.voxels.batch_size, x.num_channels).index_add(0, clouds, x.features)
    count = x.features.new_zeros(x.voxels.batch_size).index_add(0, clouds, x.features.new_ones(len(x.voxels)))
    return total / count.clamp(min=1)[:, None]
