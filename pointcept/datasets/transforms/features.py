"""The end of a chain: which point data a model receives, and as what."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from pointcept.datasets.transforms.compose import Number
from pointcept.registry import TRANSFORMS
from pointcept.structures import PointSample


@TRANSFORMS.register()
class Collect:
    """Joins point data to the input features ``feat``, in the order given.

    Args:
        feat_keys: Point data to join, or ``"coord"``.
        keys: Names that must be there and stay; all other point data is dropped. Names of scene values (``name``,
            ``condition``) may be among them. None keeps everything.
    """

    def __init__(self, feat_keys: Sequence[str] = ("color", "normal"), keys: Sequence[str] | None = None) -> None:
        if not feat_keys:
            raise ValueError("feat_keys must name at least one kind of point data: got none. Use ('coord',).")
        self.feat_keys = tuple(feat_keys)
        self.keys = None if keys is None else tuple(keys)

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The sample with ``feat`` (N, C) float32.

        Raises:
            ValueError: the sample lacks a name that is asked for.
        """
        arrays = {"coord": sample.coord, **sample.point}
        absent = [key for key in self.feat_keys if key not in arrays]
        absent += [key for key in self.keys or () if key not in arrays and key not in sample.scene]
        if absent:
            raise ValueError(
                f"Collect needs {absent} in every sample: scene {sample.name!r} has {sorted(arrays)} and scene values "
                f"{sorted(sample.scene)}. Correct feat_keys and keys, or add the missing files or transforms."
            )
        columns = [arrays[key].reshape(sample.num_points, -1).astype(np.float32) for key in self.feat_keys]
        if self.keys is not None:
            kept = {key: value for key, value in sample.point.items() if key in self.keys}
            sample = dataclasses.replace(sample, point=kept)
        return sample.with_point(feat=np.concatenate(columns, axis=1))


@TRANSFORMS.register()
class FillMissing:
    """Gives every point the same value of something that a model expects and the data set lacks.

    Point data that is there stays as it is.

    Args:
        key: Name of the point data, such as ``color`` or ``normal``.
        value: One number per channel. Colour is 0..255 before ``NormalizeColor``.
    """

    def __init__(self, key: str, value: Sequence[Number]) -> None:
        if len(value) == 0:
            raise ValueError(f"value must have one number per channel of {key!r}: got none. Write (0, 0, 0).")
        self.key = key
        self.value = tuple(value)

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The sample with ``key``."""
        if self.key in sample.point:
            return sample
        filled = np.tile(np.asarray(self.value, dtype=np.float32), (sample.num_points, 1))
        return sample.with_point(**{self.key: filled})


@TRANSFORMS.register()
class ToTensor:
    """Does nothing: collation makes the tensors. Accepted so that Pointcept's lists of transforms work as they are."""

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The sample."""
        return sample
