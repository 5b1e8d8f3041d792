"""What a model makes of one scene: pictures, samples along rays, signed distances and the surface."""

import dataclasses
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from pointcept.models.pretraining import Ponder
from pointcept.rendering.feature_maps import read_feature_maps
from pointcept.rendering.rays import make_rays
from pointcept.structures import CameraBatch, FeatureVolume, RayBatch, SceneBatch
from pointcept.visualization.mesh import Surface, volume_surface
from pointcept.visualization.panels import normals_from_depth

PICTURE_EDGE_PX = 160
SAMPLES_PER_VIEW = 32_000
SDF_SAMPLES = 400_000
SURFACE_CELLS = 150_000


@dataclasses.dataclass(frozen=True)
class RaySamples:
    """R rays of one view with the S samples that each was rendered from.

    Attributes:
        pixel: Column and row of each ray.
        valid: Whether the ray meets the scene's box; nothing is rendered for others.
        measured: Measured distance along the ray, metres, 0 = none.
        rendered: Rendered distance along the ray, metres.
        distance: Of each sample along the ray, metres.
        weight: Of each sample in the rendering.
        sdf: Signed distance at each sample, metres.
        color: Colour of the field at each sample, 0..1.
    """

    pixel: Int[np.ndarray, "_R 2"]
    valid: np.ndarray
    measured: Float[np.ndarray, "_R"]
    rendered: Float[np.ndarray, "_R"]
    distance: Float[np.ndarray, "_R _S"]
    weight: Float[np.ndarray, "_R _S"]
    sdf: Float[np.ndarray, "_R _S"]
    color: Float[np.ndarray, "_R _S 3"]


@dataclasses.dataclass(frozen=True)
class ViewPictures:
    """One view, measured or rendered.

    Attributes:
        color: 0..1.
        depth: z-depth, metres, 0 = missing.
        normal: Unit vectors, camera frame, zero = none.
        opacity: 0..1; None for a measured view.
        feature: Features, or None.
    """

    color: Float[np.ndarray, "_H _W 3"]
    depth: Float[np.ndarray, "_H _W"]
    normal: Float[np.ndarray, "_H _W 3"]
    opacity: Float[np.ndarray, "_H _W"] | None = None
    feature: Float[np.ndarray, "_H _W _F"] | None = None


@dataclasses.dataclass(frozen=True)
class SceneState:
    """What a model makes of a scene.

    Attributes:
        output: What ``Ponder.render_views`` gave, with the features of one kind.
        views: The same, view by view.
        rays: Some rays of each view.
        sdf: Signed distance on a regular grid, metres.
        sdf_origin: Position of its first value, (x, y, z), metres.
        sdf_spacing_m: Distance between neighbouring values.
        box: Smallest and largest corner of the volume, metres.
        surface: Where the signed distance is zero and something was observed.
        surface_color: Colour of each of its vertices.
    """

    output: dict[str, Tensor]
    views: tuple[ViewPictures, ...]
    rays: tuple[RaySamples, ...]
    sdf: Float[np.ndarray, "_Z _Y _X"]
    sdf_origin: Float[np.ndarray, "3"]
    sdf_spacing_m: float
    box: Float[np.ndarray, "2 3"]
    surface: Surface
    surface_color: UInt8[np.ndarray, "_V 3"]


