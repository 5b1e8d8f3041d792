"""The hook that keeps the weights of a few steps, to see afterwards how the model changed."""

from pointcept.engines.checkpoint import save_checkpoint
from pointcept.engines.hooks.base import Hook
from pointcept.registry import HOOKS
from pointcept.utils.distributed import is_main_process


@HOOKS.register()
class SnapshotWriter(Hook):
    """Keeps the weights alone, at a few steps of the run, in ``snapshots/step_<n>.pth``.

    ``python -m pointcept.visualization.inspect`` shows how renderings, rays and surfaces changed over them. The first
    are the initial weights, the last those of the end; as most changes early, the steps between are closer together
    at the beginning: of T steps, snapshot i of n is taken after ``T (i / n)^2``.

    Args:
        num_snapshots: How many are kept besides the initial one; each has the size of the model's weights.
    """

    def __init__(self, num_snapshots: int = 6) -> None:
        if num_snapshots < 1:
            raise ValueError(f"num_snapshots must be at least 1: got {num_snapshots}. Remove the hook instead.")
        self._num_snapshots = num_snapshots

    def before_train(self) -> None:
        """Makes the folder."""
        self._folder = self.trainer.save_path / "snapshots"
        self._steps = snapshot_steps(self.trainer.total_steps, self._num_snapshots)
        self.trainer.outputs["Snapshots"] = self._folder
        if is_main_process():
            self._folder.mkdir(parents=True, exist_ok=True)

    def before_step(self) -> None:
        """Keeps the weights before a step that is due."""
        self._save_if_due()

    def after_train(self) -> None:
        """Keeps the final weights."""
        if self.trainer.is_finished:
            self._save_if_due()

    def _save_if_due(self) -> None:
        trainer = self.trainer
        if trainer.step in self._steps and is_main_process():
            snapshot = {"state_dict": trainer.model.state_dict(), "step": trainer.step}
            save_checkpoint(self._folder / f"step_{trainer.step:06d}.pth", snapshot)


def snapshot_steps(total_steps: int, num_snapshots: int) -> set[int]:
    """Numbers of finished steps after which a snapshot is taken; fewer where a run is shorter than that."""
    return {round(total_steps * (index / num_snapshots) ** 2) for index in range(num_snapshots + 1)}
