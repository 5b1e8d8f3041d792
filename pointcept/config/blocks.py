"""Blocks that several configs share, as plain data: lists of a base are replaced whole, so variants come from here."""

from collections.abc import Sequence
from typing import Any

Block = dict[str, Any]

_LABELLED = ("coord", "grid_coord", "segment", "name", "condition")
_UNLABELLED = ("coord", "grid_coord", "name", "condition")


def scene_transforms(
    grid_size: float,
    feat_keys: Sequence[str],
    *,
    crops: Sequence[Block] = (),
    tilt: bool = True,
    elastic: bool = False,
) -> dict[str, list[Block]]:
    """Pointcept's pipelines for the segmentation of indoor scenes.

    Args:
        grid_size: Voxel edge, metres.
        feat_keys: Point data that the model gets, in this order.
        crops: Arguments of the ``SphereCrop`` steps of training, ``mode`` excepted.
        tilt: Turn about x and y too, by up to 1/64 of half a turn.
        elastic: Distort elastically.

    Returns:
        The transforms of ``data``'s ``train``, ``val`` and ``test``, and of the final evaluation's ``fragment``.
    """
    tilts = [dict(type="RandomRotate", angle=(-1 / 64, 1 / 64), axis=axis, p=0.5) for axis in "xy"]
    distortion = [dict(type="ElasticDistortion", distortion_params=((0.2, 0.4), (0.8, 1.6)))]
    onto_floor, to_centre = dict(type="CenterShift", apply_z=True), dict(type="CenterShift", apply_z=False)
    labelled = dict(type="Collect", feat_keys=feat_keys, keys=_LABELLED)
    return {
        "train": [
            onto_floor,
            dict(type="RandomDropout", dropout_ratio=0.2, dropout_application_ratio=0.2),
            dict(type="RandomRotate", angle=(-1, 1), axis="z", center=(0, 0, 0), p=0.5),
            *(tilts if tilt else ()),
            dict(type="RandomScale", scale=(0.9, 1.1)),
            dict(type="RandomFlip", p=0.5),
            dict(type="RandomJitter", sigma=0.005, clip=0.02),
            *(distortion if elastic else ()),
            dict(type="ChromaticAutoContrast", p=0.2),
            dict(type="ChromaticTranslation", p=0.95, ratio=0.05),
            dict(type="ChromaticJitter", p=0.95, std=0.05),
            dict(type="GridSample", grid_size=grid_size),
            *(dict(type="SphereCrop", mode="random", **crop) for crop in crops),
            to_centre,
            dict(type="NormalizeColor"),
            dict(type="ShufflePoint"),
            labelled,
        ],
        "val": [
            onto_floor,
            dict(type="GridSample", grid_size=grid_size, return_inverse=True),
            to_centre,
            dict(type="NormalizeColor"),
            labelled,
        ],
        "test": [onto_floor, dict(type="NormalizeColor")],
        "fragment": [to_centre, dict(type="Collect", feat_keys=feat_keys, keys=_UNLABELLED)],
    }


def sweep_transforms(
    grid_size: float, feat_keys: Sequence[str], *, clip_range: Sequence[float | int] | None = None
) -> dict[str, list[Block]]:
    """Pointcept's pipelines for the segmentation of LiDAR sweeps.

    Args:
        grid_size: Voxel edge, metres.
        feat_keys: Point data that the model gets, in this order.
        clip_range: Box that points are moved into, as of ``PointClip``; None moves none.

    Returns:
        As of :func:`scene_transforms`.
    """
    clip = [] if clip_range is None else [dict(type="PointClip", point_cloud_range=clip_range)]
    labelled = dict(type="Collect", feat_keys=feat_keys, keys=_LABELLED)
    return {
        "train": [
            dict(type="RandomRotate", angle=(-1, 1), axis="z", center=(0, 0, 0), p=0.5),
            *clip,
            dict(type="RandomScale", scale=(0.9, 1.1)),
            dict(type="RandomFlip", p=0.5),
            dict(type="RandomJitter", sigma=0.005, clip=0.02),
            dict(type="GridSample", grid_size=grid_size),
            labelled,
        ],
        "val": [*clip, dict(type="GridSample", grid_size=grid_size, return_inverse=True), labelled],
        "test": clip,
        "fragment": [dict(type="Collect", feat_keys=feat_keys, keys=_UNLABELLED)],
    }


def turned_variants() -> list[list[Block]]:
    """The 13 variants of a final evaluation: four turns about z in three sizes, and a flip."""
    return [
        [
            dict(type="RandomRotateTargetAngle", angle=(turn,), axis="z", center=(0, 0, 0), p=1.0),
            dict(type="RandomScale", scale=(scale, scale)),
        ]
        for scale in (1.0, 0.95, 1.05)
        for turn in (0, 1 / 2, 1, 3 / 2)
    ] + [[dict(type="RandomFlip", p=1.0)]]


def scaled_variants() -> list[list[Block]]:
    """The 10 variants of a final evaluation: five sizes, each as it is and flipped."""
    return [
        [dict(type="RandomScale", scale=(scale, scale)), *flip]
        for flip in ([], [dict(type="RandomFlip", p=1.0)])
        for scale in (0.9, 0.95, 1.0, 1.05, 1.1)
    ]


def usual_hooks(evaluator: Block, *more: Block, **saver: Any) -> list[Block]:
    """The hooks of a training that is evaluated on the way.

    Args:
        evaluator: What evaluates.
        more: Hooks that run after the evaluation.
        saver: Arguments of ``CheckpointSaver``.
    """
    return [
        dict(type="CheckpointLoader"),
        dict(type="IterationTimer"),
        dict(type="InformationWriter"),
        dict(type="TensorBoardWriter"),
        dict(type="EvaluationHook", evaluator=evaluator),
        *more,
        dict(type="CheckpointSaver", **saver),
    ]
