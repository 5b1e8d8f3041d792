"""Seeds: deriving them from one another, and saving and restoring the global generators."""

import random
from typing import Any

import numpy as np
import torch

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def derive_seed(*parts: int) -> int:
    """A seed in [0, 2**63) that depends on every one of the given integers and on their order.

    Stateless and the same on every machine, unlike ``hash``.
    """
    return int(derive_seeds(np.zeros(1, dtype=np.int64), *parts)[0])


def derive_seeds(indices: np.ndarray, *parts: int) -> np.ndarray:
    """One seed in [0, 2**63) for each index, each depending on all ``parts`` too.

    Args:
        indices: (N,) integers.
        parts: further integers, for example the experiment's seed and the epoch.

    Returns:
        (N,) int64.

    Source: the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), applied once per part.
    """
    state = np.zeros(len(indices), dtype=np.uint64)
    for part in (*parts, indices):
        state = _mix(state ^ np.asarray(part).astype(np.int64).astype(np.uint64))
    return (state >> np.uint64(1)).astype(np.int64)


def seed_everything(seed: int) -> None:
    """Seeds the global generators of Python, NumPy and torch (CPU and CUDA)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - third-party code may use the global generator
    torch.manual_seed(seed)


def rng_state() -> dict[str, Any]:
    """The global generators of this process, as tensors and plain values that load with ``weights_only=True``."""
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    version, words, next_gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "numpy": [str(name), keys.tolist(), int(position), int(has_gauss), float(gauss)],
        "python": [version, list(words), next_gauss],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Restores what :func:`rng_state` returned. The CUDA part is skipped where there is no CUDA device."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, np.asarray(keys, dtype=np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    version, words, next_gauss = state["python"]
    random.setstate((version, tuple(words), next_gauss))


def _mix(state: np.ndarray) -> np.ndarray:
    state = state + _GOLDEN  # unsigned arithmetic wraps around on purpose
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
