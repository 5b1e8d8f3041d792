"""Transfer of a pre-trained image backbone: models, losses and evaluators of 2D tasks and of 3D occupancy."""

from ponder2d.transfer.depth import DepthEstimator, DepthEvaluator, ScaleInvariantLogLoss
from ponder2d.transfer.semseg import ImageSegmentationEvaluator, ImageSegmentor

__all__ = [
    "DepthEstimator",
    "DepthEvaluator",
    "ImageSegmentationEvaluator",
    "ImageSegmentor",
    "ScaleInvariantLogLoss",
]
