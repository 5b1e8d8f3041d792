"""The cloud that measured frames add up to, as a scanner would give it."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int, UInt8

_NORMAL_NOISE = 0.06


@dataclasses.dataclass(frozen=True)
class Cloud:
    """A labelled point cloud.

    Attributes:
        coord: Metres, world frame.
        color: RGB.
        normal: Unit.
        label: NYU40 id.
        instance: Object, -1 = none.
    """

    coord: Float[np.ndarray, "N 3"]
    color: UInt8[np.ndarray, "N 3"]
    normal: Float[np.ndarray, "N 3"]
    label: UInt8[np.ndarray, "N"]
    instance: Int[np.ndarray, "N"]


def fuse(
    coord: Float[np.ndarray, "P 3"],
    color: UInt8[np.ndarray, "P 3"],
    normal: Float[np.ndarray, "P 3"],
    label: UInt8[np.ndarray, "P"],
    instance: Int[np.ndarray, "P"],
    weight: Float[np.ndarray, "P"],
    *,
    voxel_size: float,
    max_points: int,
    rng: np.random.Generator,
) -> Cloud:
    """Average measured points within each voxel, then thin the result evenly at random.

    Position and colour are weighted means. Labels and the normal are those of the voxel's measurement of greatest
    weight; the normal is made a little uncertain.

    Args:
        coord: Measured positions, metres, world frame.
        color: RGB of each.
        normal: Of the surface at each.
        label: NYU40 id of each.
        instance: Object of each.
        weight: Inverse variance of each.
        voxel_size: Edge of a voxel, metres.
        max_points: Most points that are kept.
        rng: Source of all choices.
    """
    cell = np.floor((coord - coord.min(axis=0, initial=0.0)) / voxel_size).astype(np.int64)
    shape = cell.max(axis=0, initial=0) + 1
    key = np.ravel_multi_index(tuple(cell.T), tuple(shape))
    order = np.lexsort((-weight, key))
    is_first = np.diff(key[order], prepend=-1) != 0
    best = order[is_first]
    voxel = np.empty(len(key), dtype=np.int64)
    voxel[order] = np.cumsum(is_first) - 1
    total = np.bincount(voxel, weight, len(best))

    def mean(values):
        sums = [np.bincount(voxel, weight * values[:, k], len(best)) for k in range(3)]
        return np.stack(sums, axis=1) / total[:, None]

    keep = np.arange(len(best))
    if len(best) > max_points:
        keep = np.sort(rng.choice(len(best), max_points, replace=False))
    best = best[keep]
    uncertain = normal[best] + _NORMAL_NOISE * rng.standard_normal((len(best), 3))
    return Cloud(
        coord=mean(coord)[keep].astype(np.float32),
        color=np.rint(mean(color)[keep]).astype(np.uint8),
        normal=(uncertain / np.linalg.norm(uncertain, axis=1, keepdims=True)).astype(np.float32),
        label=label[best],
        instance=instance[best],
    )
