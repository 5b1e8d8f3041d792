"""Class names, ids and colours of the label sets, by name; the long tables are in modules of their own."""

import numpy as np
from jaxtyping import Int, UInt8

from pointcept.datasets.label_tables import NUSCENES_NAMES, S3DIS_NAMES, SEMANTIC_KITTI_NAMES, STRUCTURED3D_NAMES
from pointcept.datasets.scannet200_labels import SCANNET200_NAMES
from pointcept.datasets.unified_labels import INDOOR36_NAMES

SCANNET20_NAMES: tuple[str, ...] = (
    "wall",
    "floor",
    "cabinet",
    "bed",
    "chair",
    "sofa",
    "table",
    "door",
    "window",
    "bookshelf",
    "picture",
    "counter",
    "desk",
    "curtain",
    "refrigerator",
    "shower curtain",
    "toilet",
    "sink",
    "bathtub",
    "otherfurniture",
)

SCANNET20_NYU40_IDS: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39)

SCANNET20_PALETTE: tuple[tuple[int, int, int], ...] = (
    (174, 199, 232),
    (152, 223, 138),
    (31, 119, 180),
    (255, 187, 120),
    (188, 189, 34),
    (140, 86, 75),
    (255, 152, 150),
    (214, 39, 40),
    (197, 176, 213),
    (148, 103, 189),
    (196, 156, 148),
    (23, 190, 207),
    (247, 182, 210),
    (219, 219, 141),
    (255, 127, 14),
    (158, 218, 229),
    (44, 160, 44),
    (112, 128, 144),
    (227, 119, 194),
    (82, 84, 163),
)
"""RGB of each class, as the ScanNet benchmark draws it."""

IGNORED_COLOR: tuple[int, int, int] = (0, 0, 0)
"""RGB of points and pixels without a class."""

NYU40_NAMES: tuple[str, ...] = (
    "unlabelled",
    "wall",
    "floor",
    "cabinet",
    "bed",
    "chair",
    "sofa",
    "table",
    "door",
    "window",
    "bookshelf",
    "picture",
    "counter",
    "blinds",
    "desk",
    "shelves",
    "curtain",
    "dresser",
    "pillow",
    "mirror",
    "floor mat",
    "clothes",
    "ceiling",
    "books",
    "refrigerator",
    "television",
    "paper",
    "towel",
    "shower curtain",
    "box",
    "whiteboard",
    "person",
    "night stand",
    "toilet",
    "sink",
    "lamp",
    "bathtub",
    "bag",
    "otherstructure",
    "otherfurniture",
    "otherprop",
)
"""Name of each NYU40 id, 0..40."""

_SCANNET20_FROM_NYU40 = np.full(256, -1, dtype=np.int64)
_SCANNET20_FROM_NYU40[list(SCANNET20_NYU40_IDS)] = np.arange(len(SCANNET20_NYU40_IDS))

SEMANTIC_KITTI_IDS: tuple[int, ...] = (10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81)
"""Raw id that stands for each of SemanticKITTI's 19 classes in a submission (``learning_map_inv`` of its API)."""

_LABEL_SETS = {
    "scannet20": SCANNET20_NAMES,
    "scannet200": SCANNET200_NAMES,
    "s3dis": S3DIS_NAMES,
    "structured3d": STRUCTURED3D_NAMES,
    "indoor36": INDOOR36_NAMES,
    "nuscenes": NUSCENES_NAMES,
    "semantic_kitti": SEMANTIC_KITTI_NAMES,
}
_FILES_OF_LABEL_SETS = {"segment20": "scannet20"}


def label_set(name: str) -> tuple[str, ...]:
    """Class names of a known label set.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in _LABEL_SETS:
        raise ValueError(f"class_names must be a list or one of {', '.join(_LABEL_SETS)}: got {name!r}. Correct it.")
    return _LABEL_SETS[name]


def label_names(dataset: object) -> tuple[str, ...] | None:
    """Names of the classes of a data set's labels as a model sees them, after the transforms; None if unknown.

    They are what the last transform that renames classes says, or the data set's own ``class_names``, or those of the
    file that its labels are read from (``segment_key``).
    """
    names = getattr(dataset, "class_names", None)
    known = _FILES_OF_LABEL_SETS.get(getattr(dataset, "segment_key", None))
    if names is None and known is not None:
        names = label_set(known)
    for transform in getattr(dataset, "transform", ()):
        names = getattr(transform, "class_names", names)
    return None if names is None else tuple(names)


def scannet20_from_nyu40(label: UInt8[np.ndarray, "*shape"]) -> Int[np.ndarray, "*shape"]:
    """Class 0..19 of each NYU40 id; every id outside the 20 benchmark classes, 0 too, gives -1.

    Source: class ids of the ScanNet benchmark.
    """
    return _SCANNET20_FROM_NYU40[label]


def scannet20_colors(segment: Int[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape 3"]:
    """RGB of each class 0..19; -1 is drawn black.

    Raises:
        ValueError: a class lies outside -1..19.
    """
    count = len(SCANNET20_NAMES)
    if segment.size and (segment.min() < -1 or segment.max() >= count):
        raise ValueError(
            f"ScanNet-20 classes must lie in -1..{count - 1}: got {segment.min()}..{segment.max()}. "
            "Map NYU40 ids with scannet20_from_nyu40 first."
        )
    palette = np.array([*SCANNET20_PALETTE, IGNORED_COLOR], dtype=np.uint8)
    return palette[segment]
