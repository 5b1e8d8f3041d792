"""What every data set of point clouds does with its clouds: items by key, labels in range, few labels, transforms."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pointcept.datasets.cloud_arrays import Cloud
from pointcept.datasets.label_lists import keep_labels, read_labelled_points
from pointcept.datasets.label_tables import require_labels
from pointcept.datasets.labels import label_set
from pointcept.datasets.transforms.compose import Transform, apply_transforms
from pointcept.structures import PointSample


class SampleDataset(torch.utils.data.Dataset):
    """What all data sets share: ``dataset[index]`` and ``dataset[index, seed]`` give a ``PointSample``.

    All randomness of an item comes from its seed (by default its index), so an item is a function of its key: in any
    process, in any order.

    Args:
        scenes: What ``read`` makes samples of.
        transform: Applied in this order.
        loop: How often an epoch passes over the scenes.

    Raises:
        ValueError: ``loop`` is below 1.
    """

    def __init__(self, scenes: Sequence[Any], *, transform: Sequence[Transform] = (), loop: int = 1) -> None:
        if loop < 1:
            raise ValueError(f"loop must be at least 1: got {loop}.")
        self.scenes = list(scenes)
        self.transform = list(transform)
        self.loop = loop

    def __len__(self) -> int:
        return len(self.scenes) * self.loop

    def __getitem__(self, key: int | tuple[int, int]) -> PointSample:
        index, seed = key if isinstance(key, tuple) else (key, key)
        if not 0 <= index < len(self):
            raise IndexError(f"An index must lie in 0..{len(self) - 1}: got {index}.")
        rng = np.random.default_rng(seed)
        sample = self.read(self.scenes[index % len(self.scenes)], rng)
        sample.seed = seed
        return apply_transforms(sample, self.transform, rng)

    def read(self, scene: Any, rng: np.random.Generator) -> PointSample:
        """One scene before the transforms; ``rng`` chooses where there is something to choose."""
        raise NotImplementedError


class CloudDataset(SampleDataset):
    """Point clouds that lie on disk one by one; a data set says how to list, to name and to load them.

    A subclass overrides :meth:`load`, and :meth:`name_of` where the file's stem is no name.

    Args:
        scenes: Where each cloud is.
        transform: Applied in this order.
        condition: Name of the data set, for prompt-driven norms.
        loop: How often an epoch passes over the clouds.
        class_names: Names of the classes, or the name of a known label set; labels outside are an error. None knows
            only that labels are at least -1.
        labelled_points: File of the points of each cloud whose labels may be used: JSON, ``{"name": [row, ...]}``, or
            the same as ``torch.save`` writes it. All other points become unlabelled (-1). None uses all labels.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there are no clouds, ``loop`` is below 1, there is no such label set, or the file of labelled points
            lacks a cloud.
    """

    def __init__(
        self,
        scenes: Sequence[Path],
        *,
        transform: Sequence[Transform] = (),
        condition: str,
        loop: int = 1,
        class_names: Sequence[str] | str | None = None,
        labelled_points: str | Path | None = None,
    ) -> None:
        if not scenes:
            raise ValueError("split must name at least one split: got none. Write split='train', for example.")
        super().__init__(scenes, transform=transform, loop=loop)
        self.condition = condition
        self.class_names = label_set(class_names) if isinstance(class_names, str) else _tuple(class_names)
        names = [self.name_of(scene) for scene in self.scenes]
        self._labelled = None if labelled_points is None else read_labelled_points(Path(labelled_points), names)

    def name_of(self, scene: Path) -> str:
        """Name of a cloud, unique in the data set."""
        return scene.stem if scene.is_file() else scene.name

    def load(self, scene: Path) -> Cloud:
        """A cloud as it is on disk, without transforms."""
        raise NotImplementedError

    def read(self, scene: Path, rng: np.random.Generator) -> PointSample:
        """One scene before the transforms; ``rng`` chooses where there is something to choose.

        Raises:
            ValueError: labels are out of range, or its file cannot be used.
        """
        coord, point = self.load(scene)
        name = self.name_of(scene)
        if "segment" in point:
            require_labels(point["segment"], self.class_names, scene)
            if self._labelled is not None:
                point["segment"] = keep_labels(point["segment"], self._labelled[name], scene)
        return PointSample(coord=coord, point=point, scene={"name": name, "condition": self.condition})


def _tuple(names: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)
