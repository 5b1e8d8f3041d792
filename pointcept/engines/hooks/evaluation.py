"""The hook that evaluates the model between epochs."""

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from pointcept.engines.hooks.base import Hook
from pointcept.engines.hooks.information import format_figures
from pointcept.engines.hooks.tensorboard import TensorBoardWriter
from pointcept.evaluation.segmentation import SemanticSegmentationEvaluator
from pointcept.registry import HOOKS
from pointcept.structures import SceneBatch
from pointcept.utils.distributed import is_main_process
from pointcept.utils.files import write_text
from pointcept.visualization.confusion import confusion_picture

_logger = logging.getLogger("pointcept")

Observer = Callable[[dict[str, Tensor], SceneBatch], None]


@HOOKS.register()
class EvaluationHook(Hook):
    """Scores the model on the validation set, sets ``trainer.metrics`` and keeps track of the best value.

    Each evaluation adds a line to ``metrics.jsonl``: step, epoch, seconds and the evaluator's figures. Of a semantic
    segmentation, ``confusion.png`` shows the last confusion matrix.

    Args:
        evaluator: has ``reset()``, ``update(output, batch)``, ``compute() -> dict[str, float]``, ``main_metric`` and
            ``higher_is_better``; and ``table() -> str`` if there is more to say than figures.
        every: reported epochs between evaluations; the last epoch is always evaluated.

    Attributes:
        observers: called with the output and the batch of every step of an evaluation, so that others can use the
            predictions without computing them again.
    """

    def __init__(self, evaluator: Any, every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1: got {every}. Use evaluate=False for no evaluation.")
        self._evaluator = evaluator
        self._every = every
        self.observers: list[Observer] = []

    def before_train(self) -> None:
        """Removes figures that a resumed run will compute again."""
        self._path = self.trainer.save_path / "metrics.jsonl"
        self.trainer.outputs["Evaluations"] = self._path
        if self.trainer.val_loader is None:
            _logger.warning("Nothing is evaluated: there is no data.val, or evaluate is False.")
        if is_main_process() and self._path.exists():
            last_epoch = self.trainer.epoch if self.trainer.is_resumed else 0
            write_text(self._path, "".join(_lines_up_to(self._path.read_text(), last_epoch)))

    def after_epoch(self) -> None:
        """Evaluates, if it is time to."""
        trainer = self.trainer
        is_due = trainer.epoch % self._every == 0 or trainer.epoch == trainer.num_epochs
        if trainer.val_loader is None or not is_due:
            return
        trainer.metrics = self.evaluate()
        _logger.info("Evaluation of epoch %d: %s", trainer.epoch, format_figures(trainer.metrics))
        if hasattr(self._evaluator, "table"):
            _logger.info("By class:\n%s", self._evaluator.table())
        self._compare_with_best(trainer.metrics)
        tensorboard = trainer.find_hook(TensorBoardWriter)
        if tensorboard is not None:
            tensorboard.add_figures("val", trainer.metrics)
        if is_main_process():
            if isinstance(self._evaluator, SemanticSegmentationEvaluator):
                write_confusion(self._evaluator, trainer.save_path / "confusion.png")
            line = {"step": trainer.step, "epoch": trainer.epoch, "seconds": round(trainer.seconds, 3)}
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**line, **trainer.metrics}) + "\n")

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The evaluator's figures for the model as it is now. Every process must call it."""
        trainer = self.trainer
        trainer.model.eval()
        self._evaluator.reset()
        try:
            for batch in trainer.val_loader:
                batch = batch.to(trainer.device, non_blocking=True)
                with trainer.precision.autocast():
                    output = trainer.model(batch)
                self._evaluator.update(output, batch)
                for observe in self.observers:
                    observe(output, batch)
        finally:
            trainer.model.train()
        return self._evaluator.compute()

    def _compare_with_best(self, metrics: dict[str, float]) -> None:
        trainer, name = self.trainer, self._evaluator.main_metric
        if name not in metrics:
            raise ValueError(
                f"An evaluator must compute its main metric: {type(self._evaluator).__name__} gave {sorted(metrics)} "
                f"without {name!r}. Check that the validation set has what it needs."
            )
        value, best = metrics[name], trainer.best_metric
        if math.isnan(value):
            _logger.warning("%s is not a number after epoch %d and counts as no result.", name, trainer.epoch)
            return
        sign = 1 if self._evaluator.higher_is_better else -1
        if best is None or sign * value > sign * best:
            trainer.best_metric, trainer.best_step = float(value), trainer.step
            _logger.info("Best %s so far: %.4f", name, value)


def write_confusion(evaluator: SemanticSegmentationEvaluator, path: Path) -> None:
    """Writes the confusion matrix of the last evaluation as a PNG."""
    Image.fromarray(confusion_picture(evaluator.total.numpy(), evaluator.class_names)).save(path)


def _lines_up_to(text: str, last_epoch: int) -> list[str]:
    kept = []
    for line in text.splitlines():
        try:
            epoch = json.loads(line)["epoch"]
        except json.JSONDecodeError:  # the process was killed while it wrote this line
            continue
        if epoch <= last_epoch:
            kept.append(line + "\n")
    return kept
