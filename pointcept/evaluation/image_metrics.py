"""Errors of rendered images and depth maps against measured ones, one figure per view."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from skimage.metrics import structural_similarity
from torch import Tensor

MAX_PSNR_DB = 100.0
"""Value of a view that is reproduced exactly, so that the average over views stays finite."""

SSIM_WINDOW_PX = 11
"""Edge of the Gaussian window; smaller views have no structural similarity."""


class DepthErrors(NamedTuple):
    """Errors of one depth map each; zero where ``num_pixels`` is zero.

    Attributes:
        abs_rel: Mean of |pred - target| / target.
        rmse: Root of the mean squared difference, metres.
        delta1: Fraction of pixels with max(pred / target, target / pred) < 1.25.
        delta2: The same with 1.25^2.
        delta3: The same with 1.25^3.
        num_pixels: Number of pixels that the figures average over.
    """

    abs_rel: Float[Tensor, "_B _V"]
    rmse: Float[Tensor, "_B _V"]
    delta1: Float[Tensor, "_B _V"]
    delta2: Float[Tensor, "_B _V"]
    delta3: Float[Tensor, "_B _V"]
    num_pixels: Int[Tensor, "_B _V"]


def inside_view(size_px: Int[Tensor, "B V 2"], height: int, width: int) -> Bool[Tensor, "B V {height} {width}"]:
    """Whether a pixel belongs to its view, not to the padding; false everywhere in a view that the scene lacks.

    Args:
        size_px: Height and width of each view before padding.
        height: Number of rows after padding.
        width: Number of columns after padding.
    """
    rows = torch.arange(height, device=size_px.device) < size_px[..., 0, None]
    columns = torch.arange(width, device=size_px.device) < size_px[..., 1, None]
    return rows[..., :, None] & columns[..., None, :]


def psnr(
    pred: Float[Tensor, "B V 3 H W"], target: Float[Tensor, "B V 3 H W"], mask: Bool[Tensor, "B V H W"]
) -> Float[Tensor, "B V"]:
    """Peak signal-to-noise ratio of each view in decibels: -10 log10(mean squared error), for colours in 0..1.

    The mean runs over the three channels of the pixels in the mask. It is held to at least 1e-10, which limits the
    result to ``MAX_PSNR_DB``; a view without any pixel gets that limit too and must not be averaged.

    Args:
        pred: Rendered colour, RGB, 0..1.
        target: Measured colour, RGB, 0..1.
        mask: Pixels that count.
    Source: Huynh-Thu and Ghanbari, Scope of Validity of PSNR in Image/Video Quality Assessment, 2008, eq. 1, with the
        peak value 1.
    """
    squared = torch.where(mask[:, :, None], pred - target, 0.0).double().square()
    mean = squared.sum(dim=(2, 3, 4)) / (3 * mask.sum(dim=(2, 3))).clamp(min=1)
    return (-10 * mean.clamp(min=10 ** (-MAX_PSNR_DB / 10)).log10()).to(pred.dtype)


def ssim(pred: Float[np.ndarray, "H W 3"], target: Float[np.ndarray, "H W 3"]) -> float:
    """Structural similarity of one view, at most 1, averaged over pixels and channels.

    The window is a Gaussian of 1.5 pixels cut off at 11 x 11, the variances are those of the population, and pixels
    whose window leaves the image do not count, all as in the paper.

    Args:
        pred: Rendered colour, RGB, 0..1.
        target: Measured colour, RGB, 0..1.
    Raises:
        ValueError: the view is smaller than the window.
    Source: Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, 2004; computed by
        scikit-image.
    """
    if min(target.shape[:2]) < SSIM_WINDOW_PX:
        raise ValueError(
            f"Structural similarity needs views of at least {SSIM_WINDOW_PX} x {SSIM_WINDOW_PX} pixels: got "
            f"{target.shape[0]} x {target.shape[1]}. Leave smaller views out."
        )
    return float(
        structural_similarity(
            pred, target, data_range=1.0, channel_axis=2, gaussian_weights=True, use_sample_covariance=False
        )
    )


def depth_errors(
    pred: Float[Tensor, "B V H W"], target: Float[Tensor, "B V H W"], mask: Bool[Tensor, "B V H W"]
) -> DepthErrors:
    """AbsRel, RMSE and delta < 1.25, 1.25^2, 1.25^3 of each view over its pixels with measured depth.

    No pixel is left out because of what was predicted: a predicted depth of 0 has an AbsRel of 1.

    Args:
        pred: Rendered z-depth, metres.
        target: Measured z-depth, metres, 0 = missing.
        mask: Pixels that belong to the view.
    Source: Eigen et al., Depth Map Prediction from a Single Image using a Multi-Scale Deep Network, 2014, section 4.
    """
    measured = mask & (target > 0)
    count = measured.sum(dim=(2, 3))
    safe_target = torch.where(measured, target, 1.0).double()
    safe_pred = torch.where(measured, pred, 1.0).double()
    difference = safe_pred - safe_target  # zero where nothing was measured

    def mean(value: Tensor) -> Tensor:
        return value.sum(dim=(2, 3)) / count.clamp(min=1)

    def within(factor: float) -> Tensor:
        close = measured & (safe_pred < factor * safe_target) & (safe_target < factor * safe_pred)
        return mean(close.double())

    deltas = [within(1.25**power) for power in (1, 2, 3)]
    figures = (mean(difference.abs() / safe_target), mean(difference.square()).sqrt(), *deltas)
    return DepthErrors(*(figure.to(pred.dtype) for figure in figures), num_pixels=count)


def mean_color(target: Float[Tensor, "B V 3 H W"], mask: Bool[Tensor, "B V H W"]) -> Float[Tensor, "B V 3 H W"]:
    """Every pixel of a view replaced by the view's own mean colour over the mask: the best constant prediction."""
    total = torch.where(mask[:, :, None], target, 0.0).sum(dim=(3, 4), keepdim=True)
    return (total / mask.sum(dim=(2, 3)).clamp(min=1)[:, :, None, None, None]).expand_as(target)


def mean_depth(target: Float[Tensor, "B V H W"], mask: Bool[Tensor, "B V H W"]) -> Float[Tensor, "B V H W"]:
    """Every pixel of a view replaced by the mean of the view's own measured depths, metres; 0 where there is none."""
    measured = mask & (target > 0)
    total = torch.where(measured, target, 0.0).sum(dim=(2, 3), keepdim=True)
    return (total / measured.sum(dim=(2, 3), keepdim=True).clamp(min=1)).expand_as(target)
