"""The command ``python -m pointcept.predict``: a cloud and a segmentor in, a labelled cloud and a picture out."""

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pointcept.config import load_config, validate_config

if TYPE_CHECKING:
    from pointcept.structures import PointSample
    from pointcept.visualization.labelled_cloud import LabelledCloud

_logger = logging.getLogger("pointcept")


def predict(
    cloud: "str | Path | PointSample",
    *,
    config: str | Path | Mapping[str, Any],
    weight: str | Path,
    columns: Sequence[str] | None = None,
    missing_color: str | None = None,
    missing_normal: str | None = None,
    condition: str | None = None,
    all_probabilities: str | Path | None = None,
) -> "LabelledCloud":
    """The classes of all points of one cloud; :class:`pointcept.engines.predictor.Predictor` serves several.

    Args:
        cloud: A file, as :func:`pointcept.datasets.cloud_files.read_cloud_file` reads it, or the points themselves.
        config: Of the run: a path, a name under ``configs/`` or the config itself.
        weight: Checkpoint, a path or Hub id.
        columns: Names of the file's columns, where it does not say them.
        missing_color: ``"gray"`` or ``"black"`` for a cloud without colour; None refuses it where it is needed.
        missing_normal: ``"estimate"`` or ``"zero"`` for a cloud without normals; likewise.
        condition: Name of the data set whose norms and head are used; None takes that of ``data.test``.
        all_probabilities: ``.npy`` file for the probabilities of all classes; None writes none.

    Raises:
        FileNotFoundError: the cloud, the config or the checkpoint is missing.
        ValueError: the cloud is unreadable or lacks what the model needs, or config and checkpoint do not fit.
    """
    from pointcept.datasets.cloud_files import read_cloud_file
    from pointcept.engines.predictor import Predictor

    settings = validate_config(config if isinstance(config, Mapping) else load_config(config))
    sample = read_cloud_file(cloud, columns) if isinstance(cloud, str | Path) else cloud
    predictor = Predictor(
        settings, weight, missing_color=missing_color, missing_normal=missing_normal, condition=condition
    )
    return predictor(sample, all_probabilities)


def main(arguments: Sequence[str] | None = None) -> None:
    """Predicts what the command line describes.

    Args:
        arguments: the command line without the program; None takes it from ``sys.argv``.
    """
    options = _parse(arguments)
    try:
        _run(options)
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")


def _run(options: argparse.Namespace) -> None:
    from PIL import Image

    from pointcept.datasets.cloud_files import read_cloud_file
    from pointcept.utils.logging import configure_logging
    from pointcept.visualization.labelled_cloud import require_suffix

    configure_logging()
    output = options.output or options.cloud.with_name(f"{options.cloud.stem}_labelled.ply")
    require_suffix(output)
    sample = read_cloud_file(options.cloud, options.columns)
    labelled = predict(
        sample,
        config=load_config(options.config, options.options),
        weight=options.weight,
        missing_color=options.missing_color,
        missing_normal=options.missing_normal,
        condition=options.condition,
        all_probabilities=options.probabilities,
    )
    labelled.write(output)
    Image.fromarray(labelled.picture()).save(output.with_suffix(".png"))
    _logger.info("Labelled cloud: %s; picture: %s", output, output.with_suffix(".png"))
    if "segment" in sample.point:
        _score(sample, labelled)


def _score(sample: "PointSample", labelled: "LabelledCloud") -> None:
    """Logs how the classes agree with the labels in the file, where these are of the same classes."""
    import torch

    from pointcept.engines.hooks.information import format_figures
    from pointcept.evaluation.segmentation import SemanticSegmentationEvaluator

    evaluator = SemanticSegmentationEvaluator(len(labelled.class_names), labelled.class_names)
    try:
        evaluator.add(torch.from_numpy(labelled.label), torch.from_numpy(sample.point["segment"]))
        _logger.info("Against the file's labels: %s\n%s", format_figures(evaluator.compute()), evaluator.table())
    except ValueError as error:
        _logger.warning("The file's labels are not compared with: %s", error)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pointcept.predict", description="Gives every point of a cloud its class."
    )
    parser.add_argument("cloud", type=Path, metavar="CLOUD", help=".ply, .npy, .npz, text or a scene's folder")
    parser.add_argument("--config", required=True, metavar="FILE", help="of the run: a path, or a name under configs/")
    parser.add_argument("--weight", required=True, metavar="FILE", help="checkpoint: a path or a Hugging Face Hub id")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help=".ply or .npz, and a .png beside it (CLOUD_labelled.ply)"
    )
    parser.add_argument("--probabilities", type=Path, metavar="FILE", help=".npy for those of all classes, float16")
    parser.add_argument(
        "--columns", type=lambda text: text.split(","), metavar="NAMES", help="of a matrix, such as x,y,z,nx,ny,nz,_"
    )
    parser.add_argument("--missing-color", choices=("gray", "black"), help="for a cloud without colours")
    parser.add_argument("--missing-normal", choices=("estimate", "zero"), help="for a cloud without normals")
    parser.add_argument("--condition", metavar="NAME", help="data set whose norms and head are used")
    parser.add_argument("--options", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="overrides")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
