"""Models that configs can name."""

from pointcept.models import backbones, encoders, pretraining, segmentation

__all__ = ["backbones", "encoders", "pretraining", "segmentation"]
