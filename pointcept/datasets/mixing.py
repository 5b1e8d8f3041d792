"""Mix3D: two scenes become one, so that a network cannot rely on the context of a scene."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from pointcept.datasets.collate import collate
from pointcept.datasets.transforms.sampling import voxel_keys
from pointcept.structures import PointSample, SceneBatch
from pointcept.utils.seeding import derive_seed

_MIXING = 4  # purpose of derived seeds
_ROUNDING = 1e-3  # of a voxel, by which positions may be off the lattice


class MixingCollate:
    """Joins samples to a batch; with some probability, neighbouring scenes of the same data set are merged first.

    There is one draw per batch, from the seeds of its samples.

    Args:
        mix_prob: Probability that the scenes of a batch are merged in pairs.

    Source: Nekrasov et al., Mix3D, 3DV 2021.
    """

    def __init__(self, mix_prob: float) -> None:
        self.mix_prob = mix_prob

    def __call__(self, samples: Sequence[PointSample]) -> SceneBatch:
        """The batch.

        Raises:
            ValueError: see :func:`mixed` and :func:`collate`.
        """
        if self.mix_prob > 0:
            rng = np.random.default_rng(derive_seed(_MIXING, *(sample.seed for sample in samples)))
            if rng.random() < self.mix_prob:
                samples = mix_pairs(samples, rng)
        return collate(samples)


def mix_pairs(samples: Sequence[PointSample], rng: np.random.Generator) -> list[PointSample]:
    """Merges the first with the second scene of a data set, the third with the fourth, and so on; an odd one stays."""
    waiting: dict[object, PointSample] = {}
    result = []
    for sample in samples:
        condition = sample.scene.get("condition")
        if condition in waiting:
            result.append(mixed(waiting.pop(condition), sample, rng))
        else:
            waiting[condition] = sample
    return result + list(waiting.values())


def mixed(first: PointSample, second: PointSample, rng: np.random.Generator) -> PointSample:
    """One scene of the points of two, each where it was.

    The voxel grid is that of the first scene, continued; the second scene's voxels are moved to it by less than a
    voxel, as a whole, so that no two of its points come to share one. Where both scenes have a point in a voxel, one of
    them is drawn. Instances keep apart: the second scene's ids follow the first's.

    Args:
        first: After ``GridSample``; may have been shifted since, but neither turned nor scaled.
        second: The same, of the same voxel size.
        rng: Draws between points of one voxel.

    Raises:
        ValueError: a scene has views, knows its original points, lacks a voxel grid or has another one, or the two have
            different point data.
    """
    for sample in (first, second):
        _require_mixable(sample)
    if first.scene["grid_size"] != second.scene["grid_size"] or first.point.keys() != second.point.keys():
        raise ValueError(
            f"Scenes that are merged must have the same point data and voxel size: {first.name!r} has "
            f"{sorted(first.point)} and {first.scene['grid_size']} m, {second.name!r} has {sorted(second.point)} and "
            f"{second.scene['grid_size']} m. Give all data sets of a condition the same transforms, or set mix_prob=0."
        )
    size = first.scene["grid_size"]
    shift = np.rint((_grid_origin(second) - _grid_origin(first)) / size).astype(np.int64)
    point = {key: np.concatenate([value, second.point[key]]) for key, value in first.point.items()}
    grid = np.concatenate([first.point["grid_coord"], second.point["grid_coord"] + shift])
    point["grid_coord"] = grid - grid.min(axis=0)
    if "instance" in point:
        ids = second.point["instance"]
        next_id = first.point["instance"].max() + 1
        point["instance"] = np.concatenate([first.point["instance"], np.where(ids >= 0, ids + next_id, ids)])
    together = PointSample(
        coord=np.concatenate([first.coord, second.coord]),
        point=point,
        scene={**first.scene, "name": f"{first.name}+{second.name}"},
        seed=derive_seed(_MIXING, first.seed, second.seed),
    )
    return together.select(_one_per_voxel(point["grid_coord"], rng))


def _one_per_voxel(grid: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of one point of each voxel, drawn, in their old order."""
    order = rng.permutation(len(grid))
    _, first = np.unique(voxel_keys(grid)[order], return_index=True)
    return np.sort(order[first])


def _grid_origin(sample: PointSample) -> Float64[np.ndarray, "3"]:
    """Where the corner of the voxel (0, 0, 0) is; known to a fraction of a voxel, as every point lies in its voxel."""
    size = sample.scene["grid_size"]
    offset = sample.coord.astype(np.float64) - sample.point["grid_coord"] * size
    low, high = offset.min(axis=0), offset.max(axis=0)
    if ((high - low) > size * (1 + _ROUNDING)).any():
        raise ValueError(
            f"Points of a scene to be merged must lie in their voxels of {size} m: scene {sample.name!r} has points "
            f"{(high - low).max():.3g} m off. Turn and scale before GridSample, or set mix_prob=0."
        )
    return (low + high - size) / 2


def _require_mixable(sample: PointSample) -> None:
    if sample.views is not None or sample.input_views is not None or "inverse" in sample.scene:
        what = "knows its original points" if "inverse" in sample.scene else "has views"
        raise ValueError(
            f"Merging scenes (mix_prob) needs training clouds alone: scene {sample.name!r} {what}. Set mix_prob=0, or "
            "num_views=0 and return_inverse=False."
        )
    if "grid_coord" not in sample.point or "grid_size" not in sample.scene:
        raise ValueError(
            f"Merging scenes (mix_prob) needs their voxel grid: scene {sample.name!r} has none. Use GridSample, and "
            "keep grid_coord."
        )
