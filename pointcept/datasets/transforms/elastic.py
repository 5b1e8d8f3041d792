"""Elastic distortion: a smooth random displacement field moves the points."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32
from scipy.ndimage import uniform_filter1d

from pointcept.datasets.transforms.compose import Number, probability
from pointcept.registry import TRANSFORMS
from pointcept.structures import PointSample
from pointcept.utils.arrays import column_range

_MARGIN = 3  # nodes beyond the whole cells of the cloud's extent
_MAX_NODES = 2**26
_BLOCK = 2**15  # points read together, so that what is computed of them stays in the processor's cache


@TRANSFORMS.register()
class ElasticDistortion:
    """Adds smooth noise to the positions, once per pair of granularity and magnitude.

    Gaussian noise on a lattice is blurred by two passes of a 3-tap mean along each axis (zero outside) and read between
    its nodes by trilinear interpolation. Noise moves no camera.

    Args:
        distortion_params: Pairs of (granularity, magnitude), in this order: distance of the noise's nodes, metres, and
            standard deviation of the noise before it is blurred, metres. None takes ((0.2, 0.4), (0.8, 1.6)).
        p: Probability that anything is done.

    Source: O-CNN and MinkowskiEngine's data augmentation, as Pointcept applies it.
    """

    def __init__(self, distortion_params: Sequence[Sequence[Number]] | None = None, p: Number = 0.95) -> None:
        given = ((0.2, 0.4), (0.8, 1.6)) if distortion_params is None else distortion_params
        params = np.asarray(given, dtype=np.float64)
        if params.ndim != 2 or params.shape[1] != 2 or (params[:, 0] <= 0).any() or (params[:, 1] < 0).any():
            raise ValueError(
                "distortion_params must be pairs of a positive granularity and a magnitude that is not negative, "
                f"metres: got {distortion_params}."
            )
        self.distortion_params = [(float(granularity), float(magnitude)) for granularity, magnitude in params]
        self.p = probability(p, "p")

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The sample with moved points.

        Raises:
            ValueError: the cloud is so large that the noise would not fit into memory.
        """
        if rng.random() >= self.p or sample.num_points == 0:
            return sample
        coord = sample.coord
        for granularity, magnitude in self.distortion_params:
            low, high = column_range(coord)
            shape = (high - low) // granularity + _MARGIN
            if shape.astype(np.float64).prod() > _MAX_NODES:
                raise ValueError(
                    f"ElasticDistortion needs a cloud of at most {_MAX_NODES} noise nodes: scene {sample.name!r} is "
                    f"{np.round(high - low, 1).tolist()} m large and they are {granularity} m apart. Crop "
                    "the cloud first, or raise the granularity."
                )
            noise = rng.standard_normal((*shape.astype(int), 3), dtype=np.float32) * np.float32(magnitude)
            coord = coord + trilinear(smoothed(noise), coord - (low - granularity).astype(coord.dtype), granularity)
        return dataclasses.replace(sample, coord=coord.astype(np.float32))


def smoothed(noise: Float32[np.ndarray, "X Y Z 3"]) -> Float32[np.ndarray, "X Y Z 3"]:
    """The mean over 5 x 5 x 5 nodes with triangular weights: two passes of a 3-tap mean, zeros outside."""
    for _ in range(2):
        for axis in range(3):
            noise = uniform_filter1d(noise, 3, axis=axis, mode="constant")
    return noise


def trilinear(
    values: Float32[np.ndarray, "X Y Z 3"], position: Float[np.ndarray, "N 3"], spacing: float
) -> Float32[np.ndarray, "N 3"]:
    """Values of a lattice at positions inside it.

    Args:
        values: At the nodes, the first of which is at the origin.
        position: Metres, from the first to the last node along each axis.
        spacing: Distance of the nodes, metres.
    """
    result = np.empty(position.shape, dtype=np.float32)
    for start in range(0, len(position), _BLOCK):
        block = slice(start, start + _BLOCK)
        result[block] = _trilinear_block(values, position[block], spacing)
    return result


def _trilinear_block(values: np.ndarray, position: np.ndarray, spacing: float) -> np.ndarray:
    _, width, height, _ = values.shape
    scaled = (position * (1 / spacing)).astype(np.float32)
    cell = np.minimum(scaled.astype(np.int32), np.array(values.shape[:3], dtype=np.int32) - 2)
    fraction = scaled - cell.astype(np.float32)
    node = (cell[:, 0].astype(np.int64) * width + cell[:, 1]) * height + cell[:, 2]
    table = values.reshape(-1, 3)

    def between(lower: np.ndarray, upper: np.ndarray, axis: int) -> np.ndarray:
        upper -= lower
        upper *= fraction[:, axis, None]
        upper += lower
        return upper

    def along_z(shift: int) -> np.ndarray:
        return between(table.take(node + shift, axis=0), table.take(node + (shift + 1), axis=0), 2)

    def along_y(shift: int) -> np.ndarray:
        return between(along_z(shift), along_z(shift + height), 1)

    return between(along_y(0), along_y(width * height), 0)
