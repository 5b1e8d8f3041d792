import numpy as np
import pytest

from pointcept.engines import sampler
from pointcept.engines.sampler import EvaluationBatchSampler, TrainingBatchSampler


def batches(training_sampler, epoch=0, first_batch=0):
    training_sampler.set_position(epoch, first_batch)
    return list(training_sampler)


def as_rank(monkeypatch, rank, world_size):
    monkeypatch.setattr(sampler, "get_rank", lambda: rank)
    monkeypatch.setattr(sampler, "get_world_size", lambda: world_size)


def test_every_pass_visits_every_sample_once_with_seeds_of_its_own():
    keys = [key for batch in batches(TrainingBatchSampler(10, 5, repeats=3)) for key in batch]
    assert len(keys) == 30
    for number in range(3):
        assert sorted(index for index, _ in keys[10 * number : 10 * number + 10]) == list(range(10))
    assert len({seed for _, seed in keys}) == 30
    assert all(0 <= seed < 2**63 for _, seed in keys)
    assert [index for index, _ in keys[:10]] != [index for index, _ in keys[10:20]]


def test_the_order_is_a_function_of_seed_and_epoch_alone():
    first, second = TrainingBatchSampler(10, 2, seed=3), TrainingBatchSampler(10, 2, seed=3)
    batches(first, epoch=0)
    assert batches(first, epoch=4) == batches(second, epoch=4)
    assert batches(first, epoch=4) != batches(first, epoch=5)
    assert batches(first) != batches(TrainingBatchSampler(10, 2, seed=4))


def test_the_passes_of_an_epoch_are_those_of_single_pass_epochs():
    thrice, once = TrainingBatchSampler(8, 2, repeats=3), TrainingBatchSampler(8, 2)
    assert batches(thrice, epoch=1) == [batch for epoch in (3, 4, 5) for batch in batches(once, epoch=epoch)]


def test_starting_in_the_middle_gives_the_rest_of_the_epoch():
    training = TrainingBatchSampler(11, 2)
    whole = batches(training, epoch=2)
    assert len(whole) == training.batches_per_epoch == 5  # the eleventh sample is left out
    assert batches(training, epoch=2, first_batch=3) == whole[3:]
    assert len(training) == 2


def test_processes_share_each_global_batch_contiguously(monkeypatch):
    whole = batches(TrainingBatchSampler(12, 4), epoch=1)
    parts = []
    for rank in range(2):
        as_rank(monkeypatch, rank, 2)
        parts.append(batches(TrainingBatchSampler(12, 4), epoch=1))
    assert [a + b for a, b in zip(*parts)] == whole


@pytest.mark.parametrize(("num_samples", "world_size", "batch_size"), [(7, 2, 2), (3, 4, 1), (8, 3, 5), (1, 1, 1)])
def test_an_evaluation_visits_every_sample_exactly_once(monkeypatch, num_samples, world_size, batch_size):
    keys = []
    for rank in range(world_size):
        as_rank(monkeypatch, rank, world_size)
        part = list(EvaluationBatchSampler(num_samples, batch_size))
        assert len(part) == len(EvaluationBatchSampler(num_samples, batch_size))
        keys += [key for batch in part for key in batch]
    assert [index for index, _ in keys] == list(range(num_samples))
    as_rank(monkeypatch, 0, 1)
    assert keys == [key for batch in EvaluationBatchSampler(num_samples) for key in batch]


def test_an_epoch_without_a_batch_is_refused():
    with pytest.raises(ValueError, match=r"got 3 samples x 1 passes for batch_size 4\. Lower batch_size"):
        TrainingBatchSampler(3, 4)
    assert TrainingBatchSampler(3, 4, repeats=2).batches_per_epoch == 1
    with pytest.raises(ValueError, match="training set must have samples: it is empty"):
        TrainingBatchSampler(0, 1)
    with pytest.raises(ValueError, match="evaluation set must have samples: it is empty"):
        EvaluationBatchSampler(0)


def test_a_batch_that_cannot_be_shared_equally_is_refused(monkeypatch):
    as_rank(monkeypatch, 0, 2)
    with pytest.raises(ValueError, match="multiple of the number of processes: got 3 for 2"):
        TrainingBatchSampler(12, 3)


def test_keys_are_plain_integers():
    (index, seed), *_ = batches(TrainingBatchSampler(4, 2))[0]
    assert type(index) is int and type(seed) is int and not isinstance(seed, np.integer)
