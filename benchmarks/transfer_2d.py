"""Compares image backbones trained from scratch with the same ones pre-trained by rendering, on tasks with few labels.

For a convolutional network and a plain vision transformer: one pre-training by rendering views of synthetic rooms, then
fine-tuning on segmentation and depth with the labels of a tenth of the rooms and of all, from random weights and from
the pre-trained backbone and neck, with the same number of steps, scored on other rooms. Each run leaves a JSON file
in the folder, and a run whose file is there is not repeated: stop and start as you like.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from benchmarks.pretraining_runs import run_pretraining, summarize
from pointcept.utils.files import write_text


@dataclasses.dataclass(frozen=True)
class Network:
    """A backbone of timm and the neck that suits it.

    Attributes:
        name: timm's.
        channels: Width of its maps.
        strides: Their strides.
        pretraining_lr: Learning rate of the pre-training.
    """

    name: str
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    pretraining_lr: float


CONVNEXT_ATTO = Network("convnext_atto", (40, 80, 160, 320), (4, 8, 16, 32), 2e-3)
CONVNEXT_TINY = Network("convnext_tiny", (96, 192, 384, 768), (4, 8, 16, 32), 1e-3)
VIT_TINY = Network("vit_tiny_patch16_224", (192,) * 4, (16,) * 4, 1e-3)
VIT_SMALL = Network("vit_small_patch16_224", (384,) * 4, (16,) * 4, 5e-4)


@dataclasses.dataclass(frozen=True)
class Preset:
    """Size of the comparison.

    Attributes:
        networks: Backbones to compare.
        num_rooms: Rooms for training, of which a tenth gives the few labels; a multiple of 10 and of ``batch_size``.
        num_held_out_rooms: Rooms that are scored.
        frame_size: Height and width of the images, pixels.
        num_frames: Frames of a room.
        width: Channels of neck and volume.
        pretraining_passes: Passes over the rooms in pre-training.
        tuning_passes: Passes over as many rooms in fine-tuning; with few labels the same rooms come more often.
        batch_size: Rooms in a batch, of ``num_views`` images each in fine-tuning.
        num_views: See there.
        num_input_views: Images of a room that are encoded in pre-training; one more is rendered.
        grid_shape: Voxels of the feature volume.
        volume_channels: Widths of the volume's network.
        num_rays: Rays per rendered view.
        num_bins: Intervals of the predicted depth.
        num_worker: Data loading processes.
    """

    networks: tuple[Network, ...]
    num_rooms: int
    num_held_out_rooms: int
    frame_size: tuple[int, int]
    num_frames: int
    width: int
    pretraining_passes: int
    tuning_passes: int
    batch_size: int
    num_views: int
    num_input_views: int
    grid_shape: tuple[int, int, int]
    volume_channels: tuple[int, ...]
    num_rays: int
    num_bins: int
    num_worker: int


PRESETS = {
    "small": Preset(
        networks=(CONVNEXT_ATTO, VIT_TINY),
        num_rooms=100,
        num_held_out_rooms=10,
        frame_size=(64, 96),
        num_frames=12,
        width=32,
        pretraining_passes=20,
        tuning_passes=5,
        batch_size=2,
        num_views=2,
        num_input_views=6,
        grid_shape=(24, 24, 12),
        volume_channels=(16, 32),
        num_rays=96,
        num_bins=48,
        num_worker=0,
    ),
    "full": Preset(
        networks=(CONVNEXT_TINY, VIT_SMALL),
        num_rooms=400,
        num_held_out_rooms=40,
        frame_size=(240, 320),
        num_frames=24,
        width=64,
        pretraining_passes=60,
        tuning_passes=40,
        batch_size=8,
        num_views=4,
        num_input_views=6,
        grid_shape=(64, 64, 32),
        volume_channels=(32, 64, 96),
        num_rays=256,
        num_bins=96,
        num_worker=8,
    ),
}
TASKS = {"segmentation": "ponder2d/semseg-convnext", "depth": "ponder2d/depth-convnext"}
FIGURES = {"segmentation": ("mIoU", "allAcc"), "depth": ("abs_rel", "abs_rel_scaled")}  # the first is the main one
LOWER_IS_BETTER = ("abs_rel", "abs_rel_scaled")
EVALUATORS = {
    "segmentation": {"type": "ImageSegmentationEvaluator", "num_classes": 20, "class_names": "scannet20"},
    "depth": {"type": "DepthEvaluator"},
}
LABELS = {"10 %": 0.1, "100 %": 1.0}
STARTS = ("scratch", "pre-trained")


def pretraining_overrides(preset: Preset, network: Network, rooms: Path) -> list[str]:
    """Overrides that make of the demo's config the pre-training of one network."""
    steps = preset.pretraining_passes * preset.num_rooms // preset.batch_size
    settings = {
        **_rooms(preset, rooms),
        "data.train.num_views": 1,
        "data.train.num_input_views": preset.num_input_views,
        "data.val.num_views": 1,
        "data.val.num_input_views": preset.num_input_views,
        **_network(preset, network, "model.encoder"),
        # Told where the room ends, a network would have to learn less; in the tasks nothing tells it.
        "model.encoder.geometry": None,
        "model.encoder.depth_head.bins.num_bins": preset.num_bins,
        "model.encoder.depth_head.in_channels": preset.width,
        # Features go where the network itself says: with measured depth it would not have to learn where.
        "model.encoder.lift_depth": "predicted",
        "model.encoder.projection.in_channels": preset.width + 4,
        "model.encoder.projection.channels": preset.volume_channels,
        "model.encoder.grid_shape": preset.grid_shape,
        "model.ray_sampler.num_rays": preset.num_rays,
        "optimizer.lr": network.pretraining_lr,
        "scheduler.max_lr": network.pretraining_lr,
        "batch_size": preset.batch_size,
        "num_worker": preset.num_worker,
        "epoch": preset.pretraining_passes,
        "eval_epoch": 1,
        "hooks": _hooks({"type": "RenderingEvaluator"}, steps // 10),
    }
    return [f"{key}={value!r}" for key, value in settings.items()]


def tuning_overrides(
    preset: Preset, network: Network, rooms: Path, task: str, labels: str, weight: Path | None
) -> list[str]:
    """Overrides that make of a task's config the fine-tuning of one network."""
    steps = preset.tuning_passes * preset.num_rooms // preset.batch_size
    settings = {
        **_rooms(preset, rooms),
        "data.train.fraction": LABELS[labels],
        "data.train.loop": round(1 / LABELS[labels]),
        "data.train.num_views": preset.num_views,
        "data.val.num_views": preset.num_frames // 2,
        **_network(preset, network, "model"),
        "batch_size": preset.batch_size,
        "num_worker": preset.num_worker,
        "epoch": preset.tuning_passes,
        "eval_epoch": 1,
        "hooks": _hooks(EVALUATORS[task], steps),
        "weight": None if weight is None else str(weight),
    }
    return [f"{key}={value!r}" for key, value in settings.items()]


def _rooms(preset: Preset, rooms: Path) -> dict[str, Any]:
    settings = {
        "data_root": str(rooms.absolute()),
        "num_train": preset.num_rooms,
        "num_val": preset.num_held_out_rooms,
        "frame_size": preset.frame_size,
        "num_frames": preset.num_frames,
    }
    return {f"data.{split}.{name}": value for split in ("train", "val") for name, value in settings.items()}


def _network(preset: Preset, network: Network, path: str) -> dict[str, Any]:
    return {
        f"{path}.backbone": {"type": "TimmBackbone", "name": network.name},
        f"{path}.neck": {
            "type": "FeaturePyramid",
            "in_channels": network.channels,
            "in_strides": network.strides,
            "out_channels": preset.width,
            "out_stride": 4,
        },
    }


def _hooks(evaluator: dict[str, Any], log_every: int) -> list[dict[str, Any]]:
    return [
        {"type": "CheckpointLoader"},
        {"type": "IterationTimer"},
        {"type": "InformationWriter", "log_every": max(1, log_every)},
        {"type": "EvaluationHook", "evaluator": evaluator},
        {"type": "CheckpointSaver"},
    ]


def compare(preset: Preset, folder: Path, seeds: int) -> dict[str, Any]:
    """Runs what is not there yet, and gives the figures of all runs.

    Returns:
        ``pretraining``: figures by network; ``runs``: one dict per fine-tuning.
    """
    rooms, pretraining, runs = folder / "rooms", {}, []
    for network in preset.networks:
        run = folder / f"pretraining-{network.name}"
        pretraining[network.name] = run_pretraining(
            "demo/pretrain-ponder2d-convnext", pretraining_overrides(preset, network, rooms), run, seed=0
        )
    cases = [
        (seed, network, task, labels, start)
        for seed in range(seeds)
        for network in preset.networks
        for task in TASKS
        for labels in LABELS
        for start in STARTS
    ]
    for number, (seed, network, task, labels, start) in enumerate(cases, start=1):
        weight = None if start == "scratch" else folder / f"pretraining-{network.name}" / "model" / "model_last.pth"
        name = f"{network.name}-{task}-{labels.replace(' %', '')}-{start}-seed{seed}"
        overrides = tuning_overrides(preset, network, rooms, task, labels, weight)
        figures = run_pretraining(TASKS[task], overrides, folder / name, seed, own_process=False)
        (folder / name / "model" / "model_last.pth").unlink(missing_ok=True)
        (folder / name / "model" / "model_best.pth").unlink(missing_ok=True)
        runs.append({"network": network.name, "task": task, "labels": labels, "start": start, "seed": seed, **figures})
        print(f"[{number}/{len(cases)}] {name}: {FIGURES[task][0]} {figures[FIGURES[task][0]]:.4f}", flush=True)
    return {"pretraining": pretraining, "runs": runs}


def summary(results: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per network, task, figure and share of labels: mean and spread of both starts, and the gain."""
    rows = []
    keys = sorted({(run["network"], run["task"], run["labels"]) for run in results["runs"]}, key=str)
    for network, task, labels, figure in ((*key, figure) for key in keys for figure in FIGURES[key[1]]):
        row: dict[str, Any] = {"network": network, "task": task, "labels": labels, "figure": figure}
        for start in STARTS:
            wanted = {"network": network, "task": task, "labels": labels, "start": start}
            runs = [run for run in results["runs"] if wanted.items() <= run.items()]
            row[start] = summarize(runs, [figure])[figure]
            row["seeds"] = len(runs)
        sign = -1 if figure in LOWER_IS_BETTER else 1
        row["gain"] = sign * (row["pre-trained"][0] - row["scratch"][0])
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]], preset: Preset) -> str:
    """The rows as Markdown, with what they were measured on."""
    steps = preset.tuning_passes * preset.num_rooms // preset.batch_size
    before = preset.pretraining_passes * preset.num_rooms // preset.batch_size
    lines = [
        f"A small comparison: {preset.num_rooms} synthetic rooms with images of {preset.frame_size[0]} x "
        f"{preset.frame_size[1]} pixels, {before} steps of pre-training, {steps} of fine-tuning for both starts, "
        f"{preset.num_held_out_rooms} other rooms scored; mean and standard deviation of {rows[0]['seeds']} seeds.",
        "",
        "| backbone | task | labels | from scratch | pre-trained | better by |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [f"{mean:.3f} ± {spread:.3f}" for mean, spread in (row[start] for start in STARTS)]
        task = f"{row['task']}, {row['figure']} {'down' if row['figure'] in LOWER_IS_BETTER else 'up'}"
        lines.append(f"| {row['network']} | {task} | {row['labels']} | {' | '.join(cells)} | {row['gain']:+.3f} |")
    return "\n".join(lines) + "\n"


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Bars of both starts, one panel per task and its main figure; needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(TASKS), figsize=(5 * len(TASKS), 4))
    for axis, task in zip(axes, TASKS):
        main = FIGURES[task][0]
        shown = [row for row in rows if row["task"] == task and row["figure"] == main]
        for offset, start in zip((-0.2, 0.2), STARTS):
            means, spreads = zip(*(row[start] for row in shown))
            positions = [index + offset for index in range(len(shown))]
            axis.bar(positions, means, width=0.38, yerr=spreads, capsize=3, label=start)
        axis.set_xticks(range(len(shown)), [f"{row['network']}\n{row['labels']} labels" for row in shown], fontsize=7)
        arrow = "lower is better" if main in LOWER_IS_BETTER else "higher is better"
        axis.set_title(f"{task}: {main} ({arrow})", fontsize=10)
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    """Run the benchmark, print its table, and write table, plot and figures to the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="small", help="small: a CPU; full: a GPU")
    parser.add_argument(
        "--folder", type=Path, default=Path("exp/transfer_2d"), help="runs and rooms; results are reused"
    )
    parser.add_argument("--seeds", type=int, default=3, help="fine-tunings of each kind (default 3)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()

    preset, folder = PRESETS[arguments.preset], arguments.folder / arguments.preset
    results = compare(preset, folder, arguments.seeds)
    rows = summary(results)
    text = table(rows, preset)
    print(text)
    write_text(folder / "table.md", text)
    report = json.dumps({"pretraining": results["pretraining"], "rows": rows, "runs": results["runs"]}, indent=2)
    write_text(folder / "results.json", report + "\n")
    if arguments.json:
        write_text(arguments.json, report + "\n")
    plot(rows, folder / "plot.png")


if __name__ == "__main__":
    main()
