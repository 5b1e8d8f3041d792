"""Where the time of a training step goes."""

import contextlib
import time
from collections.abc import Iterator

import torch

PHASES = ("data", "forward", "backward", "optimizer")


class PhaseTimer:
    """Seconds spent in each phase of the current step.

    On CUDA these are the seconds that the process spent giving out work, unless ``synchronize`` makes every phase wait
    for the device, which is for measurements only.

    Attributes:
        seconds: by phase, since the last :meth:`reset`.
    """

    def __init__(self, *, synchronize: bool = False) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(PHASES, 0.0)
        self.synchronize = synchronize

    def reset(self) -> None:
        """Starts a new step."""
        self.seconds = dict.fromkeys(PHASES, 0.0)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the time of the block to a phase."""
        start = time.perf_counter()
        yield
        if self.synchronize and torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds[name] += time.perf_counter() - start
