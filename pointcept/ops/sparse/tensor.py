"""Features on the occupied voxels of a batch."""

import dataclasses

from jaxtyping import Float, Int
from torch import Tensor

from pointcept.ops.sparse.voxels import VoxelSet


@dataclasses.dataclass(frozen=True)
class SparseTensor:
    """One row of features for each occupied voxel. Layers return new tensors; nothing is changed in place.

    Attributes:
        features: Row i belongs to voxel i of ``voxels``.
        voxels: Where the rows lie, with the kernel maps that all tensors on these voxels share.
    """

    features: Float[Tensor, "_V _C"]
    voxels: VoxelSet

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or self.features.shape[0] != len(self.voxels):
            raise ValueError(
                f"features must have one row for each of the {len(self.voxels)} voxels: got "
                f"{tuple(self.features.shape)}. Use voxelize to make a tensor from points."
            )

    @property
    def coord(self) -> Int[Tensor, "_V 4"]:
        """Cloud, x, y and z index of each voxel."""
        return self.voxels.coord

    @property
    def num_channels(self) -> int:
        """C."""
        return self.features.shape[1]

    def replace(self, features: Float[Tensor, "_V _D"]) -> "SparseTensor":
        """Other features on the same voxels."""
        return SparseTensor(features, self.voxels)


def voxelize(
    feat: Float[Tensor, "N C"], grid_coord: Int[Tensor, "N 3"], batch_index: Int[Tensor, "N"], batch_size: int
) -> tuple[SparseTensor, Int[Tensor, "N"]]:
    """Points on the grid, and the voxel of each point, with which results are read back: ``features[voxel_of_point]``.

    Points that share a voxel are averaged, so that the order of the points has no effect.

    Args:
        feat: Features of the points.
        grid_coord: Voxel index of each point; may be negative.
        batch_index: Cloud of each point; the points of a cloud need not lie together.
        batch_size: Number of clouds; clouds may be empty.

    Raises:
        ValueError: see :meth:`VoxelSet.from_points`.
    """
    voxels, voxel_of_point = VoxelSet.from_points(grid_coord, batch_index, batch_size)
    total = feat.new_zeros(len(voxels), feat.shape[1]).index_add(0, voxel_of_point, feat)
    ones = feat.new_ones(feat.shape[0])
    count = feat.new_zeros(len(voxels)).index_add(0, voxel_of_point, ones)
    return SparseTensor(total / count[:, None], voxels), voxel_of_point
