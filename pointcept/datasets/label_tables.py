"""Class names of S3DIS, Structured3D, nuScenes lidarseg and SemanticKITTI, and their raw labels as classes."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int, Int64

S3DIS_NAMES: tuple[str, ...] = (
    "ceiling", "floor", "wall", "beam", "column", "window", "door", "table", "chair", "sofa", "bookcase", "board",
    "clutter",
)  # fmt: skip

S3DIS_AREAS: tuple[str, ...] = tuple(f"Area_{number}" for number in range(1, 7))

STRUCTURED3D_NAMES: tuple[str, ...] = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "picture", "desk", "shelves",
    "curtain", "dresser", "pillow", "mirror", "ceiling", "refrigerator", "television", "nightstand", "sink", "lamp",
    "otherstructure", "otherfurniture", "otherprop",
)  # fmt: skip

NUSCENES_NAMES: tuple[str, ...] = (
    "barrier", "bicycle", "bus", "car", "construction_vehicle", "motorcycle", "pedestrian", "traffic_cone", "trailer",
    "truck", "driveable_surface", "other_flat", "sidewalk", "terrain", "manmade", "vegetation",
)  # fmt: skip
"""The 16 classes of the lidarseg challenge."""

NUSCENES_LEARNING_MAP: dict[int, int] = {
    **dict.fromkeys(range(32), -1),
    2: 6, 3: 6, 4: 6, 6: 6, 9: 0, 12: 7, 14: 1, 15: 2, 16: 2, 17: 3, 18: 4, 21: 5, 22: 8, 23: 9, 24: 10, 25: 11,
    26: 12, 27: 13, 28: 14, 30: 15,
}  # fmt: skip
"""Class of each of the 32 raw lidarseg labels; noise, animals, emergency vehicles and the like give -1."""

SEMANTIC_KITTI_NAMES: tuple[str, ...] = (
    "car", "bicycle", "motorcycle", "truck", "other-vehicle", "person", "bicyclist", "motorcyclist", "road", "parking",
    "sidewalk", "other-ground", "building", "fence", "vegetation", "trunk", "terrain", "pole", "traffic-sign",
)  # fmt: skip

SEMANTIC_KITTI_LEARNING_MAP: dict[int, int] = {
    0: -1, 1: -1, 10: 0, 11: 1, 13: 4, 15: 2, 16: 4, 18: 3, 20: 4, 30: 5, 31: 6, 32: 7, 40: 8, 44: 9, 48: 10, 49: 11,
    50: 12, 51: 13, 52: -1, 60: 8, 70: 14, 71: 15, 72: 16, 80: 17, 81: 18, 99: -1, 252: 0, 253: 6, 254: 5, 255: 7,
    256: 4, 257: 4, 258: 3, 259: 4,
}  # fmt: skip
"""Class of each raw label (``learning_map`` of the SemanticKITTI API): moving objects join the standing ones."""

SEMANTIC_KITTI_SEQUENCES: dict[str, tuple[str, ...]] = {
    "train": ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10"),
    "val": ("08",),
    "test": tuple(str(number) for number in range(11, 22)),
}


def mapped_labels(raw: Int[np.ndarray, "N"], table: Mapping[int, int], source: object) -> Int64[np.ndarray, "N"]:
    """The class of each raw label.

    Args:
        raw: As on disk.
        table: Class of every raw label that may occur; -1 = ignore.
        source: What the labels were read from, for the message.

    Raises:
        ValueError: labels that the table does not have; they are counted.
    """
    values, index = np.unique(raw, return_inverse=True)
    unknown = [int(value) for value in values if int(value) not in table]
    if unknown:
        raise ValueError(
            f"Raw labels of {source} must be in the label map, {min(table)}..{max(table)}: {described(raw, unknown)} "
            "are not. Map them to a class or to -1, or correct the file."
        )
    classes = np.array([table[int(value)] for value in values], dtype=np.int64)
    return classes[index.reshape(-1)]


def require_labels(segment: Int[np.ndarray, "N"], names: tuple[str, ...] | None, source: object) -> None:
    """Checks that labels are classes or -1.

    Args:
        segment: Labels of a cloud.
        names: The classes; None knows no largest label.
        source: What the labels were read from, for the message.

    Raises:
        ValueError: some are not; they are counted, never clipped.
    """
    last = np.iinfo(np.int64).max if names is None else len(names) - 1
    if len(segment) == 0 or (segment.min() >= -1 and segment.max() <= last):
        return
    wrong = np.unique(segment[(segment < -1) | (segment > last)]).tolist()
    wanted = "at least -1" if names is None else f"-1..{last} ({names[0]} .. {names[-1]})"
    raise ValueError(
        f"Labels of {source} must be {wanted}: {described(segment, wrong)} are not. Map other labels to a class or to "
        "-1 (ignore), or correct the list of classes."
    )


def described(labels: Int[np.ndarray, "N"], wrong: list[int]) -> str:
    """How many points have one of the wrong labels, and which: "5 of 100 points (3 x 255, 2 x 40)"."""
    counts = [int((labels == value).sum()) for value in wrong]
    shown = ", ".join(f"{count} x {value}" for count, value in list(zip(counts, wrong))[:8])
    more = f", and {len(wrong) - 8} other labels" if len(wrong) > 8 else ""
    return f"{sum(counts)} of {len(labels)} points ({shown}{more})"
