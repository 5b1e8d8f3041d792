"""The training loop."""

import contextlib
import inspect
import json
import logging
import platform
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

import pointcept
from pointcept.engines.amp import Precision
from pointcept.engines.guard import LossMonitor, StepRecord
from pointcept.engines.hooks.base import Hook
from pointcept.engines.sampler import TrainingBatchSampler
from pointcept.engines.schedulers import Schedule
from pointcept.engines.timing import PhaseTimer
from pointcept.models.checkpoints import load_checkpoint, model_weights
from pointcept.models.weights import match_weights
from pointcept.structures import SceneBatch
from pointcept.utils.distributed import all_gather_objects, get_rank, get_world_size, is_main_process
from pointcept.utils.files import write_text
from pointcept.utils.seeding import rng_state, set_rng_state

_logger = logging.getLogger("pointcept")
_HookType = TypeVar("_HookType", bound=Hook)
_TOLERATED_FLOAT16_STEPS = 20


class Trainer:
    """Trains a model; everything that is not the loop itself is a hook.

    ::

        before_train
        for each reported epoch:
            before_epoch
            for each optimizer step:
                before_step; load, forward, backward (once per accumulated batch), update; after_step
            after_epoch
        after_train                     # also after an error

    The model gets a ``SceneBatch`` and returns its weighted loss terms, which are summed. The learning rate is a
    function of the step. Batches accumulated at the end of an epoch that do not fill a step make a smaller one, so a
    step never spans two epochs.

    Attributes:
        model: the model itself, for everything but the training step.
        parallel_model: the model as it is called in training, wrapped where there are several processes.
        device: where the model is.
        save_path: folder of the experiment.
        weight: checkpoint to initialise the model from, for the hook that does so.
        val_loader: None when nothing is evaluated.
        epoch: number of reported epochs that are finished; in ``after_epoch`` it counts the one that just ended.
        num_epochs: number of reported epochs of the whole training.
        step: number of optimizer steps done.
        step_in_epoch: those of the current epoch; 0 in ``after_epoch``.
        records: losses of the steps that became known since hooks were last called. On a CPU this is the step just
            done, on CUDA the one before.
        metrics: figures of the last evaluation.
        best_metric: best value of the main figure so far; None before the first evaluation.
        best_step: step at which it was reached.
        timer: where the time of the current step went.
        outputs: what the hooks write, and where, for the message at the end.
        exit_code: set by a hook to stop after the current step or epoch with this code.
        is_finished: whether the last epoch ended without an error.
    """

    model: nn.Module
    parallel_model: nn.Module
    device: torch.device
    save_path: Path
    weight: str | None
    hooks: list[Hook]
    train_loader: DataLoader
    val_loader: DataLoader | None
    optimizer: torch.optim.Optimizer
    schedule: Schedule | None
    epoch: int
    num_epochs: int
    step: int
    step_in_epoch: int
    records: list[StepRecord]
    metrics: dict[str, float]
    best_metric: float | None
    best_step: int
    timer: PhaseTimer
    outputs: dict[str, Path]
    exit_code: int | None
    is_finished: bool

    def __init__(
        self,
        *,
        model: nn.Module,
        train_loader: DataLoader,
        optimizer: torch.optim.Optimizer,
        num_epochs: int,
        save_path: str | Path,
        schedule: Schedule | None = None,
        hooks: Sequence[Hook] = (),
        val_loader: DataLoader | None = None,
        device: torch.device | None = None,
        accumulation_steps: int = 1,
        clip_grad: float | None = None,
        precision: Precision | None = None,
        find_unused_parameters: bool = False,
        weight: str | None = None,
        config_text: str = "",
    ) -> None:
        self.device = device or torch.device("cpu")
        self.model = model.to(self.device)
        self.parallel_model = _parallel(self.model, self.device, find_unused_parameters)
        self.train_loader = train_loader
        self.val_loader = val_loader
        self.optimizer = optimizer
        self.schedule = schedule
        self.num_epochs = num_epochs
        self.accumulation_steps = accumulation_steps
        self.clip_grad = clip_grad
        self.precision = precision or Precision(device_type=self.device.type)
        self.scaler = self.precision.scaler()
        self.weight = weight
        self.config_text = config_text
        self.save_path = Path(save_path)
        self.save_path.mkdir(parents=True, exist_ok=True)
        if self.schedule is not None:
            self.schedule.check(optimizer)

        self.epoch = self.step = self.step_in_epoch = 0
        self.records = []
        self.metrics = {}
        self.best_metric = None
        self.best_step = 0
        self.timer = PhaseTimer()
        self.outputs = {"Log": self.save_path / "train.log"}
        self.exit_code = None
        self.is_finished = False
        self._seconds_before = 0.0
        self._peak_memory_before = 0.0
        self._started = time.perf_counter()
        self._resumed_rng: list[dict[str, Any]] | None = None
        tolerated = _TOLERATED_FLOAT16_STEPS if self.precision.name == "float16" else 0
        self._monitor = LossMonitor(self.model, self.device, tolerated_steps=tolerated)
        self.hooks = list(hooks)
        for hook in self.hooks:
            hook.trainer = self

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in a reported epoch."""
        return -(-self._sampler.batches_per_epoch // self.accumulation_steps)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.steps_per_epoch * self.num_epochs

    @property
    def is_resumed(self) -> bool:
        """Whether training goes on from a checkpoint of the same run."""
        return self._resumed_rng is not None

    @property
    def seconds(self) -> float:
        """Time spent, including that of the runs this one was resumed from up to their last checkpoint."""
        return self._seconds_before + time.perf_counter() - self._started

    def find_hook(self, hook_type: type[_HookType]) -> _HookType | None:
        """The first hook of a type, or None."""
        return next((hook for hook in self.hooks if isinstance(hook, hook_type)), None)

    def train(self) -> None:
        """Trains to the end, then writes ``metrics.json``.

        Raises:
            FloatingPointError: a loss or gradient is not finite; the message names the loss term and the scenes.
            SystemExit: a hook asked to stop, after a checkpoint was saved.
        """
        try:
            self._call("before_train")
            self._restore_rng()
            while self.epoch < self.num_epochs:
                self._run_epoch()
            self.is_finished = True
        finally:
            self.records = self._monitor.collect(wait=True)
            self._call("after_train")
        if is_main_process():
            write_text(self.save_path / "metrics.json", json.dumps(self.summary(), indent=2) + "\n")

    def summary(self) -> dict[str, float | int]:
        """The last evaluation's figures, with the steps, seconds and peak memory of the training."""
        return {
            **self.metrics,
            "steps": self.step,
            "seconds": round(self.seconds, 3),
            "peak_memory_gb": round(self._peak_memory_gb(), 3),
        }

    def _run_epoch(self) -> None:
        self.model.train()
        self._call("before_epoch")
        batches = self._remaining_batches()
        while self.step_in_epoch < self.steps_per_epoch:
            self._call("before_step")
            if hasattr(self.model, "set_progress"):  # losses whose weights change over the run
                self.model.set_progress(self.step / self.total_steps)
            self._run_step(batches)
            self.records = self._monitor.collect()
            self._call("after_step")
            self._stop_if_asked()
        self._monitor.check_all()
        self.epoch += 1
        self.step_in_epoch = 0
        self.records = self._monitor.collect(wait=True)
        self._call("after_epoch")
        self._stop_if_asked()

    def _run_step(self, batches: Iterator[SceneBatch]) -> None:
        self.timer.reset()
        done = self.step_in_epoch * self.accumulation_steps
        num_batches = min(self.accumulation_steps, self._sampler.batches_per_epoch - done)
        for number in range(num_batches):
            with self.timer.phase("data"):
                batch = next(batches).to(self.device, non_blocking=True)
            with self._synchronization(is_last=number == num_batches - 1):
                with self.timer.phase("forward"), self.precision.autocast():
                    losses = self.parallel_model(batch)
                    total = _total(losses, type(self.model).__name__)
                with self.timer.phase("backward"):
                    self.scaler.scale(total / num_batches).backward()
            self._monitor.add(losses, batch.name)
        with self.timer.phase("optimizer"):
            self._update()

    def _update(self) -> None:
        if self.schedule is not None:
            self.schedule.apply(self.optimizer, self.step, self.total_steps)
        self.scaler.unscale_(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters], foreach=None)
        self._monitor.close_step(self.step + 1, norm, self.optimizer.param_groups[0]["lr"])
        if self.clip_grad is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.clip_grad, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.step_in_epoch += 1

    def _remaining_batches(self) -> Iterator[SceneBatch]:
        if self.step_in_epoch == self.steps_per_epoch:  # saved after the last step, before the epoch's end
            return iter(())
        self._sampler.set_position(self.epoch, self.step_in_epoch * self.accumulation_steps)
        return iter(self.train_loader)

    def _synchronization(self, *, is_last: bool) -> contextlib.AbstractContextManager:
        if isinstance(self.parallel_model, DistributedDataParallel) and not is_last:
            return self.parallel_model.no_sync()
        return contextlib.nullcontext()

    def _stop_if_asked(self) -> None:
        if self.exit_code is not None:
            raise SystemExit(self.exit_code)

    def _call(self, event: str) -> None:
        for hook in self.hooks:
            getattr(hook, event)()

    @property
    def _sampler(self) -> TrainingBatchSampler:
        return self.train_loader.batch_sampler

    def state_dict(self) -> dict[str, Any]:
        """All that a bit-exact continuation needs, as tensors and plain values. Every process must call it.

        Raises:
            FloatingPointError: a loss or gradient so far was not finite, so this state must not be saved.
        """
        self._monitor.check_all()
        return {
            "state_dict": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": {"step": self.step, "total_steps": self.total_steps},
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "step_in_epoch": self.step_in_epoch,
            "step": self.step,
            "seconds": self.seconds,
            "peak_memory_gb": self._peak_memory_gb(),
            "rng": all_gather_objects(rng_state()),
            "hooks": {name: hook.state_dict() for name, hook in self._named_hooks().items()},
            "metrics": self.metrics,
            "best_metric_value": self.best_metric,
            "best_step": self.best_step,
            "run": self._facts(),
            "config": self.config_text,
            "versions": {
                "pointcept": pointcept.__version__,
                "python": platform.python_version(),
                "torch": str(torch.__version__),
                "numpy": np.__version__,
            },
        }

    def resume(self, path: str | Path) -> None:
        """Goes on from a checkpoint of the same run, as if it had never been interrupted.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is unreadable, has weights alone, or belongs to another model or another run.
        """
        checkpoint = load_checkpoint(path)
        needed = ("state_dict", "optimizer", "scaler", "epoch", "step_in_epoch", "step", "rng", "hooks", "run")
        if absent := [key for key in needed if key not in checkpoint]:
            raise ValueError(
                f"A checkpoint to resume from must hold the whole state of a run: {path} lacks {', '.join(absent)}. "
                "Start a new run from its weights with weight=... and resume=False."
            )
        match = match_weights(self.model, weights := model_weights(checkpoint, path))
        if not match.is_exact:
            raise ValueError(
                f"A run must be resumed with its own model: {path} holds another ({match.describe()}). "
                "Restore the config, or start a new run with resume=False."
            )
        self._require_same_run(checkpoint, path)
        self.model.load_state_dict(weights)
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        if checkpoint["scaler"]:
            self.scaler.load_state_dict(checkpoint["scaler"])
        self.epoch, self.step_in_epoch = checkpoint["epoch"], checkpoint["step_in_epoch"]
        self.step = checkpoint["step"]
        self.metrics = checkpoint["metrics"]
        self.best_metric, self.best_step = checkpoint["best_metric_value"], checkpoint["best_step"]
        self._seconds_before = checkpoint["seconds"]
        self._peak_memory_before = checkpoint["peak_memory_gb"]
        self._resumed_rng = checkpoint["rng"]
        self._load_hooks(checkpoint["hooks"])
        _logger.info("Resumed from %s after epoch %d, step %d.", path, self.epoch, self.step)

    def _require_same_run(self, checkpoint: Mapping[str, Any], path: str | Path) -> None:
        facts = self._facts()
        for name, value in facts.items():
            if checkpoint["run"].get(name) != value:
                raise ValueError(
                    f"A run must be resumed as it was begun: {name} is {value} now and was "
                    f"{checkpoint['run'].get(name)} in {path}. Restore it, or start a new run with resume=False."
                )
        if checkpoint["scheduler"]["total_steps"] != self.total_steps:
            _logger.warning(
                "The training has %d steps now and had %d: the learning rate continues on the new schedule.",
                self.total_steps,
                checkpoint["scheduler"]["total_steps"],
            )

    def _facts(self) -> dict[str, Any]:
        """What must not change between the parts of a run."""
        return {
            "num_samples": self._sampler.num_samples,
            "batch_size": self._sampler.batch_size,
            "passes_per_epoch": self._sampler.repeats,
            "seed": self._sampler.seed,
            "gradient_accumulation_steps": self.accumulation_steps,
            "precision": self.precision.name,
            "optimizer": type(self.optimizer).__name__,
            "parameter_groups": [list(group.get("param_names", [])) for group in self.optimizer.param_groups],
        }

    def _named_hooks(self) -> dict[str, Hook]:
        named: dict[str, Hook] = {}
        for hook in self.hooks:
            name = type(hook).__name__
            same = sum(type(other).__name__ == name for other in named.values())
            named[f"{name}.{same}" if same else name] = hook
        return named

    def _load_hooks(self, states: Mapping[str, Any]) -> None:
        hooks = self._named_hooks()
        for name, state in states.items():
            if name in hooks:
                hooks[name].load_state_dict(state)
            elif state:
                _logger.warning("The checkpoint has a state of hook %s, which this run does not have.", name)

    def _restore_rng(self) -> None:
        if self._resumed_rng is None:
            return
        if len(self._resumed_rng) != get_world_size():
            _logger.warning(
                "The run had %d processes and has %d now: global random generators start anew.",
                len(self._resumed_rng),
                get_world_size(),
            )
            return
        set_rng_state(self._resumed_rng[get_rank()])

    def _peak_memory_gb(self) -> float:
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device)
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return max(self._peak_memory_before, peak / 1e9)


def _parallel(model: nn.Module, device: torch.device, find_unused_parameters: bool) -> nn.Module:
    if get_world_size() == 1:
        return model
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    # The option has a new name in newer versions of torch.
    keep_buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    return DistributedDataParallel(
        model,
        device_ids=[device.index] if device.type == "cuda" else None,
        **{keep_buffers: False},
        find_unused_parameters=find_unused_parameters,
        gradient_as_bucket_view=True,
    )


def _total(losses: Any, model_name: str) -> Tensor:
    if not isinstance(losses, dict) or not losses:
        raise TypeError(
            f"A model in training must return its loss terms as a dict: {model_name} returned "
            f"{type(losses).__name__} {losses if not losses else ''}. Return dict(name=scalar tensor)."
        )
    for name, loss in losses.items():
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise TypeError(
                f"A loss term must be a scalar tensor: {name!r} of {model_name} is {shape}. Reduce it in the model."
            )
    total = torch.stack([loss.reshape(()).float() for loss in losses.values()]).sum()
    if not total.requires_grad:
        raise ValueError(
            f"A loss must depend on trainable parameters: none of {list(losses)} of {model_name} does. "
            "Look for detach() or no_grad() in the model."
        )
    return total
