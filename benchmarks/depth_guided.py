"""Compares pre-training with 48 depth-guided samples a ray and with 132 uniform and importance samples, equal steps.

Both are scored on views of held-out rooms, whose depth the sampler is not told.
"""

import argparse
import json
from pathlib import Path

from benchmarks.pretraining_runs import CONFIG, STEPS_PER_PASS, run_pretraining, small_rooms, summarize

SAMPLERS = {
    "guided": {
        "type": "DepthGuidedSampler",
        "num_band": 12,
        "num_free": 18,
        "num_uniform": 18,
        "unmeasured": {"type": "NeuSSampler", "num_samples": 32, "num_importance": 16},  # in evaluation
    },
    "uniform": {"type": "NeuSSampler", "num_samples": 96, "num_importance": 36},
}
FIGURES = {"abs_rel": "lower", "rmse": "lower", "psnr": "higher", "ssim": "higher", "step_s": "lower"}


def compare(folder: Path, *, steps: int, seeds: int) -> dict[str, float]:
    """Trains with each sampler and seed, as far as the results are not there, and gives means, spreads and ratios."""
    runs = {name: [] for name in SAMPLERS}
    for seed in range(seeds):  # in turns, so that a change of the machine's speed concerns both
        for name, sampler in SAMPLERS.items():
            overrides = [*small_rooms(folder / "rooms", steps), f"model.renderer.sampler={sampler!r}"]
            runs[name].append(run_pretraining(CONFIG, overrides, folder / f"{name}-{steps}-seed{seed}", seed))
    figures: dict[str, float] = {"steps": steps, "seeds": seeds}
    for name, found in runs.items():
        for figure, (mean, spread) in summarize(found, FIGURES).items():
            figures[f"{name}_{figure}"], figures[f"{name}_{figure}_std"] = mean, spread
    figures["step_time_ratio"] = figures["uniform_step_s"] / figures["guided_step_s"]
    for figure, better in FIGURES.items():
        if figure != "step_s":
            sign = 1 if better == "higher" else -1
            figures[f"{figure}_gain"] = sign * (figures[f"guided_{figure}"] - figures[f"uniform_{figure}"])
    return figures


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--folder", type=Path, default=Path("exp/depth_guided"), help="runs and rooms; results are reused"
    )
    parser.add_argument("--steps", type=int, default=15 * STEPS_PER_PASS, help=f"a multiple of {STEPS_PER_PASS}")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each sampler (default 3)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()

    figures = compare(arguments.folder, steps=arguments.steps, seeds=arguments.seeds)
    for name, value in figures.items():
        print(f"{name:24s} {value:>12.4f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
