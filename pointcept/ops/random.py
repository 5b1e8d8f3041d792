"""Stateless random numbers: a pure function of a scene's seed, a stream and a position, on any device.

Numbers do not depend on batch mates, on the process or on what was drawn before, so a resumed or distributed run draws
what an uninterrupted run in one process draws.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def hash_integers(value: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Scramble int64 values by the finaliser of SplitMix64 (Steele et al., OOPSLA 2014)."""
    value = value + _GOLDEN
    value = (value ^ _shift_right(value, 30)) * _MIX_1
    value = (value ^ _shift_right(value, 27)) * _MIX_2
    return value ^ _shift_right(value, 31)


def to_uniform(value: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The upper 24 bits of hashed values as float32 in [0, 1)."""
    return _shift_right(value, 40).to(torch.float32) * 2.0**-24


def uniform(seed: Int[Tensor, "B"], shape: Sequence[int], *, stream: int) -> Float[Tensor, "B *shape"]:
    """Uniform float32 numbers in [0, 1), ``shape`` of them for each scene.

    Args:
        seed: One number per scene.
        shape: Shape of what each scene receives.
        stream: Distinguishes the draws that are made with one seed.
    """
    key = hash_integers(hash_integers(seed) + stream)
    position = torch.arange(math.prod(shape), device=seed.device)
    value = hash_integers(key[:, None] ^ hash_integers(position))
    return to_uniform(value).reshape(seed.shape[0], *shape)


def _shift_right(value: Tensor, bits: int) -> Tensor:
    return (value >> bits) & ((1 << (64 - bits)) - 1)
