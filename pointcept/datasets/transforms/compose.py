"""What a transform is, and applying several to a sample."""

from collections.abc import Callable, Sequence

import numpy as np

from pointcept.structures import PointSample

Transform = Callable[[PointSample, np.random.Generator], PointSample]
"""Returns a changed copy of a sample, leaves its input alone, and takes all randomness from the generator."""

Number = float | int


class EmptyCloudError(ValueError):
    """A transform left a sample without points."""


def apply_transforms(sample: PointSample, transforms: Sequence[Transform], rng: np.random.Generator) -> PointSample:
    """The sample after all transforms, in their order.

    Args:
        sample: Not changed.
        transforms: May be empty.
        rng: Of this sample alone.

    Raises:
        EmptyCloudError: a transform removed the last point; names the scene and the transform.
    """
    for transform in transforms:
        result = transform(sample, rng)
        if result.num_points == 0 and sample.num_points > 0:
            raise EmptyCloudError(
                f"A transform must leave at least one point: {type(transform).__name__} left none of the "
                f"{sample.num_points} points of scene {sample.name!r}. Let it keep more, or leave the scene out."
            )
        sample = result
    return sample


def point_data(sample: PointSample, key: str, transform: object) -> np.ndarray:
    """Point data that a transform needs.

    Raises:
        ValueError: the sample has none of that name.
    """
    if key not in sample.point:
        raise ValueError(
            f"{type(transform).__name__} needs point data {key!r}: scene {sample.name!r} has "
            f"{sorted(sample.point)}. Remove the transform, or add {key}.npy to the scene."
        )
    return sample.point[key]


def probability(value: Number, name: str) -> float:
    """``value`` if it lies in 0..1.

    Raises:
        ValueError: it does not.
    """
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie in 0..1: got {value}.")
    return float(value)
