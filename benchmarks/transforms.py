"""Measures the ScanNet training pipeline on a large room, beside a plain NumPy version of Pointcept's steps."""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import transforms_twin as twin
from pointcept.datasets.transforms import (
    CenterShift,
    ChromaticAutoContrast,
    ChromaticJitter,
    ChromaticTranslation,
    Collect,
    ElasticDistortion,
    GridSample,
    NormalizeColor,
    RandomDropout,
    RandomFlip,
    RandomJitter,
    RandomRotate,
    RandomScale,
    ShufflePoint,
    SphereCrop,
    ToTensor,
)
from pointcept.structures import PointSample

POINTS_KEPT = 100_000
ELASTIC = ((0.2, 0.4), (0.8, 1.6))
KEYS = ("coord", "grid_coord", "segment", "instance")
TURN, TILT, ORIGIN = (-1, 1), (-1 / 64, 1 / 64), (0, 0, 0)

Step = tuple[str, Any, Callable[..., Any]]


def pipeline(always: bool) -> list[Step]:
    """Name, transform and plain step of the pipeline; ``always``: every step does its work, whatever its chance."""
    p = (lambda probability: 1.0) if always else (lambda probability: probability)
    axes = {"z": 2, "x": 0, "y": 1}
    turns = [("z", TURN, ORIGIN), ("x", TILT, None), ("y", TILT, None)]
    return [
        ("CenterShift", CenterShift(apply_z=True), twin.center_shift(True)),
        ("RandomDropout", RandomDropout(0.2, p(0.2)), twin.random_dropout(0.2, p(0.2))),
        *(
            (
                f"RandomRotate {axis}",
                RandomRotate(angle, axis, center, p(0.5)),
                _twin_turn(angle, axes[axis], center, p(0.5)),
            )
            for axis, angle, center in turns
        ),
        ("RandomScale", RandomScale((0.9, 1.1)), twin.random_scale((0.9, 1.1))),
        ("RandomFlip", RandomFlip(p(0.5)), twin.random_flip(p(0.5))),
        ("RandomJitter", RandomJitter(0.005, 0.02), twin.random_jitter(0.005, 0.02)),
        ("ElasticDistortion", ElasticDistortion(ELASTIC, p(0.95)), twin.elastic_distortion(ELASTIC, p(0.95))),
        ("ChromaticAutoContrast", ChromaticAutoContrast(p(0.2)), twin.auto_contrast(p(0.2))),
        ("ChromaticTranslation", ChromaticTranslation(p(0.95), 0.05), twin.color_translation(p(0.95), 0.05)),
        ("ChromaticJitter", ChromaticJitter(p(0.95), 0.05), twin.color_jitter(p(0.95), 0.05)),
        ("GridSample", GridSample(0.02), twin.grid_sample(0.02)),
        ("SphereCrop", SphereCrop(POINTS_KEPT), twin.sphere_crop(POINTS_KEPT)),
        ("CenterShift xy", CenterShift(apply_z=False), twin.center_shift(False)),
        ("NormalizeColor", NormalizeColor(), twin.normalize_color),
        ("ShufflePoint", ShufflePoint(), twin.shuffle),
        ("ToTensor", ToTensor(), twin.to_tensor),
        ("Collect", Collect(("color", "normal"), KEYS), twin.collect),
    ]


def _twin_turn(angle: Sequence[float], axis: int, center: Sequence[float] | None, p: float) -> Callable[..., Any]:
    return twin.random_rotate(tuple(angle), axis, None if center is None else list(center), p)


