"""The hook that keeps pictures of what the model renders."""

import logging

import numpy as np
from PIL import Image
from torch import Tensor

from pointcept.engines.hooks.base import Hook
from pointcept.engines.hooks.evaluation import EvaluationHook
from pointcept.engines.hooks.tensorboard import TensorBoardWriter
from pointcept.registry import HOOKS
from pointcept.structures import SceneBatch
from pointcept.utils.distributed import is_main_process
from pointcept.visualization.panels import rendering_panels

_logger = logging.getLogger("pointcept")


@HOOKS.register()
class PanelWriter(Hook):
    """Saves panels of the first views of an evaluation to ``panels/step_<n>/`` and to TensorBoard.

    It uses the predictions that were evaluated, so nothing is rendered twice.

    Args:
        every: evaluations between two sets of panels; the last evaluation always has one.
        num_views: panels in a set.
    """

    def __init__(self, every: int = 1, num_views: int = 4) -> None:
        if every < 1 or num_views < 1:
            raise ValueError(
                f"every and num_views must be at least 1: got {every}, {num_views}. Remove the hook instead."
            )
        self._every = every
        self._num_views = num_views
        self._panels: list[tuple[str, np.ndarray]] = []
        self._num_evaluations = 0
        self._has_evaluated = False

    def before_train(self) -> None:
        """Starts watching the evaluations."""
        evaluation = self.require(EvaluationHook, before=True)
        self._folder = self.trainer.save_path / "panels"
        self.trainer.outputs["Pictures"] = self._folder
        if is_main_process():
            evaluation.observers.append(self._observe)

    def paint(self, output: dict[str, Tensor], batch: SceneBatch) -> list[tuple[str, np.ndarray]]:
        """Names and pictures (H, W, 3) of the views of one batch; others than renderings override it."""
        return rendering_panels(output, batch)

    def _observe(self, output: dict[str, Tensor], batch: SceneBatch) -> None:
        self._has_evaluated = True
        if self._is_due() and len(self._panels) < self._num_views:
            self._panels += self.paint(output, batch)[: self._num_views - len(self._panels)]

    def after_epoch(self) -> None:
        """Writes what was seen in an evaluation of this epoch."""
        if not self._has_evaluated:
            return
        self._has_evaluated = False
        self._num_evaluations += 1
        folder = self._folder / f"step_{self.trainer.step:06d}"
        tensorboard = self.trainer.find_hook(TensorBoardWriter)
        for name, panel in self._panels:
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(panel).save(folder / f"{name}.png")
            if tensorboard is not None:
                tensorboard.add_image(f"panels/{name}", panel)
        self._panels = []

    def state_dict(self) -> dict[str, int]:
        """The number of evaluations, so that the intervals go on after a resume."""
        return {"num_evaluations": self._num_evaluations}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Takes the number back."""
        self._num_evaluations = state["num_evaluations"]

    def _is_due(self) -> bool:
        return self._num_evaluations % self._every == 0 or self.trainer.epoch == self.trainer.num_epochs
