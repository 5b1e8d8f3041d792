"""Watches losses and gradients without waiting for the device, and stops on numbers that are not finite."""

import collections
import dataclasses
import logging
import math
from typing import Any

import torch
from torch import Tensor, nn

from pointcept.utils.distributed import all_reduce_sum, get_world_size

_logger = logging.getLogger("pointcept")


@dataclasses.dataclass(frozen=True)
class StepRecord:
    """What is known of one optimizer step.

    Attributes:
        step: number of the step, from 1.
        losses: every loss term, averaged over accumulated batches and processes.
        grad_norm: L2 norm of the whole gradient, before clipping.
        learning_rate: of the first parameter group.
    """

    step: int
    losses: dict[str, float]
    grad_norm: float
    learning_rate: float

    @property
    def loss(self) -> float:
        """The sum of the terms."""
        return sum(self.losses.values())


@dataclasses.dataclass
class _Pending:
    step: int
    names: list[str]
    scenes: list[tuple[str, ...]]
    learning_rate: float
    values: Tensor  # (A + 1) * T + 1: each batch's terms, their mean over batches and processes, the gradient's norm
    copied: Any = None
    checked: bool = False


class LossMonitor:
    """Collects the losses of each step and refuses values that are not finite.

    On a CPU a step is checked before the parameters change. On CUDA its values are copied in the background and
    checked one step later, and in any case before a checkpoint is written (:meth:`check_all`), so that the device is
    never waited for and no checkpoint holds the result of such a step.

    In ``float16`` the gradient scaler skips updates whose gradients overflow, which is normal. There a loss that is
    not finite is a warning, and an error only when it comes more than ``tolerated_steps`` times in a row.

    Every step and every process must report the same terms.

    Args:
        model: searched for the parameter to name in a message.
        device: where the losses are.
        tolerated_steps: 0 outside ``float16``.
    """

    def __init__(self, model: nn.Module, device: torch.device, *, tolerated_steps: int = 0) -> None:
        self._model = model
        self._device = device
        self._tolerated_steps = tolerated_steps
        self._failures = 0
        self._names: list[str] = []
        self._batches: list[Tensor] = []
        self._scenes: list[tuple[str, ...]] = []
        self._pending: collections.deque[_Pending] = collections.deque()

    def add(self, losses: dict[str, Tensor], scenes: tuple[str, ...]) -> None:
        """Takes the loss terms of one batch of the current step.

        Raises:
            ValueError: the batches of a step have different terms.
        """
        if self._batches and list(losses) != self._names:
            raise ValueError(
                f"A model must return the same loss terms for every batch: got {list(losses)} after {self._names}. "
                "Return a zero for a term without targets."
            )
        self._names = list(losses)
        self._batches.append(torch.stack([loss.detach().float() for loss in losses.values()]))
        self._scenes.append(scenes)

    def close_step(self, step: int, grad_norm: Tensor, learning_rate: float) -> None:
        """Ends the collection for a step, before its update.

        Raises:
            FloatingPointError: a loss or the gradient of this step (on CUDA: of the step before) is not finite.
        """
        batches = torch.stack(self._batches)
        mean = all_reduce_sum(batches.mean(0)) / get_world_size()
        values = torch.cat([batches.flatten(), mean, grad_norm.detach().float().reshape(1)])
        pending = _Pending(step, self._names, self._scenes, learning_rate, values)
        if self._device.type == "cuda":
            pending.values = torch.empty(values.shape, pin_memory=True).copy_(values, non_blocking=True)
            pending.copied = torch.cuda.Event()
            pending.copied.record()
        self._batches, self._scenes = [], []
        self._pending.append(pending)
        for known in self._known():
            self._check(known)

    def check_all(self) -> None:
        """Waits for all steps so far and checks them.

        Raises:
            FloatingPointError: a loss or a gradient is not finite.
        """
        for pending in self._pending:
            self._check(pending)

    def collect(self, *, wait: bool = False) -> list[StepRecord]:
        """The steps that became known since the last call; with ``wait`` also those still on their way."""
        known = list(self._pending) if wait else self._known()
        records = []
        for pending in known:
            self._pending.popleft()
            values = _host_values(pending)
            losses = dict(zip(pending.names, values[-1 - len(pending.names) : -1]))
            records.append(StepRecord(pending.step, losses, values[-1], pending.learning_rate))
        return records

    def _known(self) -> list[_Pending]:
        on_their_way = 1 if self._device.type == "cuda" else 0
        return list(self._pending)[: len(self._pending) - on_their_way]

    def _check(self, pending: _Pending) -> None:
        if pending.checked:
            return
        pending.checked = True
        values = _host_values(pending)
        problem = _loss_problem(pending, values)
        if problem is not None:
            self._failures += 1
            if self._failures > self._tolerated_steps:
                raise FloatingPointError(problem)
            _logger.warning("%s Tolerated in float16, %d in a row.", problem, self._failures)
            return
        self._failures = 0
        if not math.isfinite(values[-1]) and self._tolerated_steps == 0:
            raise FloatingPointError(self._gradient_problem(pending, values[-1]))

    def _gradient_problem(self, pending: _Pending, norm: float) -> str:
        culprits = ""
        if self._device.type == "cpu":  # on CUDA the gradients are a later step's by now
            culprits = next(
                (
                    f", first in parameter {name!r}"
                    for name, parameter in self._model.named_parameters()
                    if parameter.grad is not None and not parameter.grad.isfinite().all()
                ),
                "",
            )
        return (
            f"The gradient must be finite: its norm is {norm} at step {pending.step}{culprits}, while all losses are "
            f"finite (scenes {_listed(pending.scenes)}). Look for square roots, norms or divisions at zero."
        )


def _loss_problem(pending: _Pending, values: list[float]) -> str | None:
    num_terms = len(pending.names)
    for batch, scenes in enumerate(pending.scenes):
        for term, name in enumerate(pending.names):
            value = values[batch * num_terms + term]
            if not math.isfinite(value):
                return (
                    f"Loss term {name!r} must be finite: got {value} at step {pending.step} (scenes "
                    f"{_listed([scenes])}). Lower the learning rate, set clip_grad, or look at these scenes."
                )
    for name, value in zip(pending.names, values[-1 - num_terms : -1]):
        if not math.isfinite(value):
            return f"Loss term {name!r} must be finite: got {value} at step {pending.step}, in another process."
    return None


def _host_values(pending: _Pending) -> list[float]:
    if pending.copied is not None:
        pending.copied.synchronize()
    return pending.values.tolist()


def _listed(scenes: list[tuple[str, ...]]) -> str:
    names = [name or "unnamed" for batch in scenes for name in batch]
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
