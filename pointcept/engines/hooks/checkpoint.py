"""The hooks that load weights before training and save the run during it."""

import logging
import signal
import threading
import time
from types import FrameType
from typing import Any

from pointcept.engines.checkpoint import save_checkpoint
from pointcept.engines.hooks.base import Hook
from pointcept.engines.hooks.evaluation import EvaluationHook
from pointcept.models.freezing import is_frozen
from pointcept.models.weights import load_weights
from pointcept.registry import HOOKS
from pointcept.utils.distributed import Consensus, barrier, is_main_process

_logger = logging.getLogger("pointcept")

_SIGTERM_EXIT_CODE = 128 + signal.SIGTERM


@HOOKS.register()
class CheckpointLoader(Hook):
    """Initialises the model from the config's ``weight``, if there is one, and lists by name what did not fit.

    ``weight`` is a path or a Hugging Face Hub id. Prefixes such as ``student.backbone.`` are found by themselves, for
    the model or the backbone inside it. A resumed run already has its weights and is left alone. A new run without
    ``weight`` of a model with frozen parts, such as a probe, is warned.

    Args:
        keywords: part of the names in the file; its first occurrence in a name becomes ``replacement``.
        replacement: None leaves names as they are, but for their prefix.
        strict: every weight must fit.
        reset_head: start with a new head, also where the file has one; needed for other classes.
    """

    def __init__(
        self, keywords: str = "", replacement: str | None = None, strict: bool = False, reset_head: bool = False
    ) -> None:
        self._options = {
            "keywords": keywords,
            "replacement": replacement,
            "strict": strict,
            "reset_head": reset_head,
        }

    def before_train(self) -> None:
        """Loads the weights."""
        if self.trainer.is_resumed:
            return
        if self.trainer.weight is not None:
            load_weights(self.trainer.model, self.trainer.weight, **self._options)
            return
        frozen = [name for name, part in self.trainer.model.named_modules() if is_frozen(part)]
        if frozen:
            _logger.warning(
                "weight is not set, and these parts are frozen as they were built: %s. Their values are random but for "
                "a timm backbone with pretrained or checkpoint. Give -w WEIGHT, unless that is what you want.",
                ", ".join(frozen),
            )


@HOOKS.register()
class CheckpointSaver(Hook):
    """Saves the whole run to ``model/``, so that it can go on from there as if nothing had happened.

    ``model_last.pth`` is the latest state: after every epoch, at the intervals below, and on SIGTERM, which ends the
    run with exit code 143 after the current step. ``model_best.pth`` is the state of the best evaluation. Hooks that
    have a state of their own, and the evaluation, must come before this one.

    Args:
        save_freq: also keep ``epoch_<n>.pth`` every so many reported epochs.
        save_every_steps: save every so many optimizer steps.
        save_every_minutes: save when so many minutes have passed since the last time.
    """

    def __init__(
        self,
        save_freq: int | None = None,
        save_every_steps: int | None = None,
        save_every_minutes: float | None = 10.0,
    ) -> None:
        for name, value in (
            ("save_freq", save_freq),
            ("save_every_steps", save_every_steps),
            ("save_every_minutes", save_every_minutes),
        ):
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be positive: got {value}. Use None to switch it off.")
        self._save_freq = save_freq
        self._save_every_steps = save_every_steps
        self._save_every_minutes = save_every_minutes
        self._terminated = False
        self._previous_handler: Any = None

    def before_train(self) -> None:
        """Makes the folder and starts listening for SIGTERM."""
        self._require_last()
        self._folder = self.trainer.save_path / "model"
        self._folder.mkdir(parents=True, exist_ok=True)
        self.trainer.outputs["Checkpoints"] = self._folder
        self._consensus = Consensus(2)
        self._saved_at = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGTERM, self._on_sigterm)

    def after_step(self) -> None:
        """Saves when it is time to, or when the run was asked to stop."""
        is_due_by_step = self._save_every_steps is not None and self.trainer.step % self._save_every_steps == 0
        terminated, is_due_by_time = self._consensus.vote(self._terminated, self._is_due_by_time())
        if is_due_by_step or is_due_by_time or terminated:
            self._save("model_last.pth")
        if terminated:
            self._stop()

    def after_epoch(self) -> None:
        """Saves the end of the epoch, and the best state if this is it."""
        trainer = self.trainer
        names = ["model_last.pth"]  # written last: once it is there, the epoch is not evaluated again
        if self._save_freq is not None and trainer.epoch % self._save_freq == 0:
            names.insert(0, f"epoch_{trainer.epoch}.pth")
        if trainer.best_metric is not None and trainer.best_step == trainer.step:
            names.insert(0, "model_best.pth")
        self._save(*names)
        terminated, _ = self._consensus.vote(self._terminated, False)
        if terminated:
            self._stop()

    def after_train(self) -> None:
        """Stops listening."""
        if self._previous_handler is not None:
            signal.signal(signal.SIGTERM, self._previous_handler)
            self._previous_handler = None
        if self.trainer.is_finished:
            barrier()

    def _save(self, *names: str) -> None:
        checkpoint = self.trainer.state_dict()
        if is_main_process():
            for name in names:
                save_checkpoint(self._folder / name, checkpoint)
        self._saved_at = time.monotonic()

    def _stop(self) -> None:
        _logger.warning("Stopping on SIGTERM; step %d is saved. Resume to go on.", self.trainer.step)
        self.trainer.exit_code = _SIGTERM_EXIT_CODE

    def _is_due_by_time(self) -> bool:
        if self._save_every_minutes is None or not is_main_process():
            return False
        return time.monotonic() - self._saved_at > 60 * self._save_every_minutes

    def _on_sigterm(self, signum: int, frame: FrameType | None) -> None:
        self._terminated = True

    def _require_last(self) -> None:
        hooks = self.trainer.hooks
        for hook in hooks[hooks.index(self) + 1 :]:
            has_state = type(hook).state_dict is not Hook.state_dict
            if has_state or isinstance(hook, EvaluationHook):
                raise ValueError(
                    f"CheckpointSaver must come after {type(hook).__name__} in hooks, so that it saves what that hook "
                    "did: it comes before it. Swap them."
                )
