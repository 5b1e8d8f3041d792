"""The hook that tells a person how training goes."""

import logging
import sys

from tqdm import tqdm

from pointcept.engines.guard import StepRecord
from pointcept.engines.hooks.base import Hook
from pointcept.engines.hooks.timer import IterationTimer
from pointcept.registry import HOOKS
from pointcept.utils.distributed import is_main_process

_logger = logging.getLogger("pointcept")


@HOOKS.register()
class InformationWriter(Hook):
    """Log lines at intervals, a progress bar on a terminal, and at the end where everything was written.

    Args:
        log_every: optimizer steps between two lines. The first step and the last of each epoch have one, too.
    """

    def __init__(self, log_every: int = 10) -> None:
        if log_every < 1:
            raise ValueError(f"log_every must be at least 1: got {log_every}. Use 1 for a line per step.")
        self._log_every = log_every
        self._bar: tqdm | None = None
        self._first_step = 1

    def before_train(self) -> None:
        """Opens the progress bar."""
        trainer = self.trainer
        self._first_step = trainer.step + 1
        extent = (trainer.num_epochs, trainer.steps_per_epoch, trainer.device)
        _logger.info("Training for %d epochs of %d steps on %s.", *extent)
        if is_main_process() and sys.stderr.isatty():
            self._bar = tqdm(total=trainer.total_steps, initial=trainer.step, unit="step", leave=False)

    def after_step(self) -> None:
        """Advances the bar; logs when a line is due."""
        if self._bar is not None:
            self._bar.update()
        for record in self.trainer.records:
            if self._bar is not None:
                self._bar.set_postfix(loss=f"{record.loss:.4f}", refresh=False)
            is_last = record.step % self.trainer.steps_per_epoch == 0
            if is_last or record.step % self._log_every == 0 or record.step == self._first_step:
                self._log(record)

    def after_epoch(self) -> None:
        """Logs the last step where that was not known before."""
        for record in self.trainer.records:
            self._log(record)

    def after_train(self) -> None:
        """Closes the bar and lists what was written."""
        if self._bar is not None:
            self._bar.close()
        trainer = self.trainer
        state = "Finished" if trainer.is_finished else "Stopped"
        _logger.info("%s after %d steps, %s.", state, trainer.step, _clock(trainer.seconds))
        if trainer.is_finished and trainer.metrics:
            _logger.info("Last evaluation: %s", format_figures(trainer.metrics))
        for what, where in trainer.outputs.items():
            if where.exists():
                _logger.info("%s: %s", what, where)

    def _log(self, record: StepRecord) -> None:
        trainer = self.trainer
        epoch, iteration = divmod(record.step - 1, trainer.steps_per_epoch)
        parts = [f"Train: [{epoch + 1}/{trainer.num_epochs}][{iteration + 1}/{trainer.steps_per_epoch}]"]
        timer = trainer.find_hook(IterationTimer)
        if timer is not None:
            now, mean = timer.seconds, timer.mean_seconds
            parts.append(f"Data {now['data']:.3f} ({mean['data']:.3f}) Batch {now['step']:.3f} ({mean['step']:.3f})")
            parts.append(f"Remain {_clock(timer.remaining_seconds)}")
        parts.append(f"loss: {record.loss:.4f}")
        if len(record.losses) > 1:
            parts.append(format_figures(record.losses))
        parts.append(f"Grad: {record.grad_norm:.3g} Lr: {record.learning_rate:.3g}")
        _logger.info(" ".join(parts))


def format_figures(figures: dict[str, float]) -> str:
    """``name: value`` pairs with four significant digits or decimals."""
    return " ".join(
        f"{name}: {value:.4f}" if abs(value) >= 0.1 else f"{name}: {value:.4g}" for name, value in figures.items()
    )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}"
