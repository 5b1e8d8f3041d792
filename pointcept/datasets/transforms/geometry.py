"""Transforms that move a scene: points, normals and cameras together, so that pixels still line up."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64

from pointcept.datasets.transforms.compose import Number, probability
from pointcept.registry import TRANSFORMS
from pointcept.structures import PointSample
from pointcept.utils.arrays import column_range

_AXES = {"x": 0, "y": 1, "z": 2}


@TRANSFORMS.register()
class CenterShift:
    """Moves the centre of the bounding box to x = y = 0, and its floor to z = 0.

    Args:
        apply_z: False leaves z alone.
    """

    def __init__(self, apply_z: bool = True) -> None:
        self.apply_z = apply_z

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The shifted scene."""
        low, high = _bounds(sample.coord)
        shift = -(low + high) / 2
        shift[2] = -low[2] if self.apply_z else 0.0
        return sample.moved(_translation(shift))


@TRANSFORMS.register()
class RandomShift:
    """Moves the scene by a uniformly random vector.

    Args:
        shift: Range along x, y and z, metres.
    """

    def __init__(self, shift: Sequence[Sequence[Number]] = ((-0.2, 0.2), (-0.2, 0.2), (0, 0))) -> None:
        self.shift = _ranges(shift, 3, "shift")

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The shifted scene."""
        return sample.moved(_translation(rng.uniform(self.shift[:, 0], self.shift[:, 1])))


@TRANSFORMS.register()
class RandomRotate:
    """Turns the scene about an axis by a uniformly random angle.

    Args:
        angle: Range, in units of pi radians.
        axis: Axis of the rotation.
        center: Point that stays, metres; None takes the centre of the bounding box.
        p: Probability that the scene is turned at all.
    """

    def __init__(
        self,
        angle: Sequence[Number] = (-1, 1),
        axis: Literal["x", "y", "z"] = "z",
        center: Sequence[Number] | None = None,
        p: Number = 0.5,
    ) -> None:
        self.angle = _ranges([angle], 1, "angle")[0]
        self.axis = _AXES[axis]
        self.center = center
        self.p = probability(p, "p")

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The turned scene, or the scene itself."""
        if rng.random() >= self.p:
            return sample
        return sample.moved(_rotation(sample, self.axis, rng.uniform(*self.angle) * np.pi, self.center))


@TRANSFORMS.register()
class RandomRotateTargetAngle:
    """Turns the scene about an axis by one of several angles.

    Args:
        angle: Choices, in units of pi radians.
        axis: Axis of the rotation.
        center: Point that stays, metres; None takes the centre of the bounding box.
        p: Probability that the scene is turned at all.
    """

    def __init__(
        self,
        angle: Sequence[Number] = (0.5, 1, 1.5),
        axis: Literal["x", "y", "z"] = "z",
        center: Sequence[Number] | None = None,
        p: Number = 0.75,
    ) -> None:
        if not angle:
            raise ValueError("angle must list at least one angle: got none.")
        self.angle = tuple(angle)
        self.axis = _AXES[axis]
        self.center = center
        self.p = probability(p, "p")

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The turned scene, or the scene itself."""
        if rng.random() >= self.p:
            return sample
        angle = self.angle[rng.integers(len(self.angle))] * np.pi
        return sample.moved(_rotation(sample, self.axis, angle, self.center))


@TRANSFORMS.register()
class RandomScale:
    """Scales the scene about the origin, depth images with it.

    Args:
        scale: Range of the factor.
        anisotropic: One factor per axis. Only for scenes without views, as no camera can follow.
    """

    def __init__(self, scale: Sequence[Number] = (0.95, 1.05), anisotropic: bool = False) -> None:
        self.scale = _ranges([scale], 1, "scale")[0]
        if self.scale[0] <= 0:
            raise ValueError(f"scale must be positive: got {tuple(scale)}.")
        self.anisotropic = anisotropic

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The scaled scene.

        Raises:
            ValueError: anisotropic scaling of a scene with views.
        """
        if not self.anisotropic:
            return sample.moved(np.diag([*[rng.uniform(*self.scale)] * 3, 1.0]))
        if sample.views is not None:
            raise ValueError(
                f"RandomScale(anisotropic=True) needs a scene without views: {sample.name!r} has {len(sample.views)}, "
                "and no camera sees a scene stretched. Set anisotropic=False."
            )
        factor = rng.uniform(*self.scale, size=3)
        scaled = dataclasses.replace(sample, coord=(sample.coord * factor).astype(np.float32))
        if "normal" not in sample.point:
            return scaled
        # A normal is stretched by the inverse: it must stay perpendicular to the stretched surface.
        normal = sample.point["normal"] / factor
        length = np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return scaled.with_point(normal=(normal / length).astype(np.float32))


