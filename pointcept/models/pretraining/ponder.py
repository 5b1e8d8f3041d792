"""Pre-training by rendering: encode, render, compare with the real images."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pointcept.models.pretraining.teacher import TimmTeacher
from pointcept.registry import MODELS
from pointcept.rendering.feature_maps import read_feature_maps
from pointcept.rendering.losses import RenderingLoss
from pointcept.rendering.rays import RaySampler, make_rays
from pointcept.rendering.renderer import Rendering, VolumeRenderer
from pointcept.rendering.schedules import WeightRamp
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
        teacher: Frozen network whose features of the views are a target, for the losses that compare with one.
        length_unit: What rendering and losses call a length of 1: a metre, or the longest edge of the scene's box, as
            in PonderV2; then every length given in metres (truncation, near plane, sharpness) is in that unit instead.
            Whatever the model gives in evaluation is in metres.

    Attributes:
        feature_parts: Which channels of the rendered feature are compared with class embeddings ("class"), and which
            with the teacher's features ("teacher"), as far as there are such.
    """

    def __init__(
        self,
        encoder: nn.Module,
        renderer: VolumeRenderer,
        losses: Sequence[RenderingLoss],
        ray_sampler: RaySampler,
        render_chunk: int = 8192,
        teacher: TimmTeacher | None = None,
        length_unit: Literal["metre", "box"] = "metre",
    ) -> None:
        super().__init__()
        if not losses:
            raise ValueError("losses must name at least one term: got none. Add for example dict(type='ColorLoss').")
        names = [loss.name for loss in losses]
        if len(set(names)) != len(names):
            raise ValueError(f"Each loss may be given once: got {names}. Merge the repeated terms.")
        if length_unit not in ("metre", "box"):
            raise ValueError(f"length_unit must be 'metre' or 'box': got {length_unit!r}.")
        self.feature_parts = _divide_feature(losses, teacher, renderer)
        self.teacher = teacher
        self.length_unit = length_unit
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
        scaled, cameras = self.in_own_unit(volume, batch.cameras)
        rays, targets = self.ray_sampler(cameras, scaled.box, batch.seed)
        if "teacher" in self.feature_parts:
            targets = targets.replace(feature=read_feature_maps(self.teacher(cameras), targets.pixel, cameras.size_px))
        rendering = self.renderer(scaled, rays, batch.seed, targets.distance)
        terms = {loss.name: loss(self._seen_by(loss, rendering), targets, rays) for loss in self.losses}
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
        if hasattr(self.encoder, "set_progress"):
            self.encoder.set_progress(progress)

    def describe_targets(self) -> str:
        """One line for the log: what the rendering is compared with, and whether labels are used."""
        terms = ", ".join(f"{loss.name} ({_weight_text(loss)})" for loss in self.losses)
        labelled = [loss.name for loss in self.losses if loss.uses_labels]
        if getattr(self.encoder, "uses_labels", False):
            labelled.append("the encoder")
        labels = f"Labels are used, by {' and '.join(labelled)}." if labelled else "No labels are used."
        teacher = f" Teacher: {self.teacher.describe()}." if "teacher" in self.feature_parts else ""
        return f"Rendering losses: {terms}. {labels}{teacher}"

    def unit_m(self, volume: FeatureVolume) -> Float[Tensor, "B"]:
        """The length, metres, that rendering of each scene counts as 1."""
        if self.length_unit == "metre":
            return torch.ones_like(volume.box[:, 0, 0])
        return (volume.box[:, 1] - volume.box[:, 0]).amax(dim=-1)

    def in_own_unit(self, volume: FeatureVolume, cameras: CameraBatch) -> tuple[FeatureVolume, CameraBatch]:
        """Volume and cameras in the unit of length that the renderer works in, see ``unit_m``."""
        if self.length_unit == "metre":
            return volume, cameras
        return self._scaled(volume), _in_unit(cameras, self.unit_m(volume))

    def feature_targets(self, cameras: CameraBatch) -> Float[Tensor, "B V C h w"] | None:
        """The teacher's map of each view, of the whole view without its padding; None if no loss compares with one."""
        return self.teacher(cameras) if "teacher" in self.feature_parts else None

    def render_views(
        self, volume: FeatureVolume, cameras: CameraBatch, *, with_feature: bool = False
    ) -> dict[str, Tensor]:
        """Every pixel of every view, without gradients.

        Args:
            volume: What the encoder gives.
            cameras: The views.
            with_feature: Also give the rendered feature, which can be large; ``feature_parts`` tells its channels.

        Returns:
            ``color`` (B, V, 3, H, W) in 0..1; ``depth`` (B, V, H, W), z-depth in metres; ``normal`` (B, V, 3, H, W),
            unit, camera frame; ``opacity`` (B, V, H, W); if wanted ``feature`` (B, V, F, H, W). Pixels that see nothing
            of the box, and padding, are zero.

        Raises:
            ValueError: a feature is wanted, and the field has none.
        """
        if with_feature and not self.feature_parts:
            raise ValueError("A rendered feature needs a field with feature_channels: this one has none. Set them.")
        unit = self.unit_m(volume)
        volume, cameras = self.in_own_unit(volume, cameras)
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
            "depth": image("distance")
            / distance_per_depth.reshape(batch, views, height, width)
            * unit[:, None, None, None],
            "normal": F.normalize(normal, dim=2),
            "opacity": image("opacity"),
        }
        return output | ({"feature": image("feature").permute(0, 1, 4, 2, 3)} if with_feature else {})

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
        unit, scaled = self.unit_m(scene), self._scaled(scene)
        chunks = (positions / unit).split(self.render_chunk * 32, dim=1)
        sdf = torch.cat([self.renderer.field.query_sdf(scaled, chunk) for chunk in chunks], dim=1)
        return sdf.reshape(x.shape) * unit, origin

    @torch.no_grad()
    def sample_color(
        self, volume: FeatureVolume, scene_index: int, positions: Float[Tensor, "M 3"]
    ) -> Float[Tensor, "M 3"]:
        """Colour (0..1) at positions (metres, world frame) of one scene, seen against the SDF's gradient."""
        scene = self._scene(volume, scene_index)
        unit, scene = self.unit_m(scene), self._scaled(scene)
        colors = []
        for chunk in (positions[None] / unit).split(self.render_chunk * 32, dim=1):
            normal = F.normalize(self.renderer.field(scene, chunk, torch.zeros_like(chunk)).gradient, dim=-1)
            colors.append(self.renderer.field(scene, chunk, -normal).color[0])
        return torch.cat(colors)

    def _scene(self, volume: FeatureVolume, scene_index: int) -> FeatureVolume:
        part = slice(scene_index, scene_index + 1)
        return FeatureVolume(features=volume.features[part].to(volume.box.dtype), box=volume.box[part])

    def _scaled(self, volume: FeatureVolume) -> FeatureVolume:
        """The volume in the unit of length of the rendering."""
        if self.length_unit == "metre":
            return volume
        return volume.replace(box=volume.box / self.unit_m(volume)[:, None, None])

    def _seen_by(self, loss: RenderingLoss, rendering: Rendering) -> Rendering:
        """The rendering with that part of its feature that a loss compares."""
        if loss.compares is None or len(self.feature_parts) < 2:
            return rendering
        return rendering.replace(feature=rendering.feature[..., self.feature_parts[loss.compares]])


