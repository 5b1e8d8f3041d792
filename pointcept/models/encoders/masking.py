"""Hiding parts of the input, so that the backbone has to infer them."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pointcept.ops import random
from pointcept.registry import MODELS
from pointcept.structures import PointBatch

_MASK_STREAM = 31


@MODELS.register()
class BlockMask(nn.Module):
    """Replaces the features of random blocks of voxels by one learned token (PonderV2, section 3.2).

    Positions stay: only what the points look like is hidden. Every block of a scene is hidden with the same
    probability, independently of the others; which ones depends on the scene's seed alone.

    Args:
        in_channels: Width of the input features.
        ratio: Probability with which a block is hidden.
        block_size: Edge of a block, voxels.
    """

    def __init__(self, in_channels: int, ratio: float = 0.5, block_size: int = 8) -> None:
        super().__init__()
        if not 0 <= ratio < 1:
            raise ValueError(f"ratio must be at least 0 and below 1, so that something stays visible: got {ratio}.")
        if block_size < 1:
            raise ValueError(f"block_size must be at least 1 voxel: got {block_size}.")
        self.ratio = ratio
        self.block_size = block_size
        self.token = nn.Parameter(nn.init.trunc_normal_(torch.empty(in_channels), std=0.02, a=-0.02, b=0.02))

    def forward(self, points: PointBatch, seed: Tensor) -> PointBatch:
        """The batch with hidden features; ``seed`` has one number per scene."""
        hidden = self.hidden(points, seed) < self.ratio
        return points.replace(feat=torch.where(hidden[:, None], self.token.to(points.feat.dtype), points.feat))

    def hidden(self, points: PointBatch, seed: Tensor) -> Float[Tensor, "_N"]:
        """A uniform number in [0, 1) for each point, the same for all points of a block."""
        key = random.hash_integers(seed + _MASK_STREAM).index_select(0, points.batch_index)
        block = torch.div(points.grid_coord, self.block_size, rounding_mode="floor")
        for axis in range(3):
            key = random.hash_integers(key ^ block[:, axis])
        return random.to_uniform(key)
