"""The command ``python -m pointcept.test``: a config and a checkpoint in, scores and predictions of every point out."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from pointcept.config import load_config, validate_config


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluates what the command line describes, after checking the config completely.

    Args:
        arguments: the command line without the program; None takes it from ``sys.argv``.
    """
    options = _parse(arguments)
    try:
        config = load_config(options.config_file, options.options)
        validate_config(config)

        from pointcept.engines.launch import default_num_processes, launch  # after the checks, which need not wait

        launch(
            test,
            (config.to_plain(),),
            num_processes=options.num_gpus or default_num_processes(),
            num_machines=options.num_machines,
            machine_rank=options.machine_rank,
            dist_url=options.dist_url,
        )
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")


def test(config: dict[str, Any]) -> None:
    """Evaluates in this process, which may be one of several.

    Args:
        config: a whole checked config.
    """
    from pointcept.engines.tester import evaluate

    evaluate(config)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pointcept.test", description="Evaluates a trained model.")
    parser.add_argument("--config-file", required=True, metavar="FILE", help="a path, or a name under configs/")
    parser.add_argument("--num-gpus", type=int, metavar="N", help="processes per machine (default: CUDA devices, or 1)")
    parser.add_argument("--num-machines", type=int, default=1, metavar="N")
    parser.add_argument("--machine-rank", type=int, default=0, metavar="R")
    parser.add_argument("--dist-url", default="auto", metavar="URL", help="tcp://host:port of machine 0")
    parser.add_argument("--options", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="overrides")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
