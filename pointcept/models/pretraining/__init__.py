"""Pre-training methods."""

from pointcept.models.pretraining.ponder import Ponder
from pointcept.models.pretraining.teacher import TimmTeacher

__all__ = ["Ponder", "TimmTeacher"]
