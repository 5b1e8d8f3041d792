"""Weights of loss terms, and other numbers, that change over a run."""

import math
from typing import Literal

from pointcept.registry import LOSSES


@LOSSES.register()
class WeightRamp:
    """A weight that goes from one value to another between two points of the run, and stays as it is outside.

    It is a function of the run's progress alone, so a resumed run has the weights of an uninterrupted one.

    Args:
        start: Weight up to ``begin``.
        end: Weight from ``finish`` on.
        begin: Progress at which it begins to change, 0..1.
        finish: Progress at which it has changed, 0..1.
        shape: "linear", or "cosine" (half a period: slow at both ends).
    """

    def __init__(
        self,
        start: float,
        end: float,
        begin: float = 0.0,
        finish: float = 1.0,
        shape: Literal["linear", "cosine"] = "linear",
    ) -> None:
        if not 0 <= begin < finish <= 1:
            raise ValueError(f"begin and finish must satisfy 0 <= begin < finish <= 1: got {begin} and {finish}.")
        if shape not in ("linear", "cosine"):
            raise ValueError(f"shape must be 'linear' or 'cosine': got {shape!r}.")
        self.start, self.end = float(start), float(end)
        self.begin, self.finish = begin, finish
        self.shape = shape

    def __call__(self, progress: float) -> float:
        """The weight at ``progress``, the fraction of the run's optimizer steps that are done (0..1)."""
        share = min(max((progress - self.begin) / (self.finish - self.begin), 0.0), 1.0)
        if self.shape == "cosine":
            share = 0.5 - 0.5 * math.cos(math.pi * share)
        return self.start + (self.end - self.start) * share
