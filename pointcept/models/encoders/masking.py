"""Hiding parts of the input, so that the backbone has to infer them."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pointcept.ops import random
from pointcept.registry import MODELS
from pointcept.rendering.schedules import WeightRamp
from pointcept.structures import PointBatch

_MASK_STREAM = 31


@MODELS.register()
class BlockMask(nn.Module):
    """Hides random blocks of voxels (PonderV2, section 3.2).

    Every block of a scene is hidden with the same probability, independently of the others; which ones depends on the
    scene's seed alone.

    Args:
        in_channels: Width of the input features.
        ratio: Probability with which a block is hidden; a number, or a function of the run's progress.
        block_size: Edge of a block, voxels.
        mode: What is hidden. "features": one learned token takes the place of the features; positions stay, so that
            only what the points look like is hidden. "points": the points are removed, and with them the geometry; one
            block of each scene always stays.
    """

    def __init__(
        self,
        in_channels: int,
        ratio: float | WeightRamp = 0.5,
        block_size: int = 8,
        mode: Literal["features", "points"] = "features",
    ) -> None:
        super().__init__()
        for value in (ratio.start, ratio.end) if isinstance(ratio, WeightRamp) else (ratio,):
            if not 0 <= value < 1:
                raise ValueError(f"ratio must be at least 0 and below 1, so that something stays visible: got {value}.")
        if block_size < 1:
            raise ValueError(f"block_size must be at least 1 voxel: got {block_size}.")
        if mode not in ("features", "points"):
            raise ValueError(f"mode must be 'features' or 'points': got {mode!r}.")
        self.ratio = ratio
        self.block_size = block_size
        self.mode = mode
        self.progress: float | None = None
        self.token = None
        if mode == "features":
            self.token = nn.Parameter(nn.init.trunc_normal_(torch.empty(in_channels), std=0.02, a=-0.02, b=0.02))

    def forward(self, points: PointBatch, seed: Tensor) -> PointBatch:
        """The batch with hidden features, or without the hidden points; ``seed`` has one number per scene.

        Raises:
            ValueError: the ratio depends on a progress that is unknown.
        """
        number, ratio = self.hidden(points, seed), self.ratio_now()
        if self.mode == "points":
            largest = number.new_zeros(points.batch_size).scatter_reduce(0, points.batch_index, number, "amax")
            return points.select((number >= ratio) | (number == largest.index_select(0, points.batch_index)))
        hidden = (number < ratio)[:, None]
        return points.replace(feat=torch.where(hidden, self.token.to(points.feat.dtype), points.feat))

    def ratio_now(self) -> float:
        """The probability with which a block is hidden at this point of the run."""
        if not isinstance(self.ratio, WeightRamp):
            return self.ratio
        if self.progress is None:
            raise ValueError(
                "The ratio of the mask changes over the run, so it must be told the progress: got None. "
                "Call set_progress(step / total_steps) before every step."
            )
        return self.ratio(self.progress)

    def set_progress(self, progress: float) -> None:
        """Tell the mask which fraction of the run is done, 0..1; it is no part of the state."""
        self.progress = progress

    def hidden(self, points: PointBatch, seed: Tensor) -> Float[Tensor, "_N"]:
        """A uniform number in [0, 1) for each point, the same for all points of a block."""
        key = random.hash_integers(seed + _MASK_STREAM).index_select(0, points.batch_index)
        block = torch.div(points.grid_coord, self.block_size, rounding_mode="floor")
        for axis in range(3):
            key = random.hash_integers(key ^ block[:, axis])
        return random.to_uniform(key)
