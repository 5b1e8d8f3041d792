"""The interface of lifting: feature maps of posed views to one feature volume per scene."""

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pointcept.structures import CameraBatch, FeatureVolume
from pointcept.structures.volume import axis_values
from ponder2d.depth import DepthDistribution


class ViewTransform(nn.Module):
    """Brings feature maps of posed views into a volume. Both schemes are one product with a sparse matrix."""

    needs_depth: bool

    @abstractmethod
    def forward(
        self,
        features: Float[Tensor, "B V C h w"],
        depth: DepthDistribution | None,
        cameras: CameraBatch,
        box: Float[Tensor, "B 2 3"],
        grid_shape: tuple[int, int, int],
    ) -> FeatureVolume:
        """The volume; ``occupied`` tells which voxels got anything. Voxels that no view sees are zero.

        Args:
            features: One map per view; it covers the padded image evenly.
            depth: Depth distribution of the same pixels.
            cameras: The views. Absent views and padding contribute nothing.
            box: Outer faces of the grid of each scene, metres.
            grid_shape: Voxels along x, y and z.
        """
        raise NotImplementedError


def feature_rows(features: Float[Tensor, "B V C h w"]) -> Float[Tensor, "R C"]:
    """One row per pixel, in the order b, v, row, column."""
    return features.permute(0, 1, 3, 4, 2).reshape(-1, features.shape[2])


def to_volume(
    rows: Float[Tensor, "R C"], box: Float[Tensor, "B 2 3"], grid_shape: tuple[int, int, int], seen: Tensor
) -> FeatureVolume:
    """Rows in the order b, z, y, x as a volume, channels-last."""
    size_x, size_y, size_z = grid_shape
    shape = (box.shape[0], size_z, size_y, size_x)
    return FeatureVolume(features=rows.view(*shape, -1).permute(0, 4, 1, 2, 3), box=box, occupied=seen.view(shape))


def voxel_centers(box: Float[Tensor, "B 2 3"], grid_shape: tuple[int, int, int]) -> Float[Tensor, "B N 3"]:
    """Centres of the voxels in the order z, y, x, metres, world frame."""
    axes = [torch.arange(size, device=box.device, dtype=box.dtype) for size in reversed(grid_shape)]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    index = torch.stack((x, y, z), dim=-1).reshape(1, -1, 3)
    voxel = (box[:, 1] - box[:, 0]) / axis_values(grid_shape, box)
    return box[:, None, 0] + (index + 0.5) * voxel[:, None]


def map_scale(cameras: CameraBatch, features: Tensor) -> tuple[float, float]:
    """Pixels of the padded image per pixel of the feature map, along columns and rows.

    Raises:
        ValueError: features and cameras are of different scenes or views.
    """
    if features.shape[:2] != cameras.image.shape[:2]:
        raise ValueError(
            f"Feature maps must belong to the cameras' views: got {tuple(features.shape[:2])} scenes and views for "
            f"cameras of {tuple(cameras.image.shape[:2])}. Encode the same views."
        )
    height, width = cameras.image.shape[-2:]
    return width / features.shape[-1], height / features.shape[-2]
