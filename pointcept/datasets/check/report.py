"""The report on a data set: tables for reading, and pictures for looking."""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pointcept.datasets.check.findings import Finding
from pointcept.datasets.check.measure import SplitFacts, voxel_size_for
from pointcept.datasets.preprocessing.preview import BACKGROUND, cloud_view
from pointcept.datasets.protocol import CloudDataset

_BAR = 30
_PICTURE_POINTS = 200_000
_MARGIN_PX = 8
_GREY = (150, 150, 150)


def report(splits: Sequence[SplitFacts], findings: Sequence[Finding]) -> str:
    """The whole text."""
    measured = [split for split in splits if split.readable]
    parts = [_overview(measured)] if measured else []
    parts += [_histogram(split) for split in measured if split.labels]
    parts.append(_verdict(findings))
    return "\n".join(parts)


def _overview(splits: Sequence[SplitFacts]) -> str:
    rows = {
        "clouds": [_clouds(split) for split in splits],
        "points": [f"{sum(cloud.num_points for cloud in split.readable):,}" for split in splits],
        "points of a cloud": [_range([cloud.num_points for cloud in split.readable]) for split in splits],
        "extent x y z (median)": [_extent(split) for split in splits],
        "spacing (median)": [f"{split.median('spacing_m'):.3g} m" for split in splits],
        "suggested voxel size": [f"{voxel_size_for(split.median('spacing_m')):g} m" for split in splits],
        "grid_size in the config": ["-" if split.grid_size is None else f"{split.grid_size:g} m" for split in splits],
        "points after gridding": [_range([cloud.num_voxels for cloud in split.readable]) for split in splits],
        "colour": [_present(split, "color") for split in splits],
        "normals": [_present(split, "normal") for split in splits],
        "strength": [_present(split, "strength") for split in splits],
        "labels": [_present(split, "segment") for split in splits],
    }
    return _table(["", *(split.name for split in splits)], [[name, *cells] for name, cells in rows.items()])


def _clouds(split: SplitFacts) -> str:
    unread = (
        f", {len(split.clouds) - len(split.readable)} unreadable" if len(split.readable) < len(split.clouds) else ""
    )
    of = f" of {split.num_clouds}" if len(split.clouds) < split.num_clouds else ""
    return f"{len(split.clouds)}{of}{unread}"


def _extent(split: SplitFacts) -> str:
    median = np.median([cloud.extent_m for cloud in split.readable], axis=0)
    return " x ".join(f"{side:.3g}" for side in median) + " m"


def _range(values: Sequence[int]) -> str:
    low, middle, high = np.min(values), np.median(values), np.max(values)
    return f"{middle:,.0f}" if low == high else f"{low:,} .. {middle:,.0f} .. {high:,}"


def _present(split: SplitFacts, key: str) -> str:
    count = sum(key in cloud.keys for cloud in split.readable)
    text = "all" if count == len(split.readable) else "none" if count == 0 else f"{count} of {len(split.readable)}"
    if key == "color" and count:
        ranges = [cloud.color for cloud in split.readable if cloud.color is not None]
        text += f", {min(low for low, _ in ranges):g}..{max(high for _, high in ranges):g}"
    return text


def _histogram(split: SplitFacts) -> str:
    names = split.class_names or ()
    total = sum(split.labels.values())
    classes = sorted(set(split.labels) | set(range(len(names))))
    largest = max(split.labels.values())
    rows = []
    for label in classes:
        count = split.labels[label]
        clouds = sum(label in cloud.labels for cloud in split.readable)
        name = "(ignored)" if label == -1 else names[label] if 0 <= label < len(names) else "?"
        bar = "#" * max(round(_BAR * count / largest), count > 0)
        rows.append([str(label), name, f"{count:,}", f"{100 * count / total:.2f} %", str(clouds), bar])
    return _table([split.name, "class", "points", "share", "clouds", ""], rows)


def _verdict(findings: Sequence[Finding]) -> str:
    if not findings:
        return "Nothing looks wrong.\n"
    errors = sum(finding.level == "error" for finding in findings)
    lines = [f"{finding.level.upper():8s}{finding.split}: {finding.text}" for finding in findings]
    return (
        "\n".join([*lines, "", f"{_counted(errors, 'error')}, {_counted(len(findings) - errors, 'warning')}."]) + "\n"
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    is_number = [
        all(cell[:1].isdigit() or cell[:1] in ("-", "") for cell in (row[column] for row in rows)) and column > 0
        for column in range(len(header))
    ]
    text = [
        "  ".join(c.rjust(w) if number else c.ljust(w) for c, w, number in zip(line, widths, is_number)).rstrip()
        for line in lines
    ]
    return "\n".join([text[0], "  ".join("-" * width for width in widths), *text[1:]]) + "\n"


def write_picture(dataset: CloudDataset, scene: Path, path: Path) -> None:
    """One cloud from above (left) and from the side (right): in its colours, and below by class.

    Args:
        dataset: The data set.
        scene: One of its scenes.
        path: Where to write the PNG; folders are made as needed.

    Raises:
        ValueError: the cloud cannot be read.
    """
    coord, point = dataset.load(scene)
    chosen = np.random.default_rng(0).permutation(len(coord))[:_PICTURE_POINTS]
    coord = coord[chosen].astype(np.float64)
    colorings = [np.clip(point["color"][chosen], 0, 255).astype(np.uint8)] if "color" in point else []
    if "segment" in point:
        colorings.append(class_colors(point["segment"][chosen]))
    size_m = float(np.ptp(coord, axis=0).max()) / 250
    rows = []
    for color in colorings or [np.full((len(coord), 3), _GREY[0], dtype=np.uint8)]:
        above = cloud_view(coord[:, 0], coord[:, 1], coord[:, 2], color, [], size_m)
        side = cloud_view(coord[:, 0], coord[:, 2], -coord[:, 1], color, [], size_m)
        rows.append(_trimmed(np.concatenate([above, side], axis=1)))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(path)


def _trimmed(picture: UInt8[np.ndarray, "_H W 3"]) -> UInt8[np.ndarray, "_H2 W 3"]:
    """The picture without the empty rows above and below, but for a margin."""
    drawn = np.flatnonzero((picture != BACKGROUND).any(axis=(1, 2)))
    return picture[max(drawn[0] - _MARGIN_PX, 0) : drawn[-1] + _MARGIN_PX] if len(drawn) else picture


def class_colors(segment: np.ndarray) -> UInt8[np.ndarray, "N 3"]:
    """A colour for each class, hues far from those before; grey for -1."""
    last = max(int(segment.max(initial=0)), 0)
    hues = [colorsys.hsv_to_rgb(label * 0.618 % 1, 0.55 + 0.35 * (label % 2), 0.95) for label in range(last + 1)]
    palette = np.array([*(np.array(hues) * 255).astype(np.uint8), _GREY], dtype=np.uint8)
    return palette[np.where(segment < 0, -1, segment)]
