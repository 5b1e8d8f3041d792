"""The transform that gives the labels of several data sets one meaning."""

import dataclasses

import numpy as np

from pointcept.datasets.unified_labels import INDOOR36_NAMES, unified_indices
from pointcept.registry import TRANSFORMS
from pointcept.structures import PointSample, Views


@TRANSFORMS.register()
class UnifyLabels:
    """Replaces the labels of points and views by those of the unified indoor list, ``INDOOR36_NAMES``.

    Unlabelled (-1) stays unlabelled. Each data set of a mixture gets its own, so that label k means the same class in
    all of them.

    Args:
        source: Label set of the data set: ``"scannet20"``, ``"s3dis"`` or ``"structured3d"``.

    Attributes:
        class_names: Names of the classes that come out.
    """

    class_names = INDOOR36_NAMES

    def __init__(self, source: str) -> None:
        self.source = source
        self._index = unified_indices(source)

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The sample with other labels.

        Raises:
            ValueError: a label is none of the source's.
        """
        if "segment" in sample.point:
            sample = sample.with_point(segment=self._unified(sample.point["segment"], sample))
        views, inputs = (self._views(seen, sample) for seen in (sample.views, sample.input_views))
        return dataclasses.replace(sample, views=views, input_views=inputs)

    def _views(self, views: Views | None, sample: PointSample) -> Views | None:
        if views is None or views.segment is None:
            return views
        return dataclasses.replace(views, segment=[self._unified(segment, sample) for segment in views.segment])

    def _unified(self, segment: np.ndarray, sample: PointSample) -> np.ndarray:
        if segment.size and (segment.min() < -1 or segment.max() >= len(self._index)):
            raise ValueError(
                f"Labels of {self.source} must lie in -1..{len(self._index) - 1}: scene {sample.name!r} has "
                f"{segment.min()}..{segment.max()}. Set source to the label set of this data, and use UnifyLabels once."
            )
        return np.append(self._index, -1)[segment]
