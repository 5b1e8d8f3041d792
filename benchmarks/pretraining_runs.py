"""Short pre-trainings for comparisons: each in its own process, scored, and not repeated once its result is there."""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pointcept.config import load_config
from pointcept.engines import build_trainer
from pointcept.engines.hooks import IterationTimer
from pointcept.utils.files import write_text

RESULT = "result.json"
CONFIG = "demo/pretrain-ponder-spunet"
NUM_ROOMS, NUM_HELD_OUT_ROOMS, BATCH_SIZE = 24, 6, 2
STEPS_PER_PASS = NUM_ROOMS // BATCH_SIZE


def small_rooms(data_root: Path, steps: int) -> list[str]:
    """Overrides that make of the demo's config a run of minutes on one core, scored on views of held-out rooms.

    Args:
        data_root: Folder for the rooms, which are made by the first run.
        steps: Optimizer steps, a multiple of ``STEPS_PER_PASS``.

    Raises:
        ValueError: the steps are no whole number of passes over the rooms.
    """
    if steps < 1 or steps % STEPS_PER_PASS:
        raise ValueError(f"steps must be a multiple of {STEPS_PER_PASS}, one pass over the rooms: got {steps}.")
    rooms = {
        "data_root": str(data_root.absolute()),
        "num_train": NUM_ROOMS,
        "num_val": NUM_HELD_OUT_ROOMS,
        "frame_size": (90, 120),
        "num_frames": 16,
    }
    hooks = [
        {"type": "IterationTimer"},
        {"type": "InformationWriter", "log_every": STEPS_PER_PASS},
        {"type": "EvaluationHook", "evaluator": {"type": "RenderingEvaluator"}},
        {"type": "CheckpointSaver"},
    ]
    return [
        *(f"data.{split}.{name}={value!r}" for split in ("train", "val") for name, value in rooms.items()),
        "data.train.num_views=3",
        f"batch_size={BATCH_SIZE}",
        f"epoch={steps // STEPS_PER_PASS}",
        "eval_epoch=1",
        "num_worker=0",
        "model.encoder.grid_shape=(40,40,20)",
        "model.ray_sampler.num_rays=128",
        "model.renderer.piece_size=8192",
        f"hooks={hooks!r}",
    ]


def run_pretraining(
    config: str, overrides: Sequence[str], folder: Path, seed: int, *, own_process: bool = True
) -> dict[str, float]:
    """Trains what a config describes, unless ``folder`` already holds the result, and gives its figures.

    Args:
        config: A path, or a name under configs/.
        overrides: Options of the config, as "key.path=value".
        folder: Where the experiment goes; the last checkpoint is then ``model/model_last.pth``, if the config has a
            CheckpointSaver.
        seed: Seed of the run: initial weights, order of the data, rays and samples.
        own_process: False trains here, which saves the start of a process; ``peak_memory_gb`` is then that of all runs.

    Returns:
        The figures of the last evaluation, ``steps``, ``seconds``, ``peak_memory_gb``, and if the config has an
        IterationTimer ``step_s``: mean seconds of forward, backward and optimizer in a step.

    Raises:
        ValueError: the folder holds the result of a run with other settings.
        RuntimeError: the training failed.
    """
    settings = {"config": str(config), "overrides": list(overrides), "seed": seed}
    path = folder / RESULT
    if path.is_file():
        result = json.loads(path.read_text())
        if result["settings"] != settings:
            raise ValueError(
                f"{path} must be of a run with the same settings: it has {result['settings']}, and {settings} are "
                "wanted. Choose another folder, or delete it."
            )
        return result["figures"]
    folder.mkdir(parents=True, exist_ok=True)
    if not own_process:
        _train(folder, settings)
        return json.loads(path.read_text())["figures"]
    command = [sys.executable, "-m", "benchmarks.pretraining_runs", str(folder), json.dumps(settings)]
    with (folder / "output.txt").open("w") as output:
        code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT).returncode
    if code != 0:
        tail = "\n".join((folder / "output.txt").read_text().splitlines()[-5:])
        raise RuntimeError(f"The training in {folder} must succeed: it ended with status {code}.\n{tail}")
    return json.loads(path.read_text())["figures"]


def summarize(runs: Iterable[Mapping[str, float]], names: Iterable[str]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation (of the sample; 0 for a single run) of some figures over runs."""
    runs = list(runs)
    summary = {}
    for name in names:
        values = [run[name] for run in runs]
        summary[name] = (statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0)
    return summary


def _train(folder: Path, settings: dict[str, Any]) -> None:
    options = [*settings["overrides"], f"seed={settings['seed']}", f"save_path={str(folder)!r}"]
    trainer = build_trainer(load_config(settings["config"], options))
    trainer.train()
    if not trainer.is_finished:
        raise SystemExit("The training was stopped before its end.")
    figures = trainer.summary()
    timer = trainer.find_hook(IterationTimer)
    if timer is not None:
        figures["step_s"] = sum(timer.mean_seconds[phase] for phase in ("forward", "backward", "optimizer"))
    write_text(folder / RESULT, json.dumps({"settings": settings, "figures": figures}, indent=2) + "\n")


def main() -> None:
    """Train in this process, as ``run_pretraining`` asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the experiment goes")
    parser.add_argument("settings", type=json.loads, help="config, overrides and seed as JSON")
    arguments = parser.parse_args()
    _train(arguments.folder, arguments.settings)


if __name__ == "__main__":
    main()
