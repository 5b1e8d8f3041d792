"""A decoder that works on top of any backbone: it joins the features of all resolutions at every point."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pointcept.models.backbones.base import Backbone
from pointcept.ops.sparse.voxels import VoxelSet
from pointcept.structures import PointBatch


class StageDecoder(nn.Module):
    """Every resolution's features of a point through a linear map each; their sum through a norm and an MLP.

    What each point gets is the hyper-column of Hariharan et al. (CVPR 2015), with the linear map over all levels
    computed per voxel, before it is spread over the points.

    Args:
        backbone: Gives the features of its stages; not a part of the decoder.
        channels: Width; None leaves norm and MLP out, which makes a linear layer on the hyper-column.
        num_classes: Number of logits.
        normalize: Put a batch norm without weights before each linear map.
    """

    def __init__(self, backbone: Backbone, channels: int | None, num_classes: int, normalize: bool = False) -> None:
        super().__init__()
        self.strides = tuple(info.stride for info in backbone.stage_info)
        widths = [info.channels for info in backbone.stage_info]
        self.norms = nn.ModuleList(feature_norm(width) for width in widths) if normalize else None
        self.proj = nn.ModuleList(nn.Linear(width, channels or num_classes) for width in widths)
        self.mlp = (
            nn.Identity()
            if channels is None
            else nn.Sequential(
                nn.LayerNorm(channels), nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, num_classes)
            )
        )

    def forward(self, points: PointBatch, stages: list[PointBatch]) -> Float[Tensor, "N K"]:
        """Logits of the points.

        Args:
            points: The input of the backbone.
            stages: What its ``forward_stages`` gave for them.
        """
        total = None
        norms = self.norms or [nn.Identity()] * len(stages)
        for stage, stride, norm, proj in zip(stages, self.strides, norms, self.proj, strict=True):
            spread = proj(norm(stage.feat)).index_select(0, _rows(points, stage, stride))
            total = spread if total is None else total + spread
        return self.mlp(total)


def feature_norm(channels: int) -> nn.BatchNorm1d:
    """A batch norm without weights, which makes a linear probe independent of the scale of the features.

    Source: MAE, arXiv 2111.06377, appendix A.1. Epsilon is as small as features of untrained backbones need.
    """
    return nn.BatchNorm1d(channels, eps=1e-12, affine=False)


def _rows(points: PointBatch, stage: PointBatch, stride: int) -> Tensor:
    """The row of ``stage`` that each point lies in."""
    grid_coord = torch.cat([stage.grid_coord, torch.div(points.grid_coord, stride, rounding_mode="floor")])
    batch_index = torch.cat([stage.batch_index, points.batch_index])
    _, voxel = VoxelSet.from_points(grid_coord, batch_index, points.batch_size)
    row_of_voxel = torch.empty_like(voxel)
    row_of_voxel[voxel[: stage.num_points]] = torch.arange(stage.num_points, device=voxel.device)
    return row_of_voxel.index_select(0, voxel[stage.num_points :])