def thumbnails(cameras: CameraBatch, max_edge_px: int = PICTURE_EDGE_PX) -> CameraBatch:
    """The views at a whole fraction of their size, so that no edge is longer than ``max_edge_px``.

    Colours are averaged. Of the depths and labels of a block the one nearest to its middle stays, as a mean across an
    edge is no depth of anything.
    """
    height, width = cameras.depth.shape[-2:]
    factor = -(-max(height, width) // max_edge_px)
    if factor == 1:
        return cameras
    height, width, middle = height // factor, width // factor, (factor - 1) // 2

    def pick(value: Tensor | None) -> Tensor | None:
        return None if value is None else value[..., middle::factor, middle::factor][..., :height, :width]

    image = F.avg_pool2d(cameras.image.flatten(0, 1), factor).unflatten(0, cameras.image.shape[:2])
    intrinsic = cameras.intrinsic.clone()
    intrinsic[..., :2, :] /= factor
    intrinsic[..., :2, 2] -= (factor - 1) / (2 * factor)
    return cameras.replace(
        image=image,
        depth=pick(cameras.depth),
        segment=pick(cameras.segment),
        intrinsic=intrinsic,
        size_px=cameras.size_px // factor,
    )


def feature_kind(model: Ponder) -> Literal["teacher", "class"] | None:
    """What the pictured features are compared with in training; a teacher goes first."""
    return next((kind for kind in ("teacher", "class") if kind in model.feature_parts), None)


@torch.no_grad()
def target_features(model: Ponder, cameras: CameraBatch, shown: CameraBatch) -> Float[np.ndarray, "V H W _F"] | None:
    """What the features of the first scene's views should be, at every pixel; all-zero = none.

    Args:
        model: Knows the teacher, or the embeddings of the classes.
        cameras: The views as the data set gives them.
        shown: The same as they are shown.

    Returns:
        The features; None if the model renders none, or the views have no labels.

    Raises:
        FileNotFoundError: the teacher's weights cannot be had.
    """
    kind = feature_kind(model)
    if kind == "teacher":
        views, height, width = shown.depth.shape[1:]
        grid = (torch.arange(size, device=shown.depth.device) for size in (views, height, width))
        view, row, column = torch.meshgrid(*grid, indexing="ij")
        pixel = torch.stack((view, column, row), dim=-1).view(1, -1, 3)
        return _numpy(read_feature_maps(model.feature_targets(cameras), pixel, shown.size_px)).reshape(*view.shape, -1)
    if kind == "class" and shown.segment is not None:
        table = next(loss.table for loss in model.losses if loss.compares == "class")
        segment = shown.segment[0]
        return _numpy(table[segment.clamp(min=0)] * (segment >= 0)[..., None])
    return None


def measured_views(
    cameras: CameraBatch, feature: Float[np.ndarray, "V H W _F"] | None = None
) -> tuple[ViewPictures, ...]:
    """The real views of the first scene, without padding; normals come from the depth.

    Args:
        cameras: The views.
        feature: Target features, as ``target_features`` gives them.
    """
    views = []
    for view, (height, width) in enumerate(cameras.size_px[0].tolist()):
        depth = _numpy(cameras.depth[0, view, :height, :width])
        color = _numpy(cameras.image[0, view, :, :height, :width].permute(1, 2, 0))
        normal = normals_from_depth(depth, _numpy(cameras.intrinsic[0, view]))
        seen = None if feature is None else feature[view, :height, :width]
        views.append(ViewPictures(color, depth, normal, feature=seen))
    return tuple(views)


@torch.no_grad()
def observe(model: Ponder, batch: SceneBatch) -> SceneState:
    """Renders the first scene of a batch and reads its field.

    Args:
        model: In evaluation mode.
        batch: With views of a size to be shown, as ``thumbnails`` makes them; an encoder of images sees ``inputs``.
    """
    volume = model.encoder(batch)
    volume = volume.replace(features=volume.features.to(volume.box.dtype))
    cameras = batch.cameras
    output = model.render_views(volume, cameras, with_feature=bool(model.feature_parts))
    if "feature" in output:
        output["feature"] = output["feature"][:, :, model.feature_parts[feature_kind(model)]]
    box = _numpy(volume.box[0])
    extent = np.prod(box[1] - box[0], dtype=np.float64)
    spacing = _round_up(float(np.cbrt(extent / SDF_SAMPLES)))
    sdf, origin = model.sample_sdf(volume, 0, spacing)
    surface_voxel = _round_up(float(np.cbrt(extent / SURFACE_CELLS)))
    surface, surface_color = volume_surface(model, volume, batch, 0, voxel_size_m=surface_voxel)
    return SceneState(
        output=output,
        views=_rendered_views(output, cameras),
        rays=tuple(_ray_samples(model, volume, cameras, view) for view in range(cameras.num_views)),
        sdf=_numpy(sdf),
        sdf_origin=_numpy(origin),
        sdf_spacing_m=spacing,
        box=box,
        surface=surface,
        surface_color=surface_color,
    )


def ray_pixels(height: int, width: int, max_rays: int) -> Int[np.ndarray, "R 2"]:
    """Columns and rows of a regular grid of at most about ``max_rays`` pixels, row by row."""
    share = min(1.0, (max_rays / (height * width)) ** 0.5)
    rows, columns = (max(1, round(size * share)) for size in (height, width))
    row = ((np.arange(rows) + 0.5) * height / rows).astype(np.int64)
    column = ((np.arange(columns) + 0.5) * width / columns).astype(np.int64)
    return np.stack(np.meshgrid(column, row), axis=-1).reshape(-1, 2)


def _rendered_views(output: dict[str, Tensor], cameras: CameraBatch) -> tuple[ViewPictures, ...]:
    views = []
    for view, (height, width) in enumerate(cameras.size_px[0].tolist()):
        one = {key: _numpy(value[0, view, ..., :height, :width]) for key, value in output.items()}
        one = {key: np.moveaxis(value, 0, -1) if value.ndim == 3 else value for key, value in one.items()}
        views.append(ViewPictures(**one))
    return tuple(views)


def _ray_samples(model: Ponder, volume: FeatureVolume, cameras: CameraBatch, view: int) -> RaySamples:
    height, width = cameras.size_px[0, view].tolist()
    one = CameraBatch(
        image=cameras.image[:, view : view + 1],
        depth=cameras.depth[:, view : view + 1],
        intrinsic=cameras.intrinsic[:, view : view + 1],
        extrinsic=cameras.extrinsic[:, view : view + 1],
        size_px=cameras.size_px[:, view : view + 1],
    )
    unit = float(model.unit_m(volume)[0])
    volume, one = model.in_own_unit(volume, one)
    num_samples = _num_samples(model, volume, one)
    pixel = ray_pixels(height, width, SAMPLES_PER_VIEW // num_samples)
    index = torch.from_numpy(pixel)[None, None].to(volume.box.device)
    rays, targets, _ = make_rays(one, volume.box, index, near_m=model.ray_sampler.near_m)
    parts = model.renderer.render_chunks(volume, rays, chunk_size=model.render_chunk)
    distance, weight, sdf, rendered = (
        torch.cat([getattr(part, name) for part in parts], dim=1)
        for name in ("sample_distance", "weight", "sdf", "distance")
    )
    return RaySamples(
        pixel=pixel,
        valid=rays.valid[0].cpu().numpy(),
        measured=_numpy(targets.distance[0] * unit),
        rendered=_numpy(rendered[0] * unit),
        distance=_numpy(distance[0] * unit),
        weight=_numpy(weight[0]),
        sdf=_numpy(sdf[0] * unit),
        color=_numpy(_sample_colors(model, volume, rays, distance)[0]),
    )


def _num_samples(model: Ponder, volume: FeatureVolume, cameras: CameraBatch) -> int:
    pixel = torch.zeros((1, 1, 1, 2), dtype=torch.long, device=volume.box.device)
    rays, _, _ = make_rays(cameras, volume.box, pixel, near_m=model.ray_sampler.near_m)
    (part,) = model.renderer.render_chunks(volume, rays, chunk_size=1)
    return part.weight.shape[-1]


def _sample_colors(
    model: Ponder, volume: FeatureVolume, rays: RayBatch, distance: Float[Tensor, "1 R S"]
) -> Float[Tensor, "1 R S 3"]:
    positions = rays.origins[:, :, None] + rays.directions[:, :, None] * distance[..., None]
    directions = rays.directions[:, :, None].expand_as(positions)
    samples = model.renderer.field(volume, positions.flatten(1, 2), directions.flatten(1, 2))
    return samples.color.reshape(positions.shape).nan_to_num(0.0)


def _round_up(value: float) -> float:
    """The next larger of 1, 2, 5, 10, ... millimetres and their neighbours, so that lengths are easy to say."""
    steps = np.array([1, 1.5, 2, 3, 4, 5, 6, 8, 10])
    scale = 10.0 ** np.floor(np.log10(value))
    return float(np.round(scale * steps[steps >= value / scale * (1 - 1e-9)][0], 6))


def _numpy(value: Tensor) -> np.ndarray:
    return value.detach().to("cpu", torch.float32).numpy()
