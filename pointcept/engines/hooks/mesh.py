"""The hook that keeps the surface of one scene."""

import logging

import torch

from pointcept.engines.hooks.base import Hook
from pointcept.registry import HOOKS
from pointcept.utils.distributed import is_main_process
from pointcept.visualization.mesh import write_mesh

_logger = logging.getLogger("pointcept")


@HOOKS.register()
class MeshWriter(Hook):
    """At the end of training, writes the surface of the first validation scene to ``meshes/<scene>.ply``.

    The model must offer ``extract_mesh(batch, scene_index) -> (vertices, faces, colors)``.
    """

    def before_train(self) -> None:
        """Checks that the model has surfaces."""
        model = self.trainer.model
        if not hasattr(model, "extract_mesh"):
            raise ValueError(
                f"MeshWriter needs a model with extract_mesh: {type(model).__name__} has none. Remove the hook."
            )
        self._folder = self.trainer.save_path / "meshes"
        self.trainer.outputs["Meshes"] = self._folder

    @torch.no_grad()
    def after_train(self) -> None:
        """Writes the mesh."""
        trainer = self.trainer
        if not (trainer.is_finished and is_main_process()) or trainer.val_loader is None:
            return
        batch = next(iter(trainer.val_loader)).to(trainer.device)
        trainer.model.eval()
        try:
            vertices, faces, colors = trainer.model.extract_mesh(batch, 0)
        finally:
            trainer.model.train()
        name = (batch.name[0] or "scene").replace("/", "_")
        if len(faces) == 0:
            _logger.warning("No mesh of scene %s: its signed distance has no zero crossing.", name)
            return
        write_mesh(self._folder / f"{name}.ply", vertices, faces, colors)
