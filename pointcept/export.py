"""The command ``python -m pointcept.export``: the backbone out of a checkpoint, as one file that builds it again."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pointcept.config import load_config
from pointcept.models.checkpoints import load_checkpoint, model_weights, recorded_config, some_of
from pointcept.models.hub import local_file
from pointcept.models.lora import merge_lora
from pointcept.models.model_file import ModelCard, write_model_file
from pointcept.models.weights import match_weights
from pointcept.registry import MODELS, build, import_plugins, is_component
from pointcept.utils.logging import configure_logging

NO_LICENSE = "not stated; the terms of the training data may apply"
_STARTING_WEIGHTS = ("pretrained", "checkpoint")  # arguments that only say what training started from
_USUAL_PARTS = ("encoder.backbone", "backbone", "student.backbone")


def main(arguments: Sequence[str] | None = None) -> None:
    """Exports what the command line describes.

    Args:
        arguments: the command line without the program; None takes it from ``sys.argv``.
    """
    options = _parse(arguments)
    configure_logging()
    try:
        config = None if options.config_file is None else load_config(options.config_file).to_plain()
        summary = export(options.checkpoint, options.output, part=options.part, config=config, license=options.license)
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(f"{summary}\n")


def export(
    checkpoint: str | Path,
    output: str | Path,
    *,
    part: str | None = None,
    config: Mapping[str, Any] | None = None,
    license: str = NO_LICENSE,
) -> str:
    """Writes one part of a trained model as a file from which ``create_model(pretrained=...)`` builds it.

    The part is built from its config and must take every weight, before anything is written. Low-rank adapters are
    folded into the weights.

    Args:
        checkpoint: a path or Hub id.
        output: the file, named ``*.safetensors``.
        part: path of the part in the model; "" is the whole model, None the backbone where the usual names show one.
        config: of the run; None takes what the checkpoint holds.
        license: terms of use of the weights.

    Returns:
        One line on what was written.

    Raises:
        ValueError: the checkpoint has no such part, there is no config of it, or the two do not fit.
        FileNotFoundError: there is no checkpoint.
    """
    path = local_file(checkpoint)
    content = load_checkpoint(path)
    weights = model_weights(content, path)
    part = _usual_part(weights) if part is None else part.strip(".")
    prefix = f"{part}." if part else ""
    weights = merge_lora({name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)})
    if not weights:
        raise ValueError(
            f"The part must be in the checkpoint: {path} has no weights under {part!r}. It has "
            f"{some_of(sorted({name.rpartition('.')[0] for name in model_weights(content, path)}))}."
        )
    config = recorded_config(content, path) if config is None else config
    if config is None:
        raise ValueError(f"An exported model needs its config: {path} holds none. Give it with --config-file.")
    import_plugins(config.get("imports", ()))
    part_config = {key: value for key, value in _part_config(config, part).items() if key not in _STARTING_WEIGHTS}
    model = build(part_config, f"model.{part}" if part else "model", MODELS)
    match = match_weights(model, weights)
    if not match.is_exact:
        raise ValueError(
            f"The config must be that of the checkpoint: the {part_config['type']} it describes does not fit {path} "
            f"({match.describe()}). Give the run's own config with --config-file."
        )
    arguments = {key: value for key, value in part_config.items() if key != "type"}
    write_model_file(output, weights, ModelCard(part_config["type"], arguments, license))
    num_values = sum(weight.numel() for weight in weights.values())
    return f"Wrote {part_config['type']} ({num_values:,} values, licence: {license}) to {output}."


def _usual_part(weights: Mapping[str, Any]) -> str:
    for part in _USUAL_PARTS:
        if any(name.startswith(f"{part}.") for name in weights):
            return part
    raise ValueError(
        "The part to export must be given where the checkpoint has none of the usual ones "
        f"({', '.join(_USUAL_PARTS)}). Give --part, or --part '' for the whole model."
    )


def _part_config(config: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    found: Any = config.get("model")
    for name in filter(None, part.split(".")):
        found = found.get(name) if isinstance(found, Mapping) else None
    if not is_component(found):
        raise ValueError(
            f"The config must describe the part: it has no dict(type=...) at model{part and '.'}{part}. Give the part "
            "as it is called in the config, or the run's own config with --config-file."
        )
    return found


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pointcept.export", description="Writes the backbone of a checkpoint as one .safetensors file."
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a path or a Hugging Face Hub id")
    parser.add_argument("--output", required=True, metavar="FILE", help="the .safetensors file to write")
    parser.add_argument("--part", metavar="PATH", help="part of the model, such as encoder.backbone (default: found)")
    parser.add_argument("--config-file", metavar="FILE", help="config of the run, for checkpoints without one")
    parser.add_argument("--license", default=NO_LICENSE, metavar="TEXT", help="terms of use of the weights")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
