"""Transforms that choose points: dropping, cropping, one point per voxel, shuffling."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int64

from pointcept.datasets.transforms.compose import Number, probability
from pointcept.datasets.transforms.geometry import box_corners
from pointcept.registry import TRANSFORMS
from pointcept.structures import PointSample
from pointcept.utils.arrays import column_range, sorted_rows, stable_order

_LARGEST_KEY = 2**63 - 1


@TRANSFORMS.register()
class RandomDropout:
    """Keeps a random share of the points, at least one.

    Args:
        dropout_ratio: Share of the points to remove.
        dropout_application_ratio: Probability that any are removed.
    """

    def __init__(self, dropout_ratio: Number = 0.2, dropout_application_ratio: Number = 0.5) -> None:
        self.dropout_ratio = probability(dropout_ratio, "dropout_ratio")
        self.dropout_application_ratio = probability(dropout_application_ratio, "dropout_application_ratio")

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The sample with fewer points, in their old order."""
        if rng.random() >= self.dropout_application_ratio or sample.num_points == 0:
            return sample
        count = min(round(sample.num_points * self.dropout_ratio), sample.num_points - 1)
        is_kept = np.ones(sample.num_points, dtype=bool)
        is_kept[rng.choice(sample.num_points, count, replace=False, shuffle=False)] = False
        return _select(sample, np.flatnonzero(is_kept), self)


@TRANSFORMS.register()
class PointRangeFilter:
    """Keeps the points inside a box.

    Args:
        point_cloud_range: Smallest x, y, z and largest x, y, z, metres; points on the faces are kept.
    """

    def __init__(self, point_cloud_range: Sequence[Number]) -> None:
        self.low, self.high = box_corners(point_cloud_range)

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The sample without the points outside."""
        inside = ((sample.coord >= self.low) & (sample.coord <= self.high)).all(axis=1)
        return _select(sample, np.flatnonzero(inside), self)


@TRANSFORMS.register()
class SphereCrop:
    """Keeps the points nearest to a centre, as many as allowed.

    Args:
        point_max: Number of points to keep.
        sample_rate: Share of the points to keep, at least one, instead of ``point_max``.
        mode: The centre: ``"random"``, one of the points; ``"center"``, the centre of the bounding box.
    """

    def __init__(
        self,
        point_max: int = 80000,
        sample_rate: Number | None = None,
        mode: Literal["random", "center"] = "random",
    ) -> None:
        if point_max < 1:
            raise ValueError(f"point_max must be at least 1: got {point_max}.")
        if mode not in ("random", "center"):
            raise ValueError(f"mode must be 'random' or 'center': got {mode!r}.")
        self.point_max = point_max
        self.sample_rate = None if sample_rate is None else probability(sample_rate, "sample_rate")
        self.mode = mode

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The sample with its nearest points, in their old order."""
        limit = self.point_max if self.sample_rate is None else max(1, int(sample.num_points * self.sample_rate))
        if sample.num_points <= limit:
            return sample
        if self.mode == "random":
            center = sample.coord[rng.integers(sample.num_points)]
        else:
            center = np.mean(column_range(sample.coord), axis=0)
        offset = sample.coord - center
        nearest = np.argpartition(np.einsum("nc,nc->n", offset, offset), limit)[:limit]
        return _select(sample, sorted_rows(sample.num_points, nearest), self)


