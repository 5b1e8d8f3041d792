"""Several data sets that are trained on together, in fixed proportions."""

from collections.abc import Sequence
from typing import Literal

import torch

from pointcept.datasets.concat import ConcatDataset
from pointcept.registry import DATASETS


@DATASETS.register()
class MixedDataset(ConcatDataset):
    """The items of several data sets, of which training takes turns in given proportions.

    With ratios 4, 2 and 1 every 7 batches (or scenes) in a row are 4 of the first data set, 2 of the second and 1 of
    the third, as multi-dataset training has them (PPT, arXiv 2308.09718). An epoch ends with the scenes of the first;
    smaller data sets are repeated and larger ones go on where the epoch before stopped. The sampler of the training
    loader does this; nothing else knows of it.

    Args:
        datasets: The data sets; each names itself by its ``condition``.
        ratios: A positive number for each.
        mixing: What takes turns: whole batches, so that a batch is of one data set, or single scenes.
        loop: How often an epoch passes over the first data set.

    Raises:
        ValueError: there is no data set, there is not one positive ratio for each, or ``loop`` is below 1.
    """

    def __init__(
        self,
        datasets: Sequence[torch.utils.data.Dataset],
        ratios: Sequence[int],
        mixing: Literal["batches", "scenes"] = "batches",
        loop: int = 1,
    ) -> None:
        super().__init__(datasets)
        if len(ratios) != len(self.datasets) or min(ratios) < 1:
            raise ValueError(
                f"ratios must give a positive number for each of the {len(self.datasets)} data sets: got "
                f"{list(ratios)}. Leave out data sets that do not take part."
            )
        if loop < 1:
            raise ValueError(f"loop must be at least 1: got {loop}.")
        self.ratios = tuple(ratios)
        self.mixing = mixing
        self.main_loop = loop

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of items of each data set."""
        return tuple(len(dataset) for dataset in self.datasets)
