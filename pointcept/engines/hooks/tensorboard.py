"""The hook that writes TensorBoard events."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import SummaryWriter

from pointcept.engines.hooks.base import Hook
from pointcept.registry import HOOKS
from pointcept.utils.distributed import is_main_process
from pointcept.utils.files import atomic_write

_logger = logging.getLogger("pointcept")
_STEP_TAGS = ("train_batch/", "params/")


@HOOKS.register()
class TensorBoardWriter(Hook):
    """Writes every loss term (``train_batch/``), ``params/lr``, the figures of evaluations (``val/``) and pictures.

    The steps are optimizer steps. A resumed run first removes the events after its checkpoint, so that no step occurs
    twice; those before it are on disk when the checkpoint is, so that none is missing.
    """

    def __init__(self) -> None:
        self._writer: SummaryWriter | None = None

    def before_train(self) -> None:
        """Opens the event file."""
        trainer = self.trainer
        if not is_main_process():
            return
        last_step, is_epoch_open = (trainer.step, trainer.step_in_epoch > 0) if trainer.is_resumed else (-1, False)
        for path in sorted(trainer.save_path.glob("events.out.tfevents.*")):
            _drop_later_events(path, last_step, is_epoch_open)
        self._writer = SummaryWriter(str(trainer.save_path))
        trainer.outputs["TensorBoard files (tensorboard --logdir)"] = trainer.save_path

    def add_figures(self, group: str, figures: dict[str, float]) -> None:
        """Adds numbers at the current step.

        Args:
            group: the part of their tags before the slash.
            figures: by name.
        """
        if self._writer is not None:
            for name, value in figures.items():
                self._writer.add_scalar(f"{group}/{name}", value, self.trainer.step)

    def add_image(self, tag: str, image: np.ndarray) -> None:
        """Adds a picture at the current step.

        Args:
            tag: its name, which pictures of other steps share.
            image: (H, W, 3) uint8.
        """
        if self._writer is not None:
            self._writer.add_image(tag, image, self.trainer.step, dataformats="HWC")

    def after_step(self) -> None:
        """Writes the losses."""
        self._write_records()

    def after_epoch(self) -> None:
        """Writes the losses that only became known now."""
        self._write_records()

    def after_train(self) -> None:
        """Closes the event file."""
        self._write_records()
        if self._writer is not None:
            self._writer.close()

    def state_dict(self) -> dict[str, Any]:
        """Nothing, once all events so far are on disk."""
        if self._writer is not None:
            self._writer.flush()
        return {}

    def _write_records(self) -> None:
        if self._writer is None:
            return
        for record in self.trainer.records:
            scalars = {f"train_batch/{name}": value for name, value in record.losses.items()}
            scalars |= {"train_batch/total": record.loss, "params/grad_norm": record.grad_norm}
            scalars["params/lr"] = record.learning_rate
            for tag, value in scalars.items():
                self._writer.add_scalar(tag, value, record.step)


def _drop_later_events(path: Path, last_step: int, is_epoch_open: bool) -> None:
    """Rewrites an event file without what a resumed run writes again.

    Args:
        path: may end in half a record, where the process was killed.
        last_step: of the checkpoint.
        is_epoch_open: whether the evaluation at that step, if any, happens again.
    """
    events = [Event.FromString(data) for data in RawEventFileLoader(str(path)).Load()]
    kept = [event for event in events if _is_kept(event, last_step, is_epoch_open)]
    with atomic_write(path) as file:
        writer = RecordWriter(file)
        for event in kept:
            writer.write(event.SerializeToString())


def _is_kept(event: Event, last_step: int, is_epoch_open: bool) -> bool:
    if event.step != last_step or not is_epoch_open:
        return event.step <= last_step or event.HasField("file_version")
    return all(value.tag.startswith(_STEP_TAGS) for value in event.summary.value)
