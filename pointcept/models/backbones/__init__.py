"""Backbones: networks that turn the input features of a point cloud into learned ones, point by point."""

from pointcept.models.backbones.base import Backbone, StageInfo, backbone_names
from pointcept.models.backbones.sparse_unet import SparseUNet

__all__ = ["Backbone", "SparseUNet", "StageInfo", "backbone_names"]
