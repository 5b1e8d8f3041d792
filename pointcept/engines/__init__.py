"""Training: the loop, its hooks, checkpoints, optimizers and schedules, and starting the processes of a run."""

from pointcept.engines.hooks import Hook
from pointcept.engines.loop import Trainer
from pointcept.engines.trainer import build_trainer

__all__ = ["Hook", "Trainer", "build_trainer"]
