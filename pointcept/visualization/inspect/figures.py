"""Figures and colours of rendered views: errors against the measured ones, and features as pictures."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8

from pointcept.evaluation.image_metrics import depth_errors, psnr
from pointcept.visualization.inspect.measure import ViewPictures


class FeatureColors:
    """The three directions in which features differ most, as red, green and blue (principal component analysis).

    Features are normalised first, as only their directions are trained. The second and 98th percentile of each
    component become 0 and 1. All pictures that are to be compared must share one instance.

    Args:
        features: What the directions are taken from; all-zero rows are none.

    Raises:
        ValueError: there are none.
    """

    def __init__(self, features: Sequence[Float[np.ndarray, "_H _W F"]]) -> None:
        rows = np.concatenate([_directions(feature).reshape(-1, feature.shape[-1]) for feature in features])
        rows = rows[np.any(rows != 0, axis=1)]
        if len(rows) == 0:
            raise ValueError("Colours of features need at least one that is not zero: got none. Check the rendering.")
        self._mean = rows.mean(axis=0)
        centered = rows - self._mean
        _, vectors = np.linalg.eigh(centered.T @ centered)
        axes = vectors[:, ::-1][:, :3]
        axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])  # eigh leaves the sign open
        self._axes = np.pad(axes, ((0, 0), (0, 3 - axes.shape[1])))
        self._lower, self._upper = np.percentile(centered @ self._axes, (2, 98), axis=0)

    def __call__(self, feature: Float[np.ndarray, "H W F"]) -> Float[np.ndarray, "H W 3"]:
        """Colours, 0..1; black where there is no feature."""
        directions = _directions(feature)
        value = (directions - self._mean) @ self._axes
        value = (value - self._lower) / np.maximum(self._upper - self._lower, 1e-9)
        return np.where(np.any(directions != 0, axis=-1, keepdims=True), value.clip(0, 1), 0.0)


def view_figures(rendered: ViewPictures, measured: ViewPictures) -> dict[str, float]:
    """How far one rendered view is from the measured one.

    Returns:
        ``psnr`` (dB); with measured depth ``abs_rel``, ``rmse`` (metres) and ``delta1`` (fraction); with measured
        normals ``normal_deg``, the mean angle in degrees; with both features ``feature_cosine``, the mean cosine.
    """
    inside = torch.ones((1, 1, *rendered.depth.shape), dtype=torch.bool)
    color, target = (torch.from_numpy(view.color).permute(2, 0, 1)[None, None] for view in (rendered, measured))
    figures = {"psnr": float(psnr(color, target, inside))}
    depth = depth_errors(*(torch.from_numpy(view.depth)[None, None] for view in (rendered, measured)), inside)
    if int(depth.num_pixels):
        figures |= {name: float(getattr(depth, name)) for name in ("abs_rel", "rmse", "delta1")}
    angle = normal_error(rendered, measured)
    if np.isfinite(angle).any():
        figures["normal_deg"] = float(np.nanmean(angle))
    cosine = feature_cosine(rendered, measured)
    if cosine is not None and np.isfinite(cosine).any():
        figures["feature_cosine"] = float(np.nanmean(cosine))
    return figures


def normal_error(rendered: ViewPictures, measured: ViewPictures) -> Float[np.ndarray, "_H _W"]:
    """Angle between rendered and measured normals, degrees; not a number where either is missing."""
    both = np.any(rendered.normal != 0, axis=-1) & np.any(measured.normal != 0, axis=-1)
    cosine = (rendered.normal * measured.normal).sum(axis=-1)
    return np.where(both, np.degrees(np.arccos(cosine.clip(-1, 1))), np.nan)


def feature_cosine(rendered: ViewPictures, measured: ViewPictures) -> Float[np.ndarray, "_H _W"] | None:
    """Cosine of rendered and target features; None unless both views have some."""
    if rendered.feature is None or measured.feature is None:
        return None
    ours, theirs = _directions(rendered.feature), _directions(measured.feature)
    both = np.any(ours != 0, axis=-1) & np.any(theirs != 0, axis=-1)
    return np.where(both, (ours * theirs).sum(axis=-1), np.nan)


def bytes_of(value: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Values in 0..1 as bytes; what lies outside is clipped."""
    return np.round(np.clip(value, 0, 1) * 255).astype(np.uint8)


def _directions(feature: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(feature, axis=-1, keepdims=True)
    return feature / np.maximum(length, 1e-12)
