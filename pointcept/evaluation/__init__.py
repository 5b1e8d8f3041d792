"""Figures that say how good predictions are: pure functions, and evaluators that average them over a data set."""

from pointcept.evaluation.image_metrics import depth_errors, psnr, ssim
from pointcept.evaluation.nearest_neighbors import NearestNeighborClassifier
from pointcept.evaluation.rendering import RenderingEvaluator
from pointcept.evaluation.segmentation import SemanticSegmentationEvaluator, confusion_matrix

__all__ = [
    "NearestNeighborClassifier",
    "RenderingEvaluator",
    "SemanticSegmentationEvaluator",
    "confusion_matrix",
    "depth_errors",
    "psnr",
    "ssim",
]
