"""The command ``python -m pointcept.visualization.inspect``: an experiment in, a page to look into it out."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from pointcept.utils.logging import configure_logging
from pointcept.visualization.inspect import find_checkpoints, inspect_experiment, open_experiment


def main(arguments: Sequence[str] | None = None) -> None:
    """Inspects what the command line describes.

    Args:
        arguments: the command line without the program; None takes it from ``sys.argv``.
    """
    options = _parse(arguments)
    configure_logging()
    try:
        checkpoints = find_checkpoints(options.experiment, options.checkpoints, limit=options.num_steps)
        experiment = open_experiment(
            options.experiment, split=options.split, options=options.options, device=options.device
        )
        scenes = options.scenes or experiment.scene_names[:1]
        output = options.output or options.experiment / "inspection"
        page = inspect_experiment(experiment, checkpoints, list(dict.fromkeys(scenes)), output)
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(f"{page}\n")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pointcept.visualization.inspect",
        description="Writes a page, and pictures, that show what a rendering pre-training renders, and why: views, "
        "samples along rays, slices of the signed distance and the surface, over the steps of training. The page is "
        "one HTML file that needs no network.",
    )
    parser.add_argument("experiment", type=Path, metavar="EXPERIMENT", help="folder of the run (its save_path)")
    parser.add_argument("--scenes", nargs="+", metavar="NAME", help="scenes to show (default: the first of the split)")
    parser.add_argument("--split", default="val", metavar="NAME", help="entry of the config's data (default: val)")
    parser.add_argument(
        "--checkpoints",
        "--weight",
        nargs="+",
        default=[],
        metavar="FILE",
        help="files, or names such as step_000120 or model_best (default: snapshots or epochs, and the last one)",
    )
    parser.add_argument(
        "--num-steps", type=_positive, default=7, metavar="N", help="at most so many of the checkpoints found"
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="default: inspection/ in the experiment")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", metavar="NAME")
    parser.add_argument("--options", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of the config")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1: got {text}.")
    return value


if __name__ == "__main__":
    main()