@TRANSFORMS.register()
class GridSample:
    """Keeps one point per occupied voxel, each point of a voxel with the same probability, and adds ``grid_coord``.

    The voxels lie on the lattice through the origin; ``grid_coord`` (N, 3) int64 counts them from the lowest occupied
    index along each axis. Points come out sorted by voxel (x, then y, then z).

    Args:
        grid_size: Voxel edge, metres.
        hash_type: Accepted for Pointcept's configs. Voxels are told apart exactly, so both give the same.
        mode: Only ``"train"``, one point per voxel.
        return_grid_coord: False leaves ``grid_coord``, and ``grid_size`` in the sample's scene values, out.
        return_inverse: Adds ``inverse`` to the sample's scene values: (number of input points,) int64, the row of the
            output that stands for each input point; and their labels as ``origin_segment``, where there are any. No
            later transform may remove or reorder points.
    """

    def __init__(
        self,
        grid_size: Number = 0.05,
        hash_type: Literal["fnv", "ravel"] = "fnv",
        mode: Literal["train"] = "train",
        return_grid_coord: bool = True,
        return_inverse: bool = False,
    ) -> None:
        if grid_size <= 0:
            raise ValueError(f"grid_size must be a positive number of metres: got {grid_size}.")
        if hash_type not in ("fnv", "ravel") or mode != "train":
            raise ValueError(
                f"GridSample knows hash_type 'fnv' and 'ravel' and mode 'train': got {hash_type!r} and {mode!r}."
            )
        self.grid_size = grid_size
        self.return_grid_coord = return_grid_coord
        self.return_inverse = return_inverse

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """One point per voxel."""
        grid = grid_indices(sample.coord, self.grid_size)
        keys = voxel_keys(grid)
        order = stable_order(keys)
        is_first = np.diff(keys[order], prepend=-1) != 0
        starts = np.flatnonzero(is_first)
        counts = np.diff(starts, append=len(keys))
        chosen = order[starts + rng.integers(counts)]
        result = _select(sample, chosen, self)
        if self.return_inverse:
            inverse = np.empty(len(keys), dtype=np.int64)
            inverse[order] = np.cumsum(is_first) - 1
            origin = {"origin_segment": sample.point["segment"]} if "segment" in sample.point else {}
            result = dataclasses.replace(result, scene={**result.scene, "inverse": inverse, **origin})
        if not self.return_grid_coord:
            return result
        result = dataclasses.replace(result, scene={**result.scene, "grid_size": float(self.grid_size)})
        return result.with_point(grid_coord=grid.take(chosen, axis=0))


@TRANSFORMS.register()
class ShufflePoint:
    """Puts the points into random order."""

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The reordered sample."""
        return _select(sample, rng.permutation(sample.num_points), self)


def grid_indices(coord: Float[np.ndarray, "N 3"], grid_size: Number) -> Int64[np.ndarray, "N 3"]:
    """Voxel of each point on the lattice through the origin, counted from the lowest occupied one along each axis.

    Args:
        coord: Metres.
        grid_size: Voxel edge, metres.
    """
    position = coord / np.float64(grid_size)
    grid = np.floor(position, out=position).astype(np.int64)
    return grid - column_range(grid)[0] if len(grid) else grid


def voxel_keys(grid: Int64[np.ndarray, "N 3"]) -> Int64[np.ndarray, "N"]:
    """One int64 per voxel index, equal exactly where the indices are equal, rising in the order x, y, z.

    Args:
        grid: Voxel index, not negative; any extent.
    """
    keys = grid[:, 0]
    for axis in (1, 2):
        column = grid[:, axis]
        if _largest(keys) * (_largest(column) + 1) + _largest(column) > _LARGEST_KEY:
            keys, column = _rank(keys), _rank(column)
        keys = keys * (_largest(column) + 1) + column
    return keys


def _largest(values: Int64[np.ndarray, "N"]) -> int:
    return int(values.max(initial=0))


def _rank(values: Int64[np.ndarray, "N"]) -> Int64[np.ndarray, "N"]:
    return np.unique(values, return_inverse=True)[1].reshape(-1)


def _select(sample: PointSample, index: Int64[np.ndarray, "_M"], transform: object) -> PointSample:
    if "inverse" in sample.scene:
        raise ValueError(
            f"{type(transform).__name__} must come before GridSample(return_inverse=True): it changes which points "
            f"there are, or their order, so 'inverse' of scene {sample.name!r} would point at wrong ones. Move it."
        )
    return sample.select(index)
