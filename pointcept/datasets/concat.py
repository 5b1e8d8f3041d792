"""Several data sets as one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pointcept.registry import DATASETS
from pointcept.structures import PointSample


@DATASETS.register()
class ConcatDataset(torch.utils.data.Dataset):
    """The items of several data sets, one after the other; shuffled, a batch holds scenes of any of them.

    Samples of one batch must have the same kinds of data: features of one width, and all or none with views and labels.
    How much each data set counts is set by its own ``loop``. Where labels are used they must mean the same in all:
    ``UnifyLabels`` does that.

    Args:
        datasets: The data sets.
        loop: How often an epoch passes over all of them.

    Raises:
        ValueError: there is no data set, or ``loop`` is below 1.
    """

    def __init__(self, datasets: Sequence[torch.utils.data.Dataset], loop: int = 1) -> None:
        if not datasets or loop < 1:
            raise ValueError(f"ConcatDataset needs a data set, and loop >= 1: got {len(datasets)} and {loop}.")
        self.datasets = list(datasets)
        self.loop = loop
        self._ends = np.cumsum([len(dataset) for dataset in self.datasets])

    @property
    def scenes(self) -> list[Path]:
        """Folders of the scenes of all data sets."""
        return [scene for dataset in self.datasets for scene in dataset.scenes]

    def __len__(self) -> int:
        return int(self._ends[-1]) * self.loop

    def __getitem__(self, key: int | tuple[int, int]) -> PointSample:
        index, seed = key if isinstance(key, tuple) else (key, key)
        if not 0 <= index < len(self):
            raise IndexError(f"An index must lie in 0..{len(self) - 1}: got {index}.")
        index %= int(self._ends[-1])
        number = int(np.searchsorted(self._ends, index, side="right"))
        start = int(self._ends[number - 1]) if number else 0
        return self.datasets[number][index - start, seed]
