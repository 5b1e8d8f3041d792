"""Semantic segmentation of point clouds: the model and its losses."""

from pointcept.models.segmentation.lora_segmentor import LoRASegmentor
from pointcept.models.segmentation.losses import (
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    LovaszLoss,
    SegmentationLoss,
)
from pointcept.models.segmentation.segmentor import Segmentor
from pointcept.models.segmentation.stage_decoder import StageDecoder

__all__ = [
    "CrossEntropyLoss",
    "DiceLoss",
    "FocalLoss",
    "LoRASegmentor",
    "LovaszLoss",
    "SegmentationLoss",
    "Segmentor",
    "StageDecoder",
]