@TRANSFORMS.register()
class RandomFlip:
    """Mirrors the scene along x and along y, independently.

    Args:
        p: Probability of each.
    """

    def __init__(self, p: Number = 0.5) -> None:
        self.p = probability(p, "p")

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The mirrored scene, or the scene itself."""
        flipped = rng.random(2) < self.p
        if not flipped.any():
            return sample
        return sample.moved(np.diag([*np.where(flipped, -1.0, 1.0), 1.0, 1.0]))


@TRANSFORMS.register()
class RandomJitter:
    """Adds clipped Gaussian noise to each point. Noise moves no camera.

    Args:
        sigma: Standard deviation, metres.
        clip: Largest noise along an axis, metres.
    """

    def __init__(self, sigma: Number = 0.01, clip: Number = 0.05) -> None:
        if sigma < 0 or clip <= 0:
            raise ValueError(f"sigma must not be negative and clip must be positive: got {sigma} and {clip}.")
        self.sigma = sigma
        self.clip = clip

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The scene with moved points."""
        noise = rng.standard_normal(sample.coord.shape, dtype=np.float32)
        noise *= np.float32(self.sigma)
        np.clip(noise, -self.clip, self.clip, out=noise)
        return dataclasses.replace(sample, coord=sample.coord + noise)


@TRANSFORMS.register()
class PointClip:
    """Moves points outside a box onto its faces. Removing them instead is ``PointRangeFilter``.

    Args:
        point_cloud_range: Smallest x, y, z and largest x, y, z, metres.
    """

    def __init__(self, point_cloud_range: Sequence[Number] = (-80.0, -80.0, -3.0, 80.0, 80.0, 1.0)) -> None:
        self.low, self.high = box_corners(point_cloud_range)

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The sample with all points in the box."""
        coord = np.clip(sample.coord, self.low, self.high).astype(sample.coord.dtype)
        return dataclasses.replace(sample, coord=coord)


def box_corners(
    point_cloud_range: Sequence[Number],
) -> tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "3"]]:
    """Lower and upper corner of a box.

    Raises:
        ValueError: not six numbers, or a side of negative length.
    """
    box = np.asarray(point_cloud_range, dtype=np.float64)
    if box.shape != (6,) or (box[:3] > box[3:]).any():
        raise ValueError(
            f"point_cloud_range must be (x_min, y_min, z_min, x_max, y_max, z_max): got {point_cloud_range}."
        )
    return box[:3], box[3:]


def _bounds(coord: Float[np.ndarray, "N 3"]) -> tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "3"]]:
    """Minimum and maximum corner; the origin for an empty cloud."""
    if len(coord) == 0:
        return np.zeros(3), np.zeros(3)
    low, high = column_range(coord)
    return low.astype(np.float64), high.astype(np.float64)


def _translation(shift: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, "4 4"]:
    matrix = np.eye(4)
    matrix[:3, 3] = shift
    return matrix


def _rotation(
    sample: PointSample, axis: int, angle: float, center: Sequence[Number] | None
) -> Float64[np.ndarray, "4 4"]:
    """Rotation by ``angle`` radians, counter-clockwise when the axis points at the viewer."""
    fixed = np.mean(_bounds(sample.coord), axis=0) if center is None else np.asarray(center, dtype=np.float64)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(4)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[second, first] = np.sin(angle)
    matrix[first, second] = -np.sin(angle)
    matrix[:3, 3] = fixed - matrix[:3, :3] @ fixed
    return matrix


def _ranges(value: Sequence[Sequence[Number]], count: int, name: str) -> Float64[np.ndarray, "_count 2"]:
    ranges = np.asarray(value, dtype=np.float64)
    if ranges.shape != (count, 2) or (ranges[:, 0] > ranges[:, 1]).any():
        wanted = "(low, high)" if count == 1 else f"{count} times (low, high)"
        raise ValueError(f"{name} must be {wanted}: got {value if count > 1 else value[0]}.")
    return ranges
