"""One list of classes for several indoor data sets, and where the classes of each data set stand in it."""

import numpy as np
from jaxtyping import Int

INDOOR36_NAMES: tuple[str, ...] = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "bookcase", "picture",
    "counter", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "ceiling", "refrigerator", "television",
    "shower curtain", "nightstand", "toilet", "sink", "lamp", "bathtub", "garbagebin", "board", "beam", "column",
    "clutter", "other structure", "other furniture", "other property",
)  # fmt: skip
"""Classes of ScanNet, S3DIS and Structured3D together (PonderV2, arXiv 2310.08586), named for a text encoder."""

INDOOR36_INDICES: dict[str, tuple[int, ...]] = {
    "scannet20": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 20, 22, 24, 25, 27, 34),
    "s3dis": (19, 1, 0, 30, 31, 8, 7, 6, 4, 5, 10, 29, 32),
    "structured3d": (0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 14, 15, 16, 17, 18, 19, 20, 21, 23, 25, 26, 33, 34, 35),
}
"""Index in ``INDOOR36_NAMES`` of each class of a label set, in the order of its labels.

PonderV2's list for S3DIS is sorted although S3DIS's labels are not, which gives 11 of its 13 classes another's name.
"""


def unified_indices(label_set: str) -> Int[np.ndarray, "K"]:
    """Index in ``INDOOR36_NAMES`` of each class of a label set.

    Raises:
        ValueError: the label set has no place in the list.
    """
    if label_set not in INDOOR36_INDICES:
        raise ValueError(f"source must be one of {', '.join(INDOOR36_INDICES)}: got {label_set!r}. Correct it.")
    return np.array(INDOOR36_INDICES[label_set], dtype=np.int64)
