"""The command ``python -m pointcept.train``: a config in, an experiment folder out."""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pointcept.config import Config, dump_config, load_config, validate_config


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains what the command line describes, after checking the config completely.

    Args:
        arguments: the command line without the program; None takes it from ``sys.argv``.
    """
    options = _parse(arguments)
    try:
        config = load_config(options.config_file, options.options)
        validate_config(config)
        is_first = options.machine_rank == 0 and os.environ.get("RANK", "0") == "0"
        if is_first:
            prepare_experiment(config, overwrite=options.overwrite)
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")

    from pointcept.engines.launch import default_num_processes, launch  # after the checks, which need not wait for it

    try:
        launch(
            train,
            (config.to_plain(),),
            num_processes=options.num_gpus or default_num_processes(),
            num_machines=options.num_machines,
            machine_rank=options.machine_rank,
            dist_url=options.dist_url,
        )
    except BaseException:
        if is_first and not config.resume:
            _discard_unused(Path(config.save_path))
        raise


def train(config: dict[str, Any]) -> None:
    """Trains in this process, which may be one of several.

    Args:
        config: a whole checked config.
    """
    from pointcept.engines.trainer import build_trainer

    build_trainer(config).train()


def prepare_experiment(config: Config, overwrite: bool = False) -> None:
    """Makes the experiment folder and records the config in it, unless an earlier run is there.

    Args:
        config: a checked config. With ``resume`` the folder and its ``config.py`` are left as they are.
        overwrite: delete an earlier run.

    Raises:
        FileExistsError: the folder holds an earlier run, or something that is no experiment.
        FileNotFoundError: there is no checkpoint to resume from.
    """
    folder = Path(config.save_path)
    if config.resume:
        _require_checkpoint(Path(config.weight or folder / "model" / "model_last.pth"))
        return
    if folder.exists() and any(folder.iterdir()):
        _require_disposable(folder, overwrite)
        shutil.rmtree(folder)
    (folder / "model").mkdir(parents=True)
    dump_config(config, folder / "config.py")


def _discard_unused(folder: Path) -> None:
    """Deletes an experiment of which there is only the config: it never began, and its name is free again."""
    if {str(entry.relative_to(folder)) for entry in folder.rglob("*")} == {"config.py", "model"}:
        shutil.rmtree(folder)


def _require_checkpoint(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(
            f"A run resumes from its last checkpoint: {path} is missing. Check the experiment's name, or start again "
            "with --overwrite."
        )


def _require_disposable(folder: Path, overwrite: bool) -> None:
    if not (folder / "config.py").is_file():
        raise FileExistsError(
            f"An experiment needs a folder of its own: {folder} has files but no config.py. Choose another save_path."
        )
    if not overwrite:
        state = "finished" if (folder / "metrics.json").is_file() else "started"
        raise FileExistsError(
            f"An earlier run must not be overwritten: {folder} holds one that was {state}. Resume it (-r true), choose "
            "another name (-n), or delete it with --overwrite."
        )
    if Path.cwd().is_relative_to(folder.resolve()):
        raise FileExistsError(
            f"--overwrite deletes the experiment's folder: {folder} contains the current one. Choose another save_path."
        )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pointcept.train", description="Trains what a config describes.")
    parser.add_argument("--config-file", required=True, metavar="FILE", help="a path, or a name under configs/")
    parser.add_argument("--num-gpus", type=int, metavar="N", help="processes per machine (default: CUDA devices, or 1)")
    parser.add_argument("--num-machines", type=int, default=1, metavar="N")
    parser.add_argument("--machine-rank", type=int, default=0, metavar="R")
    parser.add_argument("--dist-url", default="auto", metavar="URL", help="tcp://host:port of machine 0")
    parser.add_argument("--overwrite", action="store_true", help="delete an earlier run in the same folder")
    parser.add_argument("--options", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="overrides")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
