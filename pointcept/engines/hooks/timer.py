"""The hook that measures where time goes and how much is left."""

import time

from pointcept.engines.hooks.base import Hook
from pointcept.engines.timing import PHASES
from pointcept.registry import HOOKS


@HOOKS.register()
class IterationTimer(Hook):
    """Measures the time of each step, from the end of the step before: all hooks and logging are part of it.

    Args:
        warmup_iter: steps at the beginning of each epoch that the means leave out.

    Attributes:
        seconds: of the last step: ``data``, ``forward``, ``backward``, ``optimizer``, ``other`` and ``step``, the sum.
        mean_seconds: the same, averaged over the training so far (since the last resume).
    """

    def __init__(self, warmup_iter: int = 1) -> None:
        self._warmup_iter = warmup_iter
        self._last = 0.0
        self._steps_in_epoch = 0
        self._num_measured = 0
        self.seconds: dict[str, float] = dict.fromkeys((*PHASES, "other", "step"), 0.0)
        self.mean_seconds: dict[str, float] = dict(self.seconds)

    @property
    def remaining_seconds(self) -> float:
        """Expected time of the steps that are left, without evaluations."""
        left = self.trainer.total_steps - self.trainer.step
        return left * (self.mean_seconds["step"] or self.seconds["step"])

    def before_epoch(self) -> None:
        """Leaves the time between epochs out."""
        self._last = time.perf_counter()
        self._steps_in_epoch = 0

    def after_step(self) -> None:
        """Reads the clocks."""
        now = time.perf_counter()
        phases = self.trainer.timer.seconds
        step = now - self._last
        self._last = now
        self.seconds = {**phases, "other": step - sum(phases.values()), "step": step}
        self._steps_in_epoch += 1
        if self._steps_in_epoch > self._warmup_iter:
            self._num_measured += 1
            for name, value in self.seconds.items():
                self.mean_seconds[name] += (value - self.mean_seconds[name]) / self._num_measured
