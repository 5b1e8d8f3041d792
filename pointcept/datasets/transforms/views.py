"""Transforms of the views: their colours, and what of them is seen. Cameras, depth and labels follow."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Shaped
from PIL import Image

from pointcept.datasets.frame_files import crop_resize, resize_nearest, resized_intrinsic
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

        def recolored(views: Views) -> Views:
            return dataclasses.replace(views, image=[table[pixels, np.arange(3)] for pixels in views.image])

        return _with_views(sample, recolored)


@TRANSFORMS.register()
class RandomViewFlip:
    """Mirrors all views of a scene left to right.

    Intrinsics and extrinsics follow, so that every pixel still shows the same point of the same world; the cameras then
    contain a reflection. ``RandomFlip`` mirrors the world instead and leaves the images alone.

    Args:
        p: Probability that the views are mirrored.
    """

    def __init__(self, p: Number = 0.5) -> None:
        self.p = probability(p, "p")

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The sample with mirrored views, or the sample itself."""
        return _with_views(sample, _mirrored) if rng.random() < self.p else sample


@TRANSFORMS.register()
class RandomViewCrop:
    """Cuts a random window of the same shape out of each view and enlarges it to the view's size.

    Intrinsics follow. Enlarging changes the focal length in pixels, from which a network without camera input cannot
    tell metric depth: for monocular depth leave it out.

    Args:
        scale: Range of the window's edge, as a share of the view's.
        p: Probability that the views are cut; each gets its own window.

    Raises:
        ValueError: ``scale`` does not rise within 0..1.
    """

    def __init__(self, scale: Sequence[Number] = (0.5, 1.0), p: Number = 1.0) -> None:
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale must be (low, high) with 0 < low <= high <= 1: got {tuple(scale)}.")
        self.scale = (float(scale[0]), float(scale[1]))
        self.p = probability(p, "p")

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The sample with cut views, or the sample itself.

        Raises:
            ValueError: the views have feature maps, which are of the whole views.
        """
        if rng.random() >= self.p:
            return sample
        if any(views is not None and views.feature is not None for views in (sample.views, sample.input_views)):
            raise ValueError(
                f"RandomViewCrop needs views without feature maps: scene {sample.name!r} has maps of whole views. "
                "Leave one of RandomViewCrop and LoadFeatureMaps out."
            )
        return _with_views(sample, lambda views: _cropped(views, self.scale, rng))


def _with_views(sample: PointSample, change: Callable[[Views], Views]) -> PointSample:
    views, inputs = (None if seen is None else change(seen) for seen in (sample.views, sample.input_views))
    return dataclasses.replace(sample, views=views, input_views=inputs)


def _mirrored(views: Views) -> Views:
    mirror = np.diag([-1.0, 1.0, 1.0, 1.0])
    intrinsic = views.intrinsic.copy()
    intrinsic[:, 0, 1] *= -1
    intrinsic[:, 0, 2] = [image.shape[1] - 1 for image in views.image] - intrinsic[:, 0, 2]
    return dataclasses.replace(
        views,
        image=_flipped(views.image),
        depth=_flipped(views.depth),
        segment=None if views.segment is None else _flipped(views.segment),
        intrinsic=intrinsic,
        extrinsic=mirror @ views.extrinsic,
        feature=None if views.feature is None else [one[..., ::-1].copy() for one in views.feature],
    )


def _flipped(arrays: list[np.ndarray]) -> list[np.ndarray]:
    return [np.ascontiguousarray(array[:, ::-1]) for array in arrays]


def _cropped(views: Views, scale: tuple[float, float], rng: np.random.Generator) -> Views:
    images, depths, segments, intrinsic = [], [], [], views.intrinsic.copy()
    for index, image in enumerate(views.image):
        size = image.shape[:2]
        part = rng.uniform(*scale)
        window = tuple(max(1, round(edge * part)) for edge in size)
        top, left = (int(rng.integers(edge - inner + 1)) for edge, inner in zip(size, window, strict=True))

        def cut(array: Shaped[np.ndarray, "..."], top=top, left=left, window=window) -> Shaped[np.ndarray, "..."]:
            return array[top : top + window[0], left : left + window[1]]

        images.append(crop_resize(Image.fromarray(cut(image)), None, size))
        depths.append(resize_nearest(cut(views.depth[index]), size))
        if views.segment is not None:
            segments.append(resize_nearest(cut(views.segment[index]), size))
        intrinsic[index, 0, 2] -= left
        intrinsic[index, 1, 2] -= top
        intrinsic[index] = resized_intrinsic(intrinsic[index], window, size)
    return dataclasses.replace(
        views, image=images, depth=depths, intrinsic=intrinsic, segment=None if views.segment is None else segments
    )
