"""Semantic segmentation of point clouds: the model and its losses."""

from pointcept.models.segmentation.dataset_heads import DatasetHeads, DecoupledHeads, LanguageHeads
from pointcept.models.segmentation.lora_segmentor import LoRASegmentor
from pointcept.models.segmentation.losses import (
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    LovaszLoss,
    SegmentationLoss,
    segmentation_losses,
)
from pointcept.models.segmentation.prompt_segmentor import DecoupledPromptSegmentor, LanguagePromptSegmentor
from pointcept.models.segmentation.segmentor import Segmentor
from pointcept.models.segmentation.stage_decoder import StageDecoder

__all__ = [
    "CrossEntropyLoss",
    "DatasetHeads",
    "DecoupledHeads",
    "DecoupledPromptSegmentor",
    "DiceLoss",
    "FocalLoss",
    "LanguageHeads",
    "LanguagePromptSegmentor",
    "LoRASegmentor",
    "LovaszLoss",
    "SegmentationLoss",
    "Segmentor",
    "StageDecoder",
    "segmentation_losses",
]
