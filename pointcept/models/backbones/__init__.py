"""Backbones: networks that turn the input features of a point cloud into learned ones, point by point."""

from pointcept.models.backbones.sparse_unet import SparseUNet

__all__ = ["SparseUNet"]
