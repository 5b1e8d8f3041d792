"""Transforms of the points' colour, which is 0..255 until ``NormalizeColor``."""

import numpy as np

from pointcept.datasets.transforms.compose import Number, point_data, probability
from pointcept.registry import TRANSFORMS
from pointcept.structures import PointSample
from pointcept.utils.arrays import column_range


@TRANSFORMS.register()
class NormalizeColor:
    """Maps colour from 0..255 to -1..1, or to 0..1. Images of the views are not touched: collation maps them to 0..1.

    Args:
        symmetric: To -1..1, as PonderV2 does; otherwise to 0..1, as Pointcept does.
    """

    def __init__(self, symmetric: bool = True) -> None:
        self.symmetric = symmetric

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The sample with ``color`` in its new range."""
        color = point_data(sample, "color", self)
        return sample.with_point(color=color / np.float32(127.5) - 1 if self.symmetric else color / np.float32(255))


@TRANSFORMS.register()
class ChromaticAutoContrast:
    """Stretches each channel of the scene to 0..255, and blends the result with the original.

    Args:
        p: Probability that anything is done.
        blend_factor: Share of the stretched colour; None draws it uniformly.
    """

    def __init__(self, p: Number = 0.2, blend_factor: Number | None = None) -> None:
        self.p = probability(p, "p")
        self.blend_factor = None if blend_factor is None else probability(blend_factor, "blend_factor")

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The sample with stretched ``color``; a channel of one value stays as it is."""
        color = point_data(sample, "color", self)
        if rng.random() >= self.p or len(color) == 0:
            return sample
        blend = np.float32(rng.random() if self.blend_factor is None else self.blend_factor)
        low, high = column_range(color)
        is_varied = high > low
        gain = np.where(is_varied, 255 / np.where(is_varied, high - low, 1), 1)
        offset = np.where(is_varied, -low * gain, 0)
        gain, offset = 1 - blend + blend * gain, blend * offset  # the blend of two straight lines is one
        return sample.with_point(color=color * gain.astype(np.float32) + offset.astype(np.float32))


@TRANSFORMS.register()
class ChromaticTranslation:
    """Adds one random colour to all points.

    Args:
        p: Probability that anything is done.
        ratio: Largest change of a channel, as a share of 255.
    """

    def __init__(self, p: Number = 0.95, ratio: Number = 0.05) -> None:
        self.p = probability(p, "p")
        self.ratio = probability(ratio, "ratio")

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The sample with shifted ``color``, clipped to 0..255."""
        color = point_data(sample, "color", self)
        if rng.random() >= self.p:
            return sample
        shift = rng.uniform(-1, 1, size=3).astype(np.float32) * np.float32(255 * self.ratio)
        shifted = color + shift
        return sample.with_point(color=np.clip(shifted, 0, 255, out=shifted))


@TRANSFORMS.register()
class ChromaticJitter:
    """Adds Gaussian noise to the colour of each point.

    Args:
        p: Probability that anything is done.
        std: Standard deviation, as a share of 255.
    """

    def __init__(self, p: Number = 0.95, std: Number = 0.005) -> None:
        self.p = probability(p, "p")
        self.std = probability(std, "std")

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The sample with noisy ``color``, clipped to 0..255."""
        color = point_data(sample, "color", self)
        if rng.random() >= self.p:
            return sample
        noisy = rng.standard_normal(color.shape, dtype=np.float32)
        noisy *= np.float32(255 * self.std)
        noisy += color
        return sample.with_point(color=np.clip(noisy, 0, 255, out=noisy))


@TRANSFORMS.register()
class RandomColorDrop:
    """Takes the colour of all points away, so that it must be inferred from shape and surroundings, or done without.

    Args:
        p: Probability that anything is done.
        color_augment: What is left of the colour, as a share of it.
    """

    def __init__(self, p: Number = 0.2, color_augment: Number = 0.0) -> None:
        self.p = probability(p, "p")
        self.color_augment = probability(color_augment, "color_augment")

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The sample with all ``color`` scaled."""
        color = point_data(sample, "color", self)
        if rng.random() >= self.p:
            return sample
        return sample.with_point(color=color * np.float32(self.color_augment))
