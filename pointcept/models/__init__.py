"""Models that configs can name."""

from pointcept.models import backbones, encoders, pretraining

__all__ = ["backbones", "encoders", "pretraining"]
