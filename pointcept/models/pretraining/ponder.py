"""Pre-training by rendering: encode, render, compare with the real images."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pointcept.registry import MODELS
from pointcept.rendering.losses import RenderingLoss
from pointcept.rendering.rays import RaySampler, make_rays
from pointcept.rendering.renderer import VolumeRenderer
from pointcept.structures import CameraBatch, FeatureVolume, SceneBatch
from pointcept.utils.distributed import all_reduce_sum, get_world_size


@MODELS.register("PonderIndoor-v2")
class Ponder(nn.Module):
    """Pre-trains any encoder by rendering its feature volume (PonderV2, arXiv 2310.08586).

    In training the model gives the weighted loss terms, in evaluation the rendered views.

    Args:
        encoder: Maps a ``SceneBatch`` to a ``FeatureVolume``. An encoder with loss terms of its own, such as depth
            supervision, gives a pair in training: the volume, and ``{name: (sum, count)}``, weighted sums over
            ``count`` things, of which the loss is the mean.
        renderer: Renders rays through the volume.
        losses: Terms that compare the rendering with the images; their weighted sum is minimised.
        ray_sampler: Chooses the pixels of a training step.
        render_chunk: Rays of each scene that are rendered at a time in evaluation; bounds its memory.
    """

    def __init__(
        self,
        encoder: nn.Module,
        renderer: VolumeRenderer,
        losses: Sequence[RenderingLoss],
        ray_sampler: RaySampler,
        render_chunk: int = 8192,
    ) -> None:
        super().__init__()
        if not losses:
            raise ValueError("losses must name at least one term: got none. Add for example dict(type='ColorLoss').")
        names = [loss.name for loss in losses]
        if len(set(names)) != len(names):
            raise ValueError(f"Each loss may be given once: got {names}. Merge the repeated terms.")
        self.encoder = encoder
        self.renderer = renderer
        self.losses = nn.ModuleList(losses)
        self.ray_sampler = ray_sampler
        self.render_chunk = render_chunk
        self.progress: float | None = None

    def forward(self, batch: SceneBatch) -> dict[str, Tensor]:
        """Loss terms in training, rendered views in evaluation.

        Returns:
            Training: ``{loss.name: scalar}``, weighted, one entry per term; the encoder's come last.
            Evaluation: what ``render_views`` gives.

        Raises:
            ValueError: the batch has no views.
        """
        if batch.cameras is None:
            raise ValueError(f"Ponder needs posed views to render: the batch of {batch.name} has none.")
        encoded = self.encoder(batch)
        volume, own_terms = (encoded, {}) if isinstance(encoded, FeatureVolume) else encoded
        if not self.training:
            return self.render_views(volume, batch.cameras)
        rays, targets = self.ray_sampler(batch.cameras, volume.box, batch.seed)
        rendering = self.renderer(volume, rays, batch.seed, targets.distance)
        terms = {loss.name: loss(rendering, targets, rays) for loss in self.losses}
        weights = [loss.weight_at(self.progress) for loss in self.losses] + [1.0] * len(own_terms)
        terms |= own_terms
        sums, counts = zip(*terms.values(), strict=True)
        # Means over the batches of all processes: averaging gradients over processes then gives the gradient of the
        # mean over the global batch, however its rays are spread.
        counts = all_reduce_sum(torch.stack(counts)) / get_world_size()
        means = torch.stack(sums) / counts.clamp(min=torch.finfo(counts.dtype).eps)
        return {name: mean * weight for name, mean, weight in zip(terms, means.unbind(), weights, strict=True)}

    def set_progress(self, progress: float) -> None:
        """Tell the model which fraction of the run's optimizer steps is done, for weights that change over the run.

        To be called before every step: the model neither counts steps nor stores the progress in its state.
        """
        if not 0 <= progress <= 1:
            raise ValueError(f"progress must be in 0..1: got {progress}. Give the steps done divided by all steps.")
        self.progress = progress

    def render_views(
        self, volume: FeatureVolume, cameras: CameraBatch, *, with_feature: bool = False
    ) -> dict[str, Tensor]:
        """Every pixel of every view, without gradients.

        Args:
            volume: What the encoder gives.
            cameras: The views.
            with_feature: Also give the rendered features, where the field has any.

        Returns:
            ``color`` (B, V, 3, H, W) in 0..1; ``depth`` (B, V, H, W), z-depth in metres; ``normal`` (B, V, 3, H, W),
            unit, camera frame; ``opacity`` (B, V, H, W); ``feature`` (B, V, F, H, W). Pixels that see nothing of the
            box, and padding, are zero.
        """
        batch, views, height, width = cameras.depth.shape
        row, column = torch.meshgrid(
            torch.arange(height, device=volume.box.device),
            torch.arange(width, device=volume.box.device),
            indexing="ij",
        )
        pixel = torch.stack((column, row), dim=-1).reshape(1, 1, -1, 2).expand(batch, views, -1, -1)
        rays, _, distance_per_depth = make_rays(cameras, volume.box, pixel, near_m=self.ray_sampler.near_m)
        renderings = self.renderer.render_chunks(volume, rays, chunk_size=self.render_chunk)

        def image(name: str) -> Tensor:
            value = torch.cat([getattr(rendering, name) for rendering in renderings], dim=1)
            value = value * rays.valid.reshape(*rays.valid.shape, *(1,) * (value.ndim - 2))
            return value.reshape(batch, views, height, width, *value.shape[2:])

        camera_from_world = cameras.extrinsic[..., :3, :3]
        normal = torch.einsum("bvij,bvhwj->bvihw", camera_from_world, image("normal"))
        output = {
            "color": image("color").permute(0, 1, 4, 2, 3).clamp(0, 1),
            "depth": image("distance") / distance_per_depth.reshape(batch, views, height, width),
            "normal": F.normalize(normal, dim=2),
            "opacity": image("opacity"),
        }
        if with_feature and self.renderer.field.feature_decoder is not None:
            output["feature"] = image("feature").permute(0, 1, 4, 2, 3)
        return output

    @torch.no_grad()
    def sample_sdf(
        self, volume: FeatureVolume, scene_index: int, voxel_size_m: float
    ) -> tuple[Float[Tensor, "Z Y X"], Float[Tensor, "3"]]:
        """Signed distance of one scene on a regular grid.

        Args:
            volume: What the encoder gives.
            scene_index: Which scene of the batch.
            voxel_size_m: Spacing of the grid, metres.

        Returns:
            Signed distance (metres) and the position of its first value (x, y, z; metres, world frame).
        """
        scene = self._scene(volume, scene_index)
        origin, end = scene.box[0] + 0.5 * scene.voxel_size[0] * torch.tensor([[1.0], [-1.0]], device=scene.box.device)
        axes = [torch.arange(float(low), float(high), voxel_size_m) for low, high in zip(origin, end, strict=True)]
        z, y, x = torch.meshgrid(*reversed(axes), indexing="ij")
        positions = torch.stack((x, y, z), dim=-1).reshape(1, -1, 3).to(scene.box)
        chunks = positions.split(self.render_chunk * 32, dim=1)
        sdf = torch.cat([self.renderer.field.query_sdf(scene, chunk) for chunk in chunks], dim=1)
        return sdf.reshape(x.shape), origin

    @torch.no_grad()
    def sample_color(
        self, volume: FeatureVolume, scene_index: int, positions: Float[Tensor, "M 3"]
    ) -> Float[Tensor, "M 3"]:
        """Colour (0..1) at positions (metres, world frame) of one scene, seen against the SDF's gradient."""
        scene = self._scene(volume, scene_index)
        colors = []
        for chunk in positions[None].split(self.render_chunk * 32, dim=1):
            normal = F.normalize(self.renderer.field(scene, chunk, torch.zeros_like(chunk)).gradient, dim=-1)
            colors.append(self.renderer.field(scene, chunk, -normal).color[0])
        return torch.cat(colors)

    def _scene(self, volume: FeatureVolume, scene_index: int) -> FeatureVolume:
        part = slice(scene_index, scene_index + 1)
        return FeatureVolume(features=volume.features[part].to(volume.box.dtype), box=volume.box[part])
