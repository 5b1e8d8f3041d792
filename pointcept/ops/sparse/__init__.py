"""Sparse tensors, convolutions and pooling in plain torch, on any device."""

from pointcept.ops.sparse.layers import SparseConv3d, SparseInverseConv3d, SubMConv3d
from pointcept.ops.sparse.pooling import global_mean_pool, max_pool, mean_pool
from pointcept.ops.sparse.tensor import SparseTensor, voxelize
from pointcept.ops.sparse.voxels import VoxelSet

__all__ = [
    "SparseConv3d",
    "SparseInverseConv3d",
    "SparseTensor",
    "SubMConv3d",
    "VoxelSet",
    "global_mean_pool",
    "max_pool",
    "mean_pool",
    "voxelize",
]
