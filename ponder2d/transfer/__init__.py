"""Transfer of a pre-trained image backbone: models, losses and evaluators of 2D tasks and of 3D occupancy."""

from ponder2d.transfer.depth import DepthEstimator, DepthEvaluator, ScaleInvariantLogLoss
from ponder2d.transfer.normals import NormalEstimator, NormalEvaluator, plane_normals
from ponder2d.transfer.occupancy import OccupancyEvaluator, OccupancyPredictor, occupancy_labels
from ponder2d.transfer.panels import TaskPanelWriter, task_panels
from ponder2d.transfer.semseg import ImageSegmentationEvaluator, ImageSegmentor

__all__ = [
    "DepthEstimator",
    "DepthEvaluator",
    "ImageSegmentationEvaluator",
    "ImageSegmentor",
    "NormalEstimator",
    "NormalEvaluator",
    "OccupancyEvaluator",
    "OccupancyPredictor",
    "ScaleInvariantLogLoss",
    "TaskPanelWriter",
    "occupancy_labels",
    "plane_normals",
    "task_panels",
]
