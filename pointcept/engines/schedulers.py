"""Learning rate schedules: pure functions of the optimizer step, so that resuming needs no state."""

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch

from pointcept.registry import SCHEDULERS


class Schedule(abc.ABC):
    """What the settings of a parameter group are at each step."""

    @abc.abstractmethod
    def values(self, group: dict[str, Any], index: int, step: int, total_steps: int) -> dict[str, Any]:
        """The settings to change.

        Args:
            group: a parameter group; ``initial_lr`` is the learning rate from the config.
            index: its position among the groups.
            step: number of optimizer steps done before this one.
            total_steps: number of optimizer steps of the whole training.
        """

    def check(self, optimizer: torch.optim.Optimizer) -> None:  # noqa: B027 - most schedules go with all
        """Raises ``ValueError`` where the schedule does not go with the optimizer's groups."""

    def apply(self, optimizer: torch.optim.Optimizer, step: int, total_steps: int) -> None:
        """Prepares the optimizer for a step."""
        for index, group in enumerate(optimizer.param_groups):
            group.update(self.values(group, index, step, total_steps))


class FactorSchedule(Schedule):
    """A schedule that multiplies the learning rate of every group by one factor."""

    @abc.abstractmethod
    def factor(self, step: int, total_steps: int) -> float:
        """The factor at a step."""

    def values(self, group: dict[str, Any], index: int, step: int, total_steps: int) -> dict[str, Any]:
        """The learning rate."""
        return {"lr": group["initial_lr"] * self.factor(step, total_steps)}


@SCHEDULERS.register()
@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiStepLR(FactorSchedule):
    """Multiplies by ``gamma`` at each milestone.

    Attributes:
        milestones: fractions of the training, 0..1.
        gamma: factor at each of them.
    """

    milestones: Sequence[float]
    gamma: float = 0.1

    def factor(self, step: int, total_steps: int) -> float:
        """The factor at a step."""
        return self.gamma ** sum(step >= int(milestone * total_steps) for milestone in self.milestones)


@SCHEDULERS.register()
@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiStepWithWarmupLR(MultiStepLR):
    """:class:`MultiStepLR` after a linear warm-up.

    Attributes:
        warmup_rate: length of the warm-up, as a fraction of the training.
        warmup_scale: factor at its beginning.
    """

    warmup_rate: float = 0.05
    warmup_scale: float = 1e-6

    def factor(self, step: int, total_steps: int) -> float:
        """The factor at a step."""
        return _warmup(step, self.warmup_rate * total_steps, self.warmup_scale) * super().factor(step, total_steps)


@SCHEDULERS.register()
@dataclasses.dataclass(frozen=True, kw_only=True)
class PolyLR(FactorSchedule):
    """``(1 - step / (total + 1)) ** power``."""

    power: float = 0.9

    def factor(self, step: int, total_steps: int) -> float:
        """The factor at a step."""
        return (1 - step / (total_steps + 1)) ** self.power


@SCHEDULERS.register()
@dataclasses.dataclass(frozen=True, kw_only=True)
class ExpLR(FactorSchedule):
    """``gamma ** (step / total)``."""

    gamma: float = 0.9

    def factor(self, step: int, total_steps: int) -> float:
        """The factor at a step."""
        return self.gamma ** (step / total_steps)


@SCHEDULERS.register()
@dataclasses.dataclass(frozen=True, kw_only=True)
class CosineAnnealingLR(Schedule):
    """Half a cosine from the learning rate down to ``eta_min``, after an optional linear warm-up.

    Attributes:
        eta_min: learning rate at the end.
        warmup_rate: length of the warm-up, as a fraction of the training; 0 for none.
        warmup_scale: factor at its beginning.
    """

    eta_min: float = 0.0
    warmup_rate: float = 0.0
    warmup_scale: float = 1e-6

    def values(self, group: dict[str, Any], index: int, step: int, total_steps: int) -> dict[str, Any]:
        """The learning rate."""
        warmup_steps = self.warmup_rate * total_steps
        progress = max(0.0, step - warmup_steps) / max(1.0, total_steps - warmup_steps)
        lr = _cosine(group["initial_lr"], self.eta_min, progress)
        return {"lr": lr * _warmup(step, warmup_steps, self.warmup_scale)}


@SCHEDULERS.register()
@dataclasses.dataclass(frozen=True, kw_only=True)
class OneCycleLR(Schedule):
    """Up to a peak and down again, with momentum (or Adam's first beta) moving the other way.

    Attributes:
        max_lr: peak, one number or one per parameter group; None takes each group's own ``lr`` as its peak.
        pct_start: fraction of the training at which the peak is reached.
        anneal_strategy: shape of both slopes.
        cycle_momentum: whether momentum moves too.
        base_momentum: momentum at the peak.
        max_momentum: momentum at both ends.
        div_factor: peak over the first learning rate.
        final_div_factor: first learning rate over the last.

    Source: Smith and Topin, arXiv 1708.07120; the values are those of ``torch.optim.lr_scheduler.OneCycleLR``.
    """

    max_lr: float | Sequence[float] | None = None
    pct_start: float = 0.3
    anneal_strategy: Literal["cos", "linear"] = "cos"
    cycle_momentum: bool = True
    base_momentum: float = 0.85
    max_momentum: float = 0.95
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def check(self, optimizer: torch.optim.Optimizer) -> None:
        """Raises ``ValueError`` where the peaks do not go with the groups."""
        rates = [group["initial_lr"] for group in optimizer.param_groups]
        if isinstance(self.max_lr, Sequence) and len(self.max_lr) != len(rates):
            raise ValueError(
                f"max_lr must be one number per parameter group (group 0 and one per entry of param_dicts): got "
                f"{len(self.max_lr)} for {len(rates)} groups. Leave max_lr out to use the groups' own lr."
            )
        if isinstance(self.max_lr, int | float) and len(set(rates)) > 1:
            raise ValueError(
                f"A single max_lr would overrule the learning rates of the groups, {rates}: got {self.max_lr}. "
                "Give one max_lr per group, or leave max_lr out to use the groups' own lr."
            )

    def values(self, group: dict[str, Any], index: int, step: int, total_steps: int) -> dict[str, Any]:
        """Learning rate and momentum."""
        peak = group["initial_lr"] if self.max_lr is None else self.max_lr
        peak = peak[index] if isinstance(peak, Sequence) else peak
        first = peak / self.div_factor
        momentum = self._interpolate(self.max_momentum, self.base_momentum, self.max_momentum, step, total_steps)
        values = {"lr": self._interpolate(first, peak, first / self.final_div_factor, step, total_steps)}
        if self.cycle_momentum and "betas" in group:
            values["betas"] = (momentum, *group["betas"][1:])
        elif self.cycle_momentum and group.get("momentum"):
            values["momentum"] = momentum
        return values

    def _interpolate(self, first: float, peak: float, last: float, step: int, total_steps: int) -> float:
        anneal = _cosine if self.anneal_strategy == "cos" else _linear
        peak_step = self.pct_start * total_steps - 1
        if step < peak_step:
            return anneal(first, peak, step / peak_step)
        return anneal(peak, last, (step - peak_step) / max(1.0, total_steps - 1 - peak_step))


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * progress))


def _linear(start: float, end: float, progress: float) -> float:
    return start + (end - start) * progress


def _warmup(step: int, warmup_steps: float, scale: float) -> float:
    return scale + (1 - scale) * step / warmup_steps if step < warmup_steps else 1.0
