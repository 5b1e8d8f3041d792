import torch

from pointcept.ops import random


def test_a_scene_draws_the_same_alone_and_in_a_batch():
    seeds = torch.tensor([3, -7, 2**62])
    together = random.uniform(seeds, (5, 4), stream=1)
    for index in range(3):
        alone = random.uniform(seeds[index : index + 1], (5, 4), stream=1)
        assert torch.equal(alone[0], together[index])


def test_more_numbers_begin_with_the_same_numbers():
    seed = torch.tensor([12])
    assert torch.equal(random.uniform(seed, (10,), stream=0), random.uniform(seed, (100,), stream=0)[:, :10])


def test_seeds_and_streams_give_unrelated_numbers():
    first = random.uniform(torch.tensor([0, 1]), (20_000,), stream=0)
    second = random.uniform(torch.tensor([0, 1]), (20_000,), stream=1)
    draws = torch.cat((first, second))
    correlation = torch.corrcoef(draws) - torch.eye(4)
    assert correlation.abs().max() < 5 / 20_000**0.5


def test_numbers_are_uniform_and_below_one():
    draws = random.uniform(torch.tensor([99]), (200_000,), stream=3)[0]
    assert draws.min() >= 0 and draws.max() < 1
    share = torch.histc(draws, bins=10, min=0, max=1) / draws.numel()
    assert (share - 0.1).abs().max() < 5 * (0.09 / 200_000) ** 0.5


def test_hash_is_splitmix64():
    # First output of SplitMix64 from state 0, published with the algorithm: 0xE220A8397B1DCDAF.
    assert random.hash_integers(torch.tensor([0])).item() == 0xE220A8397B1DCDAF - 2**64
