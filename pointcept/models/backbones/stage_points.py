"""The voxels of one resolution as points with the features that a backbone has for them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pointcept.ops.sparse import VoxelSet
from pointcept.structures import PointBatch


def stage_points(
    points: PointBatch, features: Float[Tensor, "V C"], voxels: VoxelSet, voxel_of_point: Int[Tensor, "N"]
) -> PointBatch:
    """One entry of ``Backbone.forward_stages``.

    Args:
        points: The input of the backbone.
        features: One row for each voxel.
        voxels: The occupied voxels of the resolution.
        voxel_of_point: The one that each input point lies in.
    """
    coord = points.coord.new_zeros(len(voxels), 3).index_add(0, voxel_of_point, points.coord)
    count = coord.new_zeros(len(voxels)).index_add(0, voxel_of_point, torch.ones_like(points.coord[:, 0]))
    clouds = torch.bincount(voxels.batch_index, minlength=points.batch_size)
    return PointBatch(
        coord=coord / count[:, None],
        grid_coord=voxels.coord[:, 1:],
        feat=features,
        offset=clouds.cumsum(0),
        condition=points.condition,
    )
