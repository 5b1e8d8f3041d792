"""Training on several data sets in turns: the ratio is exact, nothing is repeated too early, processes agree."""

import numpy as np
import pytest
import torch

from pointcept.datasets import MixedDataset
from pointcept.engines import sampler
from pointcept.engines.loaders import training_loader
from pointcept.engines.sampler import MixedBatchSampler
from pointcept.structures import PointSample

SIZES, RATIOS = (16, 5, 9), (4, 2, 1)


class Numbers(torch.utils.data.Dataset):
    """Items that say where they come from."""

    def __init__(self, name: str, size: int) -> None:
        self.name, self.size, self.scenes = name, size, [f"{name}{i}" for i in range(size)]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key):
        index, seed = key
        scene = {"name": self.name, "index": index}
        return PointSample(coord=np.zeros((1, 3), dtype=np.float32), scene=scene, seed=seed)


def parts() -> list[Numbers]:
    return [Numbers(name, size) for name, size in zip("abc", SIZES)]


def dataset_of(index: int) -> int:
    return int(np.searchsorted(np.cumsum(SIZES), index, side="right"))


def batches(of: MixedBatchSampler, epoch: int = 0, first: int = 0) -> list[list[tuple[int, int]]]:
    of.set_position(epoch, first)
    return list(of)


def test_batches_of_one_data_set_take_turns_in_the_ratio():
    found = batches(MixedBatchSampler(SIZES, RATIOS, 2, repeats=2))
    owners = [[dataset_of(index) for index, _ in batch] for batch in found]
    assert all(len(set(owner)) == 1 for owner in owners)
    # 16 batches of the first data set: 4 whole cycles
    assert [owner[0] for owner in owners] == [0, 0, 0, 0, 1, 1, 2] * 4
    rest = MixedBatchSampler((14, 5, 9), RATIOS, 2)  # 7 batches of the first: a cycle and three more
    assert [batch[0][0] < 14 for batch in batches(rest)] == [True] * 4 + [False] * 3 + [True] * 3
    assert rest.batches_per_epoch == len(batches(rest)) == 10


def test_scenes_take_turns_within_batches():
    mixed = MixedBatchSampler(SIZES, RATIOS, 7, by_batch=False)
    found = batches(mixed)
    assert mixed.batches_per_epoch == len(found) == 4
    for batch in found:
        assert [dataset_of(index) for index, _ in batch] == [0, 0, 0, 0, 1, 1, 2]


def test_every_data_set_is_gone_through_before_it_repeats_over_epochs_too():
    mixed = MixedBatchSampler(SIZES, RATIOS, 2)
    keys = [key for epoch in range(9) for batch in batches(mixed, epoch) for key in batch]
    for number, size in enumerate(SIZES):
        own = [index for index, _ in keys if dataset_of(index) == number]
        for start in range(0, len(own) - size + 1, size):
            assert len(set(own[start : start + size])) == size
    assert len({seed for _, seed in keys}) == len(keys)  # another random choice each time
    assert [i for i, _ in keys[:8]] != [i for i, _ in keys[len(keys) // 9 :][:8]]


def test_the_order_depends_on_seed_and_epoch_alone_and_can_begin_in_the_middle():
    first, second = (MixedBatchSampler(SIZES, RATIOS, 2, seed=3) for _ in range(2))
    batches(first, 0)
    assert batches(first, 5) == batches(second, 5) != batches(second, 6)
    assert batches(first, 5, 3) == batches(second, 5)[3:]
    assert batches(first, 5) != batches(MixedBatchSampler(SIZES, RATIOS, 2, seed=4), 5)


def test_processes_share_each_batch(monkeypatch):
    whole = batches(MixedBatchSampler(SIZES, RATIOS, 4))
    shares = []
    for rank in range(2):
        monkeypatch.setattr(sampler, "get_rank", lambda rank=rank: rank)
        monkeypatch.setattr(sampler, "get_world_size", lambda: 2)
        shares.append(batches(MixedBatchSampler(SIZES, RATIOS, 4)))
    assert [a + b for a, b in zip(*shares)] == whole


def test_the_training_loader_takes_turns_for_a_mixed_data_set():
    loader = training_loader(MixedDataset(parts(), RATIOS, loop=2), join, batch_size=2)
    assert [name for name, _ in loader] == ["aa", "aa", "aa", "aa", "bb", "bb", "cc"] * 4
    scenes = list(training_loader(MixedDataset(parts(), RATIOS, mixing="scenes"), join, batch_size=7))
    assert [name for name, _ in scenes] == ["aaaabbc"] * 4
    assert sorted(index for _, rows in scenes for index in rows[:4]) == list(range(16))
    assert all(row < size for _, rows in scenes for row, size in zip(rows, (16, 16, 16, 16, 5, 5, 9)))


def join(samples: list[PointSample]) -> tuple[str, list[int]]:
    return "".join(sample.name for sample in samples), [sample.scene["index"] for sample in samples]


def test_wrong_ratios_are_refused():
    with pytest.raises(ValueError, match=r"ratios must give a positive number for each of the 3 data sets: got \[4, 0"):
        MixedDataset(parts(), (4, 0, 1))
    with pytest.raises(ValueError, match=r"ratios must give a positive number for each of the 3 data sets: got \[1\]"):
        MixedDataset(parts(), (1,))
    with pytest.raises(ValueError, match=r"Every data set must have samples: got \[3, 0\]"):
        MixedBatchSampler((3, 0), (1, 1), 1)
