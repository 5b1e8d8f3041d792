"""Backbones: networks that turn the input features of a point cloud into learned ones, point by point."""

from pointcept.models.backbones.base import Backbone, StageInfo, backbone_names
from pointcept.models.backbones.point_transformer_v3 import (
    LayerNormPointTransformerV3,
    PointTransformerV3,
    ptv3_base,
    ptv3_large,
    ptv3_small,
    ptv3_tiny,
)
from pointcept.models.backbones.sparse_unet import PromptSparseUNet, SparseUNet

__all__ = [
    "Backbone",
    "LayerNormPointTransformerV3",
    "PointTransformerV3",
    "PromptSparseUNet",
    "SparseUNet",
    "StageInfo",
    "backbone_names",
    "ptv3_base",
    "ptv3_large",
    "ptv3_small",
    "ptv3_tiny",
]
