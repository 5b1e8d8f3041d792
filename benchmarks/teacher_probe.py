"""What the features of the transfer benchmark's teacher are worth themselves: a linear probe of them.

The maps of all training views of a room are lifted onto the points that they see, exactly, with the measured depth, and
averaged over the views. Pre-training with this teacher estimates these features; a backbone may add what it knows of
the surroundings.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from benchmarks.linear_probe import score_linear
from benchmarks.packaged_teacher import MAPS
from benchmarks.transfer_plan import PRESETS, Labels, Plan
from pointcept.datasets.collate import collate
from pointcept.models.pretraining import TimmTeacher
from pointcept.registry import DATASETS, MODELS, build
from pointcept.rendering.feature_maps import read_feature_maps
from pointcept.structures import CameraBatch

_DEPTH_TOLERANCE_M = 0.15  # a voxel and a half of the small preset


def probe_teacher(plan: Plan, labels: Labels, maps: Sequence[int]) -> dict[str, float]:
    """Figures of one choice of the teacher's maps, no map meaning the input of the backbones alone.

    Args:
        plan: Data and the teacher's network.
        labels: Scenes whose labels the probe sees.
        maps: Indices of maps.

    Returns:
        ``mIoU`` of the lifted features with colour, normal and height; with maps also ``mIoU_alone`` without those, and
        the ``cosine_loss`` of two predictions of the maps at the training scenes' points: ``constant``, the best one
        that is the same everywhere, and ``lifted``.
    """
    teacher = build(plan.teacher(maps), "teacher", MODELS) if maps else None
    train, val = (_lifted(plan, teacher, split, labels) for split in ("train", "val"))
    figures = {"mIoU": _score(train, val, slice(None))}
    if teacher is not None:
        read, lifted = train["read"], train["lifted_at_read"]
        constant = F.normalize(read, dim=1).mean(dim=0, keepdim=True)
        figures["mIoU_alone"] = _score(train, val, slice(teacher.channels))
        figures["constant"] = float(1 - F.cosine_similarity(read, constant).mean())
        figures["lifted"] = float(1 - F.cosine_similarity(read, lifted).mean())
    return figures


def seen_pairs(
    coord: Float[Tensor, "N 3"], cameras: CameraBatch
) -> tuple[Int[Tensor, "M"], Int[Tensor, "M 3"], Bool[Tensor, "V N"]]:
    """Which view of one scene sees which point, by the measured depth of the nearest pixel.

    Returns:
        Row of each seen point, and its view, column and row of pixels; the same as a mask.
    """
    world = F.pad(coord, (0, 1), value=1.0)
    camera = torch.einsum("vij,nj->vni", cameras.extrinsic[0, :, :3], world)
    image = torch.einsum("vij,vnj->vni", cameras.intrinsic[0], camera)
    depth = camera[..., 2]
    pixel = (image[..., :2] / image[..., 2:].clamp(min=1e-6)).round().long()
    size = cameras.size_px[0].flip(-1)[:, None]
    inside = ((pixel >= 0) & (pixel < size)).all(dim=-1) & (depth > 0)
    pixel = pixel.clamp(min=0).minimum(size - 1)
    view = torch.arange(len(pixel))[:, None].expand_as(inside)
    measured = cameras.depth[0][view, pixel[..., 1], pixel[..., 0]]
    seen = inside & (measured > 0) & ((measured - depth).abs() < _DEPTH_TOLERANCE_M)
    return seen.nonzero()[:, 1], torch.cat((view[..., None], pixel), dim=-1)[seen], seen


def _lifted(plan: Plan, teacher: TimmTeacher | None, split: str, labels: Labels) -> dict[str, Tensor]:
    dataset = build(plan.viewed(split, labels), f"data.{split}", DATASETS)
    found: dict[str, list[Tensor]] = {"features": [], "segment": [], "read": [], "lifted_at_read": []}
    for index in range(len(dataset)):
        batch = collate([dataset[index]])
        points = batch.points
        height = points.coord[:, 2:] - points.coord[:, 2].min()
        features = torch.cat((points.feat, height), dim=1)
        if teacher is not None:
            row, pixel, seen = seen_pairs(points.coord, batch.cameras)
            read = read_feature_maps(teacher(batch.cameras), pixel[None], batch.cameras.size_px)[0]
            total = read.new_zeros(len(features), teacher.channels).index_add_(0, row, F.normalize(read, dim=1))
            lifted = total / seen.sum(dim=0).clamp(min=1)[:, None]
            found["read"].append(read)
            found["lifted_at_read"].append(lifted.index_select(0, row))
            features = torch.cat((lifted, features), dim=1)
        found["features"].append(features)
        found["segment"].append(points.segment)
    return {name: torch.cat(parts) for name, parts in found.items() if parts}


def _score(train: dict[str, Tensor], val: dict[str, Tensor], columns: slice) -> float:
    return score_linear(
        (train["features"][:, columns], train["segment"]), (val["features"][:, columns], val["segment"])
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures of the input alone, of each map and of all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.teacher_probe", description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("exp/transfer/small"), help="of the transfer benchmark")
    parser.add_argument("--fraction", type=float, default=10.0, metavar="PERCENT", help="of the scenes (default 10)")
    options = parser.parse_args(arguments)
    plan = Plan(options.folder, PRESETS["small"])
    labels = Labels(f"{options.fraction:g}%", options.fraction / 100)
    for maps in ((), *((index,) for index in MAPS), MAPS):
        figures = ", ".join(f"{name} {value:.3f}" for name, value in probe_teacher(plan, labels, maps).items())
        print(f"maps {', '.join(map(str, maps)) or 'none'}: {figures}", flush=True)


if __name__ == "__main__":
    main()
