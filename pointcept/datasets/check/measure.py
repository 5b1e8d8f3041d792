"""What is measured of each cloud, and of each split of a data set."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

from pointcept.datasets.protocol import CloudDataset
from pointcept.datasets.transforms.features import Collect, FillMissing
from pointcept.datasets.transforms.sampling import GridSample, grid_indices, voxel_keys
from pointcept.utils.arrays import column_range

_SPACING_SAMPLES = 2000
_SPACING_POINTS = 300_000
_STEPS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


@dataclasses.dataclass(frozen=True)
class CloudFacts:
    """One cloud.

    Attributes:
        name: Its name.
        error: Why it cannot be read; then nothing else is known.
        num_points: N.
        extent_m: (3,), size along x, y and z.
        distance_m: Largest absolute coordinate.
        spacing_m: Median distance of a point to its nearest neighbour.
        num_voxels: Points after gridding.
        keys: Point data that there is.
        labels: Number of points of each label.
        color: Smallest and largest value of a channel; None without colour.
        normal_length: Smallest and largest length of a normal; None without normals.
        upright: Share of normals along x, y and z (within 25 degrees); None without normals.
        fingerprint: The same for clouds of the same points.
    """

    name: str
    error: str | None = None
    num_points: int = 0
    extent_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    distance_m: float = 0.0
    spacing_m: float = 0.0
    num_voxels: int = 0
    keys: tuple[str, ...] = ()
    labels: Counter = dataclasses.field(default_factory=Counter)
    color: tuple[float, float] | None = None
    normal_length: tuple[float, float] | None = None
    upright: tuple[float, float, float] | None = None
    fingerprint: str = ""


@dataclasses.dataclass(frozen=True)
class SplitFacts:
    """One split.

    Attributes:
        name: ``train``, ``val`` or ``test``.
        clouds: What was measured of each.
        num_clouds: How many there are; more than ``clouds`` where only some were read.
        class_names: Names of the classes; None where the data set does not know them.
        grid_size: Voxel edge of the transforms, metres; None without ``GridSample``.
        needed: Point data that the transforms ask for and do not fill in.
        error: Why the data set cannot be built; then there are no clouds.
    """

    name: str
    clouds: tuple[CloudFacts, ...] = ()
    num_clouds: int = 0
    class_names: tuple[str, ...] | None = None
    grid_size: float | None = None
    needed: tuple[str, ...] = ()
    error: str | None = None

    @property
    def readable(self) -> list[CloudFacts]:
        """The clouds that could be read."""
        return [cloud for cloud in self.clouds if cloud.error is None]

    @property
    def labels(self) -> Counter:
        """Number of points of each label in all clouds."""
        return sum((cloud.labels for cloud in self.readable), Counter())

    def median(self, attribute: str) -> float:
        """Median over the readable clouds; NaN without any."""
        values = [getattr(cloud, attribute) for cloud in self.readable]
        return float(np.median(values)) if values else float("nan")


def measure_split(name: str, dataset: CloudDataset, scenes: Iterable[Path]) -> SplitFacts:
    """Reads clouds without transforms and measures them.

    Args:
        name: Of the split.
        dataset: The data set.
        scenes: Those of its scenes that are read; an iterator may show progress.
    """
    grid_size = next((step.grid_size for step in dataset.transform if isinstance(step, GridSample)), None)
    clouds = tuple(measure_cloud(dataset, scene, grid_size) for scene in scenes)
    return SplitFacts(
        name=name,
        clouds=clouds,
        num_clouds=len(dataset.scenes),
        class_names=dataset.class_names,
        grid_size=None if grid_size is None else float(grid_size),
        needed=needed_keys(dataset.transform),
    )


def measure_cloud(dataset: CloudDataset, scene: Path, grid_size: float | None) -> CloudFacts:
    """One cloud; what keeps it from being read is part of the result."""
    name = dataset.name_of(scene)
    try:
        coord, point = dataset.load(scene)
    except (ValueError, OSError) as error:
        return CloudFacts(name, error=str(error))
    low, high = column_range(coord)
    spacing = spacing_of(coord)
    color, normal = point.get("color"), point.get("normal")
    length = None if normal is None else np.linalg.norm(normal, axis=1)
    return CloudFacts(
        name=name,
        num_points=len(coord),
        extent_m=tuple((high - low).astype(float).tolist()),
        distance_m=float(np.abs([low, high]).max()),
        spacing_m=spacing,
        num_voxels=num_voxels(coord, grid_size or voxel_size_for(spacing)),
        keys=tuple(point),
        labels=_counted(point.get("segment")),
        color=None if color is None else (float(color.min()), float(color.max())),
        normal_length=None if length is None else (float(length.min()), float(length.max())),
        upright=None if normal is None else tuple((np.abs(normal) > 0.9 * length[:, None]).mean(axis=0).tolist()),
        fingerprint=hashlib.sha256(np.ascontiguousarray(coord, dtype=np.float64)).hexdigest(),
    )


def spacing_of(coord: Float[np.ndarray, "N 3"], seed: int = 0) -> float:
    """Median distance of a point to its nearest neighbour, estimated on some points; 0 for a single point.

    Of a large cloud only the surroundings of one point are looked at.
    """
    if len(coord) < 2:
        return 0.0
    rng = np.random.default_rng(seed)
    coord = coord.astype(np.float64)
    if len(coord) > _SPACING_POINTS:
        offset = coord - coord[rng.integers(len(coord))]
        coord = coord[np.argpartition(np.einsum("nc,nc->n", offset, offset), _SPACING_POINTS)[:_SPACING_POINTS]]
    chosen = rng.choice(len(coord), min(_SPACING_SAMPLES, len(coord)), replace=False)
    distance, _ = cKDTree(coord).query(coord[chosen], k=2)
    return float(np.median(distance[:, 1]))


def voxel_size_for(spacing_m: float) -> float:
    """A round number near one and a half times the points' spacing: fine enough for what was measured, and no finer."""
    if not spacing_m > 0:
        return 0.02
    wanted = 1.5 * spacing_m
    power = 10.0 ** np.floor(np.log10(wanted))
    return float(f"{power * min(_STEPS, key=lambda step: abs(np.log(step * power / wanted))):.3g}")


def num_voxels(coord: Float[np.ndarray, "N 3"], grid_size: float) -> int:
    """Number of occupied voxels."""
    return len(np.unique(voxel_keys(grid_indices(coord, grid_size))))


def needed_keys(transforms: Sequence[Any]) -> tuple[str, ...]:
    """Point data that the transforms ask for and do not fill in."""
    filled = {step.key for step in transforms if isinstance(step, FillMissing)}
    asked = [key for step in transforms if isinstance(step, Collect) for key in step.feat_keys]
    return tuple(key for key in dict.fromkeys(asked) if key not in filled and key != "coord")


def _counted(segment: np.ndarray | None) -> Counter:
    if segment is None:
        return Counter()
    values, counts = np.unique(segment, return_counts=True)
    return Counter(dict(zip(values.tolist(), counts.tolist())))
