"""Joins samples to the batch that a model receives."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pointcept.structures import CameraBatch, OriginBatch, PointBatch, PointSample, SceneBatch, Views

_RIGID_TOLERANCE = 1e-3
_LABELS = ("segment", "instance")


def collate(samples: Sequence[PointSample]) -> SceneBatch:
    """A batch of samples, in their order.

    Point clouds are concatenated; of the point data, ``grid_coord``, ``feat`` and the labels go into the batch.
    Views of different size and number are padded at the right and at the bottom: with zeros, class -1 and identity
    matrices; ``size_px`` tells what is real. Colour becomes float, 0..1. Samples of which none has points, for encoders
    of images alone, give a batch without points.

    Raises:
        ValueError: no sample; a sample without points among others with points, without ``grid_coord`` or ``feat``; or
            samples of which only some have labels, views or a condition, or that differ in the number of features; a
            view with an unusable camera.
    """
    if not samples:
        raise ValueError("A batch needs at least one sample: got none. Check the batch size.")
    return SceneBatch(
        seed=torch.tensor([sample.seed for sample in samples], dtype=torch.int64),
        name=tuple(sample.name for sample in samples),
        points=_collate_points(samples) if any(sample.num_points for sample in samples) else None,
        cameras=_collate_views([sample.views for sample in samples], samples, "views"),
        inputs=_collate_views([sample.input_views for sample in samples], samples, "input views"),
        origin=_collate_origins(samples),
    )


def _collate_points(samples: Sequence[PointSample]) -> PointBatch:
    for sample in samples:
        if sample.num_points == 0:
            raise ValueError(
                f"Every sample must have points: scene {sample.name!r} has none. Let the transforms keep more, or "
                "leave the scene out."
            )
        absent = [key for key in ("grid_coord", "feat") if key not in sample.point]
        if absent:
            raise ValueError(
                f"Every sample must have point data grid_coord and feat: scene {sample.name!r} lacks {absent} and has "
                f"{sorted(sample.point)}. End the transforms with GridSample(...) and Collect(feat_keys=...)."
            )
    widths = [(sample.name, sample.point["feat"].shape[1]) for sample in samples]
    if len({width for _, width in widths}) > 1:
        raise ValueError(f"All samples must have the same number of features: got {widths}. Use one Collect for all.")
    labels = {key: _join(samples, key, torch.int64) for key in _LABELS if _all_or_none(samples, key)}
    conditions = [sample.scene.get("condition") for sample in samples]
    if any(condition is None for condition in conditions) and any(condition is not None for condition in conditions):
        raise ValueError(
            f"All samples of a batch or none must have a condition: got {conditions}. Set condition= in every data set."
        )
    counts = torch.tensor([sample.num_points for sample in samples], dtype=torch.int64)
    return PointBatch(
        coord=torch.from_numpy(np.concatenate([sample.coord for sample in samples])).float(),
        grid_coord=_join(samples, "grid_coord", torch.int64),
        feat=_join(samples, "feat", torch.float32),
        offset=counts.cumsum(0),
        condition=() if conditions[0] is None else tuple(str(condition) for condition in conditions),
        **labels,
    )


def _all_or_none(samples: Sequence[PointSample], key: str) -> bool:
    having = [sample.name for sample in samples if key in sample.point]
    lacking = [sample.name for sample in samples if key not in sample.point]
    if having and lacking:
        raise ValueError(
            f"All samples of a batch or none must have point data {key!r}: scenes {having} have it, {lacking} do not. "
            f"Add the labels, or drop them: Collect(keys=...) without {key!r}."
        )
    return bool(having)


def _join(samples: Sequence[PointSample], key: str, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.concatenate([sample.point[key] for sample in samples])).to(dtype)


def _collate_origins(samples: Sequence[PointSample]) -> OriginBatch | None:
    """The clouds before voxelization, of samples whose ``GridSample`` kept the way back to them."""
    lacking = [sample.name for sample in samples if "inverse" not in sample.scene]
    if len(lacking) == len(samples):
        return None
    if lacking:
        raise ValueError(
            f"All samples of a batch or none must know their original points: scenes {lacking} do not. Use "
            "GridSample(return_inverse=True) for all of them."
        )
    inverses = [sample.scene["inverse"] for sample in samples]
    starts = np.cumsum([0, *(sample.num_points for sample in samples[:-1])])
    labels = [sample.scene.get("origin_segment") for sample in samples]
    has_labels = all(label is not None for label in labels)
    return OriginBatch(
        inverse=torch.from_numpy(np.concatenate([i + start for i, start in zip(inverses, starts, strict=True)])),
        offset=torch.tensor([len(inverse) for inverse in inverses]).cumsum(0),
        segment=torch.from_numpy(np.concatenate(labels)).long() if has_labels else None,
    )


def _collate_views(
    views_of_scenes: Sequence[Views | None], samples: Sequence[PointSample], kind: str
) -> CameraBatch | None:
    scenes = [views for views in views_of_scenes if views is not None]
    if not scenes:
        return None
    if len(scenes) < len(samples):
        lacking = [sample.name for sample, views in zip(samples, views_of_scenes, strict=True) if views is None]
        raise ValueError(
            f"All samples of a batch or none must have {kind}: scenes {lacking} have none. Do not mix data sets with "
            f"and without {kind} in one batch."
        )
    num_views = max(len(views) for views in scenes)
    sizes = np.zeros((len(scenes), num_views, 2), dtype=np.int64)
    for b, views in enumerate(scenes):
        for v, depth in enumerate(views.depth):
            sizes[b, v] = depth.shape
    height, width = sizes.max(axis=(0, 1), initial=0)

    grid = (len(scenes), num_views, int(height), int(width))
    # Filled by NumPy: torch would start its threads for each of these small copies.
    image = np.zeros((*grid[:2], 3, *grid[2:]), dtype=np.float32)
    depth = np.zeros(grid, dtype=np.float32)
    has_labels = any(views.segment is not None for views in scenes)
    segment = np.full(grid, -1, dtype=np.int64) if has_labels else None
    # Identity matrices, as zeros have no inverse and would put NaN into rays that are masked only later.
    intrinsic = np.tile(np.eye(3, dtype=np.float32), (*grid[:2], 1, 1))
    extrinsic = np.tile(np.eye(4, dtype=np.float32), (*grid[:2], 1, 1))
    for b, views in enumerate(scenes):
        _check_cameras(views, samples[b].name)
        intrinsic[b, : len(views)] = views.intrinsic
        extrinsic[b, : len(views)] = views.extrinsic
        for v in range(len(views)):
            rows, columns = sizes[b, v]
            pixels = views.image[v].transpose(2, 0, 1)  # H W 3 -> 3 H W
            np.divide(pixels, np.float32(255), out=image[b, v, :, :rows, :columns])
            depth[b, v, :rows, :columns] = views.depth[v]
            if segment is not None and views.segment is not None:
                segment[b, v, :rows, :columns] = views.segment[v]
    return CameraBatch(
        feature=_collate_feature_maps(scenes, samples, num_views),
        image=torch.from_numpy(image),
        depth=torch.from_numpy(depth),
        intrinsic=torch.from_numpy(intrinsic),
        extrinsic=torch.from_numpy(extrinsic),
        size_px=torch.from_numpy(sizes),
        segment=None if segment is None else torch.from_numpy(segment),
    )


def _collate_feature_maps(scenes: Sequence[Views], samples: Sequence[PointSample], num_views: int) -> Tensor | None:
    """Feature maps of all views; those of absent views are zero."""
    lacking = [sample.name for sample, views in zip(samples, scenes, strict=True) if views.feature is None]
    if len(lacking) == len(scenes):
        return None
    shapes = {array.shape for views in scenes for array in views.feature or ()}
    if lacking or len(shapes) != 1:
        raise ValueError(
            f"All views of a batch or none must have feature maps of one shape: scenes {lacking} have none, and the "
            f"shapes are {sorted(shapes)}. Load them in all data sets, from caches of one teacher."
        )
    maps = np.zeros((len(scenes), num_views, *shapes.pop()), dtype=np.float32)
    for b, views in enumerate(scenes):
        maps[b, : len(views)] = views.feature
    return torch.from_numpy(maps)


def _check_cameras(views: Views, scene: str) -> None:
    rotation = views.extrinsic[:, :3, :3]
    skew = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2), initial=0.0)
    is_rigid = (
        np.isfinite(views.extrinsic).all(axis=(1, 2))
        & (skew < _RIGID_TOLERANCE)
        & (views.extrinsic[:, 3] == (0, 0, 0, 1)).all(axis=1)
    )
    focal = views.intrinsic[:, [0, 1], [0, 1]]
    sizes = np.array([depth.shape for depth in views.depth]).reshape(-1, 2)
    center = views.intrinsic[:, :2, 2]
    is_pinhole = (
        np.isfinite(views.intrinsic).all(axis=(1, 2))
        & (focal > 0).all(axis=1)
        & (views.intrinsic[:, 2] == (0, 0, 1)).all(axis=1)
    )
    suits_size = is_pinhole & ((center > -sizes[:, ::-1]) & (center < 2 * sizes[:, ::-1])).all(axis=1)
    for fine, wanted, matrix, remedy in (
        (is_rigid, "extrinsic must be a rigid camera_from_world", views.extrinsic, "Leave frames without a pose out."),
        (is_pinhole, "intrinsic must be that of a pinhole camera", views.intrinsic, "Undistort the images first."),
        (suits_size, "intrinsic must suit the image's size", views.intrinsic, "Scale it with the image."),
    ):
        if not fine.all():
            v = int(np.argmin(fine))
            name = views.name[v] if views.name else str(v)
            raise ValueError(
                f"The {wanted}: view {name} of scene {scene!r} has {matrix[v].tolist()} for {sizes[v, 0]} x "
                f"{sizes[v, 1]} pixels (height x width). {remedy}"
            )
