"""The hook that keeps the surface of one scene."""

import logging

import torch

from pointcept.engines.hooks.base import Hook
from pointcept.registry import HOOKS
from pointcept.utils.distributed import is_main_process
from pointcept.visualization.mesh import scene_surface, write_mesh

_logger = logging.getLogger("pointcept")


@HOOKS.register()
class MeshWriter(Hook):
    """At the end of training, writes the surface of the first validation scene to ``meshes/<scene>.ply``.

    The model must offer what ``pointcept.visualization.mesh.scene_surface`` asks for, as ``Ponder`` does.

    Args:
        voxel_size_m: Distance between the samples of the signed distance, metres.
        trim_m: Cut away what is neither seen in a view of the scene, nor closer than this (metres) behind what a view
            measured or to a point of the cloud: there the surface is a guess. None keeps everything.
    """

    def __init__(self, voxel_size_m: float = 0.05, trim_m: float | None = 0.15) -> None:
        if voxel_size_m <= 0:
            raise ValueError(f"voxel_size_m must be positive: got {voxel_size_m}. The default is 0.05.")
        if trim_m is not None and trim_m <= 0:
            raise ValueError(f"trim_m must be positive, or None: got {trim_m}. The default is 0.15.")
        self._voxel_size_m = voxel_size_m
        self._trim_m = trim_m

    def before_train(self) -> None:
        """Checks that the model has surfaces."""
        model = self.trainer.model
        if not hasattr(model, "sample_sdf"):
            raise ValueError(
                f"MeshWriter needs a model with surfaces (sample_sdf): {type(model).__name__} has none. "
                "Remove the hook."
            )
        self._folder = self.trainer.save_path / "meshes"
        self.trainer.outputs["Meshes"] = self._folder

    @torch.no_grad()
    def after_train(self) -> None:
        """Writes the mesh."""
        trainer = self.trainer
        if not (trainer.is_finished and is_main_process()) or trainer.val_loader is None:
            return
        # From the data set: this process has no share of the loader where there are more processes than scenes.
        loader = trainer.val_loader
        batch = loader.collate_fn([loader.dataset[0]]).to(trainer.device)
        trainer.model.eval()
        try:
            surface, colors = scene_surface(
                trainer.model, batch, 0, voxel_size_m=self._voxel_size_m, trim_m=self._trim_m
            )
        finally:
            trainer.model.train()
        name = (batch.name[0] or "scene").replace("/", "_")
        if len(surface.faces) == 0:
            _logger.warning("No mesh of scene %s: no zero crossing of its signed distance was observed.", name)
            return
        write_mesh(self._folder / f"{name}.ply", surface.vertices, surface.faces, colors)