def room(num_points: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Points on the walls, the floor and boxes of a room of 7 x 5 x 2.8 m."""
    rng = np.random.default_rng(seed)
    boxes = [((0, 0, 0), (7, 5, 2.8))] + [
        (corner := rng.uniform(0, 1, 3) * (5.5, 4, 0), corner + rng.uniform(0.4, 1.4, 3)) for _ in range(12)
    ]
    low, high = (np.array([box[side] for box in boxes], dtype=np.float64) for side in (0, 1))
    box = rng.integers(0, len(boxes), num_points)
    box[: num_points // 2] = 0
    position = rng.uniform(0, 1, (num_points, 3))
    axis, side = rng.integers(0, 3, num_points), rng.integers(0, 2, num_points)
    position[np.arange(num_points), axis] = side
    normal = np.zeros((num_points, 3), dtype=np.float32)
    normal[np.arange(num_points), axis] = 1 - 2 * side
    order = rng.permutation(num_points)
    return {
        "coord": (low[box] + position * (high - low)[box]).astype(np.float32)[order],
        "color": rng.integers(0, 256, (num_points, 3)).astype(np.float32)[order],
        "normal": normal[order],
        "segment": (box % 20).astype(np.int64)[order],
        "instance": box.astype(np.int64)[order],
    }


def as_sample(arrays: dict[str, np.ndarray]) -> PointSample:
    """The room as the readers give it."""
    point = {key: value for key, value in arrays.items() if key != "coord"}
    return PointSample(coord=arrays["coord"], point=point, scene={"name": "room"})


def run(steps: Sequence[Callable[..., Any]], start: Any, seed: int) -> tuple[list[float], Any]:
    """Seconds of each step, and the result."""
    rng = np.random.default_rng(seed)
    seconds, sample = [], start
    for step in steps:
        began = time.perf_counter()
        sample = step(sample, rng)
        seconds.append(time.perf_counter() - began)
    return seconds, sample


def measure(num_points: int, repeats: int, always: bool) -> tuple[list[tuple[str, float, float]], dict[str, float]]:
    """Seconds of each step of both, medians over repeats that take turns, and the figures."""
    arrays = room(num_points)
    steps = pipeline(always)
    ours, plain = [], []
    for repeat in range(-1, repeats):  # the first is a warm-up
        seconds, sample = run([step for _, step, _ in steps], as_sample(arrays), abs(repeat))
        copies = {key: value.copy() for key, value in arrays.items()}  # these steps change what they get
        plain_seconds, other = run([step for _, _, step in steps], copies, abs(repeat))
        if repeat >= 0:
            ours.append(seconds)
            plain.append(plain_seconds)
    if not 0.8 < sample.num_points / len(other["coord"]) < 1.25:
        raise SystemExit(f"The two pipelines differ: {sample.num_points} and {len(other['coord'])} points came out.")
    mine, theirs = np.array(ours), np.array(plain)
    total, plain_total = float(np.median(mine.sum(axis=1))), float(np.median(theirs.sum(axis=1)))
    rows = [(name, a, b) for (name, _, _), a, b in zip(steps, np.median(mine, axis=0), np.median(theirs, axis=0))]
    figures = {"points": num_points, "points_out": sample.num_points, "pipeline_ms": total * 1e3}
    figures |= {"plain_pipeline_ms": plain_total * 1e3, "pipeline_speedup": plain_total / total}
    without = plain_total - rows[-1][2]
    figures["pipeline_speedup_without_collect"] = without / (total - rows[-1][1])
    return rows, figures


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=200_000, help="points of the room (default 200000)")
    parser.add_argument("--repeats", type=int, default=9, help="repeats, of which the medians count (default 9)")
    parser.add_argument("--always", action="store_true", help="let every step do its work, whatever its probability")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    rows, figures = measure(arguments.points, arguments.repeats, arguments.always)
    print(f"{'transform':24s} {'ms':>9s} {'plain ms':>9s} {'ratio':>7s}")
    for name, seconds, plain in rows:
        ratio = f"{plain / seconds:7.1f}" if min(seconds, plain) > 1e-5 else f"{'-':>7s}"
        print(f"{name:24s} {seconds * 1e3:9.2f} {plain * 1e3:9.2f} {ratio}")
    for name, value in figures.items():
        print(f"{name:34s} {value:>12.2f}" if isinstance(value, float) else f"{name:34s} {value:>12d}")
    if arguments.json:
        steps = {name: {"ms": seconds * 1e3, "plain_ms": plain * 1e3} for name, seconds, plain in rows}
        arguments.json.write_text(json.dumps({**figures, "steps": steps}, indent=2) + "\n")


if __name__ == "__main__":
    main()
