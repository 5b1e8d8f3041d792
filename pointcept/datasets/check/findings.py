"""What is wrong, or looks wrong, with a data set, and what to do about it."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from pointcept.datasets.check.measure import CloudFacts, SplitFacts, voxel_size_for

LARGE_SPACING_M = 2.0
"""Points of rooms and streets lie closer than this; in millimetres they do not."""

_SHOWN = 3


class Finding(NamedTuple):
    """One thing that is wrong.

    Attributes:
        level: An ``error`` stops or spoils training; a ``warning`` may be meant so.
        split: Where.
        text: What was found, and what to do.
    """

    level: Literal["error", "warning"]
    split: str
    text: str


def find_problems(splits: Sequence[SplitFacts], num_classes: int | None = None) -> list[Finding]:
    """Everything that looks wrong, errors first.

    Args:
        splits: What was measured.
        num_classes: Classes of the model, where it has any.
    """
    found = [finding for split in splits for finding in _of_split(split, num_classes)]
    found += _between(splits)
    return sorted(found, key=lambda finding: finding.level)


def _of_split(split: SplitFacts, num_classes: int | None) -> Iterator[Finding]:
    if split.error is not None:
        yield Finding("error", split.name, split.error)
        return
    for cloud in split.clouds:
        if cloud.error is not None:
            yield Finding("error", split.name, f"Cloud {cloud.name} cannot be read. {cloud.error}")
    if split.class_names is not None and num_classes not in (None, len(split.class_names)):
        yield Finding(
            "error",
            split.name,
            f"The data set has {len(split.class_names)} classes and the model has {num_classes}. Correct num_classes, "
            "or class_names.",
        )
    if split.readable:
        for check in (_labels, _scale, _density, _colors, _normals, _features):
            for level, text in check(split):
                yield Finding(level, split.name, text)
        count = len(split.class_names) if split.class_names is not None else num_classes
        yield from (Finding("error", split.name, text) for text in _out_of_range(split, count))


def _out_of_range(split: SplitFacts, num_classes: int | None) -> Iterator[str]:
    last = np.inf if num_classes is None else num_classes - 1
    wrong = {label: count for label, count in sorted(split.labels.items()) if not -1 <= label <= last}
    if wrong:
        clouds = [c.name for c in split.readable if any(label in wrong for label in c.labels)]
        listed = ", ".join(f"{label} ({count} points)" for label, count in list(wrong.items())[:8])
        more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        yield (
            f"Labels must lie in -1..{'' if num_classes is None else num_classes - 1}: {sum(wrong.values())} of "
            f"{sum(split.labels.values())} points have {listed}{more}, in {_names(clouds)}. Map them with label_map "
            "(-1 = ignore), or correct class_names."
        )


def _labels(split: SplitFacts) -> Iterator[tuple[str, str]]:
    without = [cloud.name for cloud in split.readable if "segment" not in cloud.keys]
    if 0 < len(without) < len(split.readable):
        yield (
            "error",
            f"Some clouds have labels and {_names(without)} have none. Add them, or list the others as split.",
        )
    total = sum(split.labels.values())
    if total and split.labels[-1] > 0.9 * total:
        share = 100 * split.labels[-1] / total
        yield "warning", f"{share:.1f} % of the points have no class (-1). Check the label map."


def _scale(split: SplitFacts) -> Iterator[tuple[str, str]]:
    spacing = split.median("spacing_m")
    if spacing > LARGE_SPACING_M:
        size = max(max(cloud.extent_m) for cloud in split.readable)
        yield (
            "error",
            f"Points are {spacing:.3g} m apart (median) and clouds up to {size:.4g} m large: these look like "
            "millimetres or centimetres. Set metres_per_unit=0.001 (or 0.01), or convert the files.",
        )
    far = [c.name for c in split.readable if c.distance_m > 1e5]
    if far:
        yield (
            "warning",
            f"Coordinates of {_names(far)} are more than 100 km from the origin. They are read as float64; begin the "
            "transforms with CenterShift.",
        )
    suspicious = [cloud.name for cloud in split.readable if looks_y_up(cloud)]
    if len(suspicious) > len(split.readable) / 2:
        yield (
            "warning",
            f"y looks like the axis that points up in {_names(suspicious)}: the clouds are flattest along it, or most "
            "normals are. z must point up: set up='y', or turn the files.",
        )


def looks_y_up(cloud: CloudFacts) -> bool:
    """Whether floors and ceilings seem to lie across y: by the normals, or by the extent where there are none."""
    x, y, z = cloud.extent_m
    if cloud.upright is not None and max(cloud.upright) > 0.05:
        along_x, along_y, along_z = cloud.upright
        return along_y > 1.5 * along_z and along_y > 1.5 * along_x
    return 0 < y < 0.6 * min(x, z)


def _density(split: SplitFacts) -> Iterator[tuple[str, str]]:
    spacing = split.median("spacing_m")
    if spacing == 0:
        yield "warning", "Most points have another at the same place. Remove duplicates, or check the columns."
    elif split.grid_size is not None and not LARGE_SPACING_M < spacing:
        suggested = voxel_size_for(spacing)
        if split.grid_size > 10 * spacing:
            share = 100 * split.median("num_voxels") / split.median("num_points")
            yield (
                "warning",
                f"grid_size={split.grid_size:g} keeps {share:.1f} % of the points, which are {spacing:.3g} m apart. "
                f"{suggested:g} would keep their detail.",
            )
        elif split.grid_size < spacing / 3:
            yield (
                "warning",
                f"grid_size={split.grid_size:g} is far finer than the points, which are {spacing:.3g} m apart: voxels "
                f"will rarely touch, so sparse convolutions see no neighbours. Try {suggested:g}.",
            )


def _colors(split: SplitFacts) -> Iterator[tuple[str, str]]:
    ranges = [cloud.color for cloud in split.readable if cloud.color is not None]
    if not ranges:
        return
    largest, smallest = max(high for _, high in ranges), min(low for low, _ in ranges)
    if largest == smallest:
        yield "warning", f"All colours are {largest:g}. Check the columns, or leave colour out of the features."
    elif smallest < 0 or largest > 255:
        yield "error", f"Colours must lie in 0..255: got {smallest:g}..{largest:g}. Set color_max, or convert them."
    elif largest <= 1:
        yield "error", f"Colours lie in {smallest:g}..{largest:g}, not in 0..255. Set color_max=1, or convert them."


def _normals(split: SplitFacts) -> Iterator[tuple[str, str]]:
    lengths = [cloud.normal_length for cloud in split.readable if cloud.normal_length is not None]
    if lengths and (max(high for _, high in lengths) > 1.05 or min(low for low, _ in lengths) < 0.95):
        low, high = min(low for low, _ in lengths), max(high for _, high in lengths)
        yield "warning", f"Normals must have length 1: theirs is {low:.3g}..{high:.3g}. Normalise them."


def _features(split: SplitFacts) -> Iterator[tuple[str, str]]:
    for key in split.needed:
        without = [cloud.name for cloud in split.readable if key not in cloud.keys]
        if without:
            yield (
                "error",
                f"The transforms need {key}, which {len(without)} of {len(split.readable)} clouds lack: "
                f"{_names(without)}. Add it, fill it with FillMissing(key={key!r}, value=...), or leave it out of "
                "Collect(feat_keys=...).",
            )


def _between(splits: Sequence[SplitFacts]) -> Iterator[Finding]:
    places = defaultdict(list)
    for split in splits:
        for cloud in split.readable:
            places[cloud.fingerprint].append((split.name, cloud.name))
    pairs = Counter()
    examples = {}
    for same in places.values():
        for (split, name), (other_split, other_name) in itertools.pairwise(same):
            pairs[split, other_split] += 1
            examples.setdefault((split, other_split), f"{name} and {other_name}")
    for (split, other), count in pairs.items():
        if split == other:
            text = f"{count} clouds are there twice, such as {examples[split, other]}. Remove the copies."
            yield Finding("warning", split, text)
        elif {split, other} != {"val", "test"}:  # many benchmarks test on the validation split
            yield Finding(
                "error",
                f"{split}, {other}",
                f"{count} clouds are in both splits, such as {examples[split, other]}: scores would be those of known "
                "clouds. Remove them from one.",
            )
    by_name = {split.name: split for split in splits if split.labels}
    if {"train", "val"} <= by_name.keys():
        unseen = {label for label in by_name["val"].labels if label >= 0} - set(by_name["train"].labels)
        if unseen:
            names = by_name["val"].class_names or ()
            listed = ", ".join(names[label] if label < len(names) else str(label) for label in sorted(unseen)[:8])
            yield Finding("warning", "train, val", f"Classes that train does not have are in val: {listed}.")


def _names(clouds: Sequence[str]) -> str:
    shown = ", ".join(clouds[:_SHOWN])
    return shown if len(clouds) <= _SHOWN else f"{shown} and {len(clouds) - _SHOWN} more"
