"""Cross-validation: one set of figures for the results of several folds, such as the six areas of S3DIS.

The command ``python -m pointcept.evaluation.folds RESULT ...`` prints it.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from pointcept.evaluation.segmentation import SemanticSegmentationEvaluator
from pointcept.utils.files import write_text


def write_counts(evaluator: SemanticSegmentationEvaluator, path: Path) -> None:
    """Writes an evaluator's confusion matrix, rows true and columns predicted, with the names of the classes."""
    content = {"class_names": list(evaluator.class_names), "confusion": evaluator.total.tolist()}
    write_text(path, json.dumps(content) + "\n")


def joined(paths: Sequence[Path]) -> SemanticSegmentationEvaluator:
    """An evaluator that has seen the points of all folds.

    Args:
        paths: Files of :func:`write_counts`, or folders of results that hold ``confusion.json``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is none of these, or the folds have different classes.
    """
    evaluator: SemanticSegmentationEvaluator | None = None
    for path in paths:
        file = path / "confusion.json" if path.is_dir() else path
        if not file.is_file():
            raise FileNotFoundError(
                f"A fold must have counts: {file} does not exist. Evaluate it first, and name its folder below result/."
            )
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            names, confusion = tuple(content["class_names"]), torch.tensor(content["confusion"], dtype=torch.int64)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file} must be the counts of a fold: {error}. Evaluate the fold again.") from error
        if evaluator is None:
            evaluator = SemanticSegmentationEvaluator(len(names), names)
        if names != evaluator.class_names or confusion.shape != (len(names), len(names)):
            raise ValueError(
                f"All folds must have the same classes: {file} has {len(names)} others than {paths[0]}. Join folds of "
                "one data set."
            )
        evaluator.add_confusion(confusion)
    if evaluator is None:
        raise ValueError("There must be a fold to join: got none. Name the folders of the results.")
    return evaluator


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the figures of all folds together.

    Returns:
        1 where the folds cannot be joined, else 0.
    """
    parser = argparse.ArgumentParser(prog="python -m pointcept.evaluation.folds", description=__doc__.splitlines()[0])
    parser.add_argument(
        "results", nargs="+", type=Path, metavar="RESULT", help="folder of a result, with confusion.json"
    )
    options = parser.parse_args(arguments)
    try:
        evaluator = joined(options.results)
        figures = evaluator.compute()
    except (ValueError, FileNotFoundError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    values = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
    sys.stdout.write(f"{len(options.results)} folds: {values}\n{evaluator.table()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
