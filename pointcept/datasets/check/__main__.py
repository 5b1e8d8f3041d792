"""The command ``python -m pointcept.datasets.check CONFIG``: what a config's data looks like, and what is wrong."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pointcept.config import load_config
from pointcept.datasets.check.findings import Finding, find_problems
from pointcept.datasets.check.measure import SplitFacts, measure_split
from pointcept.datasets.check.report import report, write_picture
from pointcept.datasets.protocol import CloudDataset
from pointcept.registry import DATASETS, build, import_plugins
from pointcept.utils.files import write_text


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the report.

    Returns:
        1 where there is an error in the data or in the command, else 0.
    """
    options = _parser().parse_args(arguments)
    try:
        config = load_config(options.config, options.options).to_plain()
        import_plugins(config.get("imports", []))
        names = options.splits or [name for name, value in config.get("data", {}).items() if value is not None]
        absent = [name for name in names if config.get("data", {}).get(name) is None]
        if absent or not names:
            raise ValueError(
                f"The config's data must have the splits to check: {', '.join(absent) or 'any'} is not in "
                f"{sorted(config.get('data', {}))}. Correct --splits, or the config."
            )
    except (ValueError, TypeError, FileNotFoundError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    splits = []
    for name in names:
        splits += check_split(name, config["data"][name], limit=options.limit, pictures=options.pictures)
    findings = find_problems(splits, num_classes=_num_classes(config.get("model")))
    sys.stdout.write(report(splits, findings))
    if options.json:
        write_text(options.json, json.dumps(as_json(splits, findings), indent=2) + "\n")
    return int(any(finding.level == "error" for finding in findings))


def check_split(name: str, config: Mapping[str, Any], *, limit: int | None, pictures: Path | None) -> list[SplitFacts]:
    """Builds the data set of a split and measures its clouds; several where the data set joins several."""
    try:
        dataset = build(config, f"data.{name}", DATASETS)
    except (ValueError, TypeError, FileNotFoundError) as error:
        return [SplitFacts(name, error=str(error))]
    facts = []
    for label, part in _parts(name, dataset):
        if not isinstance(part, CloudDataset):
            facts.append(SplitFacts(label, error=f"{type(part).__name__} cannot be checked: it is no CloudDataset."))
            continue
        scenes = part.scenes if limit is None or limit >= len(part.scenes) else _spread(part.scenes, limit)
        measured = measure_split(label, part, tqdm(scenes, desc=label, unit="cloud", leave=False))
        if pictures is not None and measured.readable:
            first = next(scene for scene, cloud in zip(scenes, measured.clouds) if cloud.error is None)
            write_picture(part, first, pictures / f"{label}-{part.name_of(first)}.png")
        facts.append(measured)
    return facts


def as_json(splits: Sequence[SplitFacts], findings: Sequence[Finding]) -> dict[str, Any]:
    """Everything that was measured and found, as plain data."""
    return {
        "splits": [{**vars(split), "clouds": [vars(cloud) for cloud in split.clouds]} for split in splits],
        "findings": [finding._asdict() for finding in findings],
    }


def _parts(name: str, dataset: Any) -> Iterator[tuple[str, Any]]:
    parts = getattr(dataset, "datasets", None)
    if parts is None:
        yield name, dataset
    else:
        for index, part in enumerate(parts):
            yield from _parts(f"{name}[{index}]", part)


def _spread(scenes: Sequence[Path], count: int) -> list[Path]:
    return [scenes[index] for index in np.linspace(0, len(scenes) - 1, count).round().astype(int)]


def _num_classes(model: Any) -> int | None:
    """The number of classes that a model's config says, or its backbone's."""
    if not isinstance(model, Mapping):
        return None
    return model.get("num_classes") or _num_classes(model.get("backbone"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pointcept.datasets.check",
        description="Reads the clouds of a config without transforms, and says what they are like and what is wrong.",
    )
    parser.add_argument("config", help="a path, or a name under configs/")
    parser.add_argument("--splits", nargs="+", metavar="NAME", help="of the config's data (default: all)")
    parser.add_argument("--limit", type=_positive, metavar="N", help="read at most N clouds of a split, evenly spread")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="write a picture of one cloud of each split")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write everything that was measured to this file"
    )
    parser.add_argument("--options", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of the config")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1: got {value}")
    return value


if __name__ == "__main__":
    sys.exit(main())
