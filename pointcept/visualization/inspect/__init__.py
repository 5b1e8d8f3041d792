"""Looking into a rendering pre-training: pages that show what a model renders, and why."""

from pointcept.visualization.inspect.experiment import Checkpoint, Experiment, find_checkpoints, open_experiment
from pointcept.visualization.inspect.report import inspect_experiment

__all__ = ["Checkpoint", "Experiment", "find_checkpoints", "inspect_experiment", "open_experiment"]
