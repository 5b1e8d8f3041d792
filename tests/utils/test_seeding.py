import random

import numpy as np
import torch

from pointcept.utils.seeding import derive_seed, derive_seeds, rng_state, seed_everything, set_rng_state


def draws():
    return torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()  # noqa: NPY002


def splitmix64(state):
    """The reference in Python integers; its first output for state 0 is published as 0xE220A8397B1DCDAF."""
    state = (state + 0x9E3779B97F4A7C15) % 2**64
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
    return state ^ (state >> 31)


def test_derived_seeds_are_splitmix64_of_every_part():
    assert splitmix64(0) == 0xE220A8397B1DCDAF
    for index, part in [(0, 1), (5, 2**40), (7, -3)]:
        expected = splitmix64(splitmix64(part % 2**64) ^ index) >> 1
        assert derive_seeds(np.array([index]), part).tolist() == [expected]
    assert derive_seed(1, 2) == derive_seeds(np.zeros(1, dtype=np.int64), 1, 2)[0]


def test_derived_seeds_depend_on_every_part_and_on_the_order():
    seeds = {derive_seed(*parts) for parts in [(1,), (1, 0), (0, 1), (1, 2), (2, 1), (-1, 2), (2**62, 1)]}
    assert len(seeds) == 7
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_of_many_indices_do_not_collide_and_are_spread_evenly():
    seeds = derive_seeds(np.arange(100_000), 3, 4)
    assert len(np.unique(seeds)) == 100_000
    assert abs(seeds.astype(np.float64).mean() / 2**62 - 1) < 0.01
    assert seeds[5] == derive_seeds(np.array([5]), 3, 4)[0]


def test_the_global_generators_go_on_from_a_saved_state(tmp_path):
    seed_everything(5)
    draws()
    torch.save(rng_state(), tmp_path / "rng.pt")
    expected = draws()
    seed_everything(6)
    set_rng_state(torch.load(tmp_path / "rng.pt", weights_only=True))
    assert draws() == expected


def test_seeding_is_reproducible():
    seed_everything(2**40)
    first = draws()
    seed_everything(2**40)
    assert draws() == first
