"""Transforms of the views' colours."""

import dataclasses

import numpy as np

from pointcept.datasets.transforms.compose import Number, probability
from pointcept.registry import TRANSFORMS
from pointcept.structures import PointSample, Views


@TRANSFORMS.register()
class RandomViewColor:
    """Changes brightness, contrast and tint of all views of a scene alike: those to encode and those to render.

    A scene keeps one look, so that what is encoded still says what is to be rendered.

    Args:
        p: Probability that anything is done.
        brightness: Largest relative change of all channels.
        contrast: Largest relative change of the distance from mid grey.
        tint: Largest relative change of one channel.
    """

    def __init__(self, p: Number = 0.8, brightness: Number = 0.2, contrast: Number = 0.2, tint: Number = 0.05) -> None:
        self.p = probability(p, "p")
        self.brightness = probability(brightness, "brightness")
        self.contrast = probability(contrast, "contrast")
        self.tint = probability(tint, "tint")

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The sample with other colours in its views; the cloud's stay."""
        if rng.random() >= self.p:
            return sample
        gain = (1 + rng.uniform(-self.brightness, self.brightness)) * (1 + rng.uniform(-self.tint, self.tint, 3))
        contrast = 1 + rng.uniform(-self.contrast, self.contrast)
        level = np.arange(256)[:, None] * gain
        table = np.clip(np.rint(127.5 + (level - 127.5) * contrast), 0, 255).astype(np.uint8)
        return dataclasses.replace(
            sample, views=_recolored(sample.views, table), input_views=_recolored(sample.input_views, table)
        )


def _recolored(views: Views | None, table: np.ndarray) -> Views | None:
    if views is None:
        return None
    return dataclasses.replace(views, image=[table[pixels, np.arange(3)] for pixels in views.image])
