"""Small backbones, and two small scenes with labels."""

import torch

from pointcept.models.backbones import PointTransformerV3, SparseUNet
from pointcept.structures import PointBatch, SceneBatch

TRANSFORMER = {
    "order": ("z",),
    "stride": (2,),
    "enc_depths": (1, 1),
    "enc_channels": (8, 12),
    "enc_num_head": (2, 3),
    "enc_patch_size": (16, 16),
    "dec_depths": (1,),
    "dec_channels": (6,),
    "dec_num_head": (2,),
    "dec_patch_size": (16,),
    "drop_path": 0.3,
}


def unet(**changes) -> SparseUNet:
    return SparseUNet(3, **{"base_channels": 4, "channels": (4, 6, 6, 5), "layers": (1, 1, 1, 1), **changes})


def transformer(**changes) -> PointTransformerV3:
    return PointTransformerV3(3, **{**TRANSFORMER, **changes})


def scenes(seed: int = 0, num_classes: int = 4) -> SceneBatch:
    """Two clouds of different size with labels, of which some are -1."""
    generator = torch.Generator().manual_seed(seed)
    grid_coord = torch.randint(0, 12, (90, 3), generator=generator)
    points = PointBatch(
        coord=grid_coord * 0.1,
        grid_coord=grid_coord,
        feat=torch.rand(90, 3, generator=generator),
        offset=torch.tensor([60, 90]),
        segment=torch.randint(-1, num_classes, (90,), generator=generator),
    )
    return SceneBatch(seed=torch.tensor([1, 2]), name=("a", "b"), points=points)
