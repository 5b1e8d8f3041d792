"""The command ``python -m pointcept.language``: class names in, a table of their embeddings out."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from pointcept.datasets.labels import label_set
from pointcept.language.clip import ClipTextEncoder
from pointcept.language.prompts import INDOOR_TEMPLATES, class_embeddings
from pointcept.rendering.class_tables import ClassTable, write_class_table

ONE_HOT = "one-hot"


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the table that the command line describes.

    Args:
        arguments: the command line without the program; None takes it from ``sys.argv``.
    """
    options = _parse(arguments)
    try:
        table = make_table(options.classes, options.encoder, options.templates)
        write_class_table(options.output, table)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")
    shape = " x ".join(map(str, table.embeddings.shape))
    sys.stdout.write(f"Wrote {shape} embeddings ({table.encoder}) to {options.output}.\n")


def make_table(classes: str, encoder: str, templates: str | None = None) -> ClassTable:
    """The table of a label set.

    Args:
        classes: Name of a known label set, or a text file with one class name per line.
        encoder: ``"one-hot"``, or the folder of a CLIP model.
        templates: A text file with one prompt per line, ``{}`` for the name; None uses ``INDOOR_TEMPLATES``.

    Raises:
        FileNotFoundError: a file or the model is missing.
        ValueError: there is no such label set, or a file has no lines.
        ImportError: the encoder needs a package that is not installed.
    """
    names = _lines(Path(classes)) if Path(classes).is_file() else label_set(classes)
    if encoder == ONE_HOT:
        return ClassTable(torch.eye(len(names)), names, None, ONE_HOT)
    prompts = INDOOR_TEMPLATES if templates is None else _lines(Path(templates))
    encode = ClipTextEncoder(encoder)
    return ClassTable(class_embeddings(encode, names, prompts), names, prompts, encode.name)


def _lines(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} must be a text file with one entry per line: it does not exist.")
    lines = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    if not lines:
        raise ValueError(f"{path} must have one entry per line: it has none. Write some.")
    return lines


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pointcept.language",
        description="Writes a table of class embeddings (.safetensors) for losses that compare rendered features with "
        "classes. Nothing is downloaded.",
    )
    parser.add_argument(
        "--classes", required=True, metavar="NAME", help="a label set (scannet20, ...), or a file of names, one a line"
    )
    parser.add_argument(
        "--encoder", required=True, metavar="FOLDER", help=f"folder of a CLIP model, or {ONE_HOT} for no language"
    )
    parser.add_argument("--templates", metavar="FILE", help="prompts with {} for the name, one a line")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="the .safetensors file to write")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
