"""Which samples each process sees at each step: a pure function of the seed and the position in training."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from pointcept.utils.distributed import get_rank, get_world_size
from pointcept.utils.seeding import derive_seeds

_ORDER, _SAMPLE, _EVALUATION = 1, 2, 3  # purposes of derived seeds

Key = tuple[int, int]  # index of the sample in the dataset, seed of its random choices


class TrainingBatchSampler(Sampler[list[Key]]):
    """Batches of ``(index, seed)`` for one process, in an order that depends on nothing but seed and epoch.

    Every pass over the data has its own random order and its own sample seeds. Each global batch is cut into one
    contiguous part per process, so that any number of processes sees the same samples at the same step. Samples that
    do not fill a last batch are left out of that epoch.

    Args:
        num_samples: length of the dataset.
        batch_size: samples per batch over all processes.
        repeats: passes over the dataset within one (reported) epoch.
        seed: the experiment's seed.

    Raises:
        ValueError: the dataset is empty, an epoch would hold no batch, or a batch cannot be shared out equally.
    """

    def __init__(self, num_samples: int, batch_size: int, *, repeats: int = 1, seed: int = 0) -> None:
        if num_samples == 0:
            raise ValueError("The training set must have samples: it is empty. Check data_root and split.")
        if num_samples * repeats < batch_size:
            raise ValueError(
                f"An epoch must fill at least one batch: got {num_samples} samples x {repeats} passes for batch_size "
                f"{batch_size}. Lower batch_size, or raise epoch / eval_epoch so that the data is repeated."
            )
        if batch_size % get_world_size() != 0:
            raise ValueError(
                f"batch_size must be a multiple of the number of processes: got {batch_size} for {get_world_size()}."
                " Change one of them."
            )
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.repeats = repeats
        self.seed = seed
        self._epoch = 0
        self._first_batch = 0

    def set_position(self, epoch: int, first_batch: int = 0) -> None:
        """Chooses the epoch that the next iteration runs through, and the batch it starts at."""
        self._epoch = epoch
        self._first_batch = first_batch

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches in a whole epoch."""
        return self.num_samples * self.repeats // self.batch_size

    def __len__(self) -> int:
        return self.batches_per_epoch - self._first_batch

    def __iter__(self) -> Iterator[list[Key]]:
        index, seed = self._order(self._epoch)
        share = self.batch_size // get_world_size()
        for batch in range(self._first_batch, self.batches_per_epoch):
            start = batch * self.batch_size + get_rank() * share
            part = slice(start, start + share)
            yield list(zip(index[part].tolist(), seed[part].tolist()))

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        indices = np.arange(self.num_samples)
        passes = range(epoch * self.repeats, (epoch + 1) * self.repeats)
        orders = [np.argsort(derive_seeds(indices, self.seed, _ORDER, p), kind="stable") for p in passes]
        seeds = [derive_seeds(order, self.seed, _SAMPLE, p) for order, p in zip(orders, passes)]
        return np.concatenate(orders), np.concatenate(seeds)


class MixedBatchSampler(TrainingBatchSampler):
    """Batches of several data sets that take turns in fixed proportions.

    Turns are cut into cycles of ``sum(ratios)``: of each, the first ``ratios[0]`` are of data set 0, the next
    ``ratios[1]`` of data set 1, and so on. Every data set has random orders of its own, and goes through all of its
    samples before it repeats one, over the ends of epochs too. Everything else is as in the class it derives from:
    the same samples for any number of processes, a function of seed and epoch alone.

    Args:
        sizes: Length of each data set; indices count through all of them.
        ratios: Turns of each in a cycle.
        batch_size: Samples per batch over all processes.
        by_batch: Whether a turn is a whole batch, or one sample.
        repeats: Passes over the first data set within one (reported) epoch.
        seed: The experiment's seed.

    Raises:
        ValueError: a data set is empty, or as in the class it derives from.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        ratios: Sequence[int],
        batch_size: int,
        *,
        by_batch: bool = True,
        repeats: int = 1,
        seed: int = 0,
    ) -> None:
        if 0 in sizes:
            raise ValueError(f"Every data set must have samples: got {list(sizes)}. Check data_root and split.")
        self.sizes = tuple(sizes)
        self._cycle = np.repeat(np.arange(len(sizes)), ratios)
        self._turn_size = batch_size if by_batch else 1
        turns_of_first, first = sizes[0] * repeats // self._turn_size, ratios[0]
        self._num_turns = turns_of_first // first * len(self._cycle) + turns_of_first % first
        super().__init__(sizes[0], batch_size, repeats=repeats, seed=seed)

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches in a whole epoch: it ends with the samples of the first data set."""
        return self._num_turns * self._turn_size // self.batch_size

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        turns = self._cycle[np.arange(self._num_turns) % len(self._cycle)]
        of_dataset = np.repeat(turns, self._turn_size)
        index, seed = np.empty(len(of_dataset), dtype=np.int64), np.empty(len(of_dataset), dtype=np.int64)
        starts = np.cumsum([0, *self.sizes[:-1]])
        for number, (size, start) in enumerate(zip(self.sizes, starts)):
            place = np.flatnonzero(of_dataset == number)
            position = epoch * len(place) + np.arange(len(place))
            local = np.arange(size)
            for number_of_pass in np.unique(position // size).tolist():
                order = np.argsort(derive_seeds(local, self.seed, _ORDER, number, number_of_pass), kind="stable")
                here = position // size == number_of_pass
                chosen = order[position[here] % size]
                index[place[here]] = start + chosen
                seed[place[here]] = derive_seeds(chosen, self.seed, _SAMPLE, number, number_of_pass)
        return index, seed


class EvaluationBatchSampler(Sampler[list[Key]]):
    """Batches of ``(index, seed)`` in which every sample occurs exactly once over all processes.

    Order and seeds never change. The processes take contiguous parts whose lengths differ by at most one.

    Args:
        num_samples: length of the dataset.
        batch_size: samples per batch of this process.
        seed: the experiment's seed.

    Raises:
        ValueError: the dataset is empty.
    """

    def __init__(self, num_samples: int, batch_size: int = 1, *, seed: int = 0) -> None:
        if num_samples == 0:
            raise ValueError("The evaluation set must have samples: it is empty. Check data_root and split.")
        rank, world_size = get_rank(), get_world_size()
        self._indices = np.arange(rank * num_samples // world_size, (rank + 1) * num_samples // world_size)
        self._seeds = derive_seeds(self._indices, seed, _EVALUATION)
        self._batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self._indices) // self._batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        for start in range(0, len(self._indices), self._batch_size):
            part = slice(start, start + self._batch_size)
            yield list(zip(self._indices[part].tolist(), self._seeds[part].tolist()))
