"""Figures that say how good predictions are: pure functions, and evaluators that average them over a data set."""

from pointcept.evaluation.image_metrics import depth_errors, psnr, ssim
from pointcept.evaluation.rendering import RenderingEvaluator

__all__ = ["RenderingEvaluator", "depth_errors", "psnr", "ssim"]
