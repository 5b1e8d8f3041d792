"""Everything in training that is not the loop."""

from pointcept.engines.hooks.base import Hook
from pointcept.engines.hooks.checkpoint import CheckpointLoader, CheckpointSaver
from pointcept.engines.hooks.evaluation import EvaluationHook
from pointcept.engines.hooks.information import InformationWriter
from pointcept.engines.hooks.mesh import MeshWriter
from pointcept.engines.hooks.panels import PanelWriter
from pointcept.engines.hooks.snapshots import SnapshotWriter
from pointcept.engines.hooks.tensorboard import TensorBoardWriter
from pointcept.engines.hooks.timer import IterationTimer

__all__ = [
    "CheckpointLoader",
    "CheckpointSaver",
    "EvaluationHook",
    "Hook",
    "InformationWriter",
    "IterationTimer",
    "MeshWriter",
    "PanelWriter",
    "SnapshotWriter",
    "TensorBoardWriter",
]