def _in_unit(cameras: CameraBatch, unit_m: Float[Tensor, "B"]) -> CameraBatch:
    """Cameras and depths in other units of length, one per scene."""
    extrinsic = cameras.extrinsic.clone()
    extrinsic[..., :3, 3] /= unit_m[:, None, None]
    return cameras.replace(extrinsic=extrinsic, depth=cameras.depth / unit_m[:, None, None, None])


def _divide_feature(
    losses: Sequence[RenderingLoss], teacher: TimmTeacher | None, renderer: VolumeRenderer
) -> dict[str, slice]:
    """Which channels of the rendered feature go with class embeddings, and which with the teacher.

    Raises:
        ValueError: a loss has nothing to compare with, or the field's feature is not as wide as what it is compared
            with.
    """
    widths: dict[str, set[int]] = {}
    for loss in losses:
        if loss.compares == "teacher":
            if teacher is None:
                raise ValueError(
                    f"{type(loss).__name__} needs a teacher: got none. Set teacher=dict(type='TimmTeacher', ...)."
                )
            widths.setdefault("teacher", set()).add(teacher.channels)
        elif loss.compares == "class":
            widths.setdefault("class", set()).add(loss.table.shape[1])
    if teacher is not None and "teacher" not in widths:
        raise ValueError(
            f"A teacher needs a loss that compares with it: got {[loss.name for loss in losses]}. Add "
            "dict(type='FeatureCosineLoss')."
        )
    for part, found in widths.items():
        if len(found) > 1:
            raise ValueError(f"All losses must compare with {part} features of one width: got {sorted(found)}.")
    decoder = renderer.field.feature_decoder
    rendered = 0 if decoder is None else decoder.head.out_features
    wanted = {part: widths[part].pop() for part in ("class", "teacher") if part in widths}
    if rendered != sum(wanted.values()):
        raise ValueError(
            f"The field's feature_channels must be what the losses compare, {wanted or 'nothing'}: got {rendered}. Set "
            f"feature_channels={sum(wanted.values())}."
        )
    ends = torch.tensor([0, *wanted.values()]).cumsum(0).tolist()
    return {part: slice(ends[index], ends[index + 1]) for index, part in enumerate(wanted)}


def _weight_text(loss: RenderingLoss) -> str:
    weight = loss.weight
    return f"{weight.start:g} to {weight.end:g}" if isinstance(weight, WeightRamp) else f"{weight:g}"
