"""Pre-training methods."""

from pointcept.models.pretraining.ponder import Ponder

__all__ = ["Ponder"]
