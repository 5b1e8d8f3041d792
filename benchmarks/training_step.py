"""Measures how much of a training step is spent outside loading, model and loss, backward and optimizer."""

import argparse
import json
import tempfile
from pathlib import Path

from pointcept.config import load_config
from pointcept.engines import Hook, build_trainer
from pointcept.engines.hooks import IterationTimer
from pointcept.engines.timing import PHASES

# What happens between epochs is no part of a step.
BETWEEN_EPOCHS = ("CheckpointLoader", "EvaluationHook", "PanelWriter", "MeshWriter")


class EnoughSteps(Exception):
    """Ends the training of a benchmark."""


class StepClock(Hook):
    """Adds up what the timer measured in each step after the warm-up.

    Args:
        warmup: steps that are not counted.
        steps: steps that are.
    """

    def __init__(self, warmup: int, steps: int) -> None:
        self.warmup, self.steps = warmup, steps
        self.totals: dict[str, float] = {}
        self.num_steps = 0

    def before_train(self) -> None:
        """Finds the timer, and makes its phases wait for the device."""
        self.timer = self.require(IterationTimer, before=True)
        self.trainer.timer.synchronize = True

    def after_step(self) -> None:
        """Adds a step."""
        if self.trainer.step <= self.warmup:
            return
        for name, value in self.timer.seconds.items():
            self.totals[name] = self.totals.get(name, 0.0) + value
        self.num_steps += 1
        if self.num_steps == self.steps:
            raise EnoughSteps


def measure(config_name: str, *, steps: int, warmup: int, options: list[str]) -> dict[str, float]:
    """Trains for a few steps with the hooks of a config and returns seconds per step and ``overhead_fraction``."""
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(config_name, [*options, "evaluate=False", f"save_path={folder}"])
        config["hooks"] = [hook for hook in config["hooks"] if hook["type"] not in BETWEEN_EPOCHS]
        trainer = build_trainer(config)
        clock = StepClock(warmup, steps)
        clock.trainer = trainer
        trainer.hooks.append(clock)
        if trainer.total_steps < warmup + steps:
            raise SystemExit(
                f"The config has {trainer.total_steps} steps: fewer than {warmup} + {steps}. Lower --steps."
            )
        try:
            trainer.train()
        except EnoughSteps:
            figures = {"steps": clock.num_steps}
            figures |= {f"{name}_s": clock.totals[name] / clock.num_steps for name in (*PHASES, "other", "step")}
            figures["overhead_fraction"] = clock.totals["other"] / clock.totals["step"]
            figures["peak_memory_gb"] = trainer.summary()["peak_memory_gb"]
    return figures


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="demo/pretrain-ponder-spunet", help="a path, or a name under configs/")
    parser.add_argument("--steps", type=int, default=20, help="steps to measure (default 20)")
    parser.add_argument("--warmup", type=int, default=3, help="steps before (default 3)")
    parser.add_argument("--options", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of the config")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()

    figures = measure(arguments.config, steps=arguments.steps, warmup=arguments.warmup, options=arguments.options)
    for name, value in figures.items():
        print(f"{name:24s} {value:>12.5f}" if isinstance(value, float) else f"{name:24s} {value:>12d}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
