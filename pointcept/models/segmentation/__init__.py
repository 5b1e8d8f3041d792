"""Semantic segmentation of point clouds: the model and its losses."""

from pointcept.models.segmentation.losses import (
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    LovaszLoss,
    SegmentationLoss,
)
from pointcept.models.segmentation.segmentor import Segmentor

__all__ = ["CrossEntropyLoss", "DiceLoss", "FocalLoss", "LovaszLoss", "SegmentationLoss", "Segmentor"]
