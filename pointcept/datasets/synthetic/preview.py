"""A contact sheet of synthetic rooms: colour, depth and labels of some frames, as they lie on disk."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from pointcept.datasets.labels import scannet20_colors, scannet20_from_nyu40

_FRAMES_PER_ROOM = 6
_MAX_ROOMS = 5
_DEPTH_RANGE_M = 6.0
_DEPTH_COLORS = np.array([(48, 18, 59), (65, 125, 245), (26, 228, 182), (210, 233, 53), (250, 125, 32), (122, 4, 3)])


def write_preview(root: Path, scenes: list[str]) -> Path:
    """Write ``preview.png``: a band of colour, depth and label rows per room, for some frames of some rooms.

    Args:
        root: Root of the data set.
        scenes: Names of the rooms; more than five are thinned evenly.

    Returns:
        The picture's path.
    """
    chosen = [scenes[i] for i in np.unique(np.linspace(0, len(scenes) - 1, _MAX_ROOMS).astype(int))]
    path = root / "preview.png"
    Image.fromarray(np.concatenate([_band(root / "rgbd" / scene) for scene in chosen])).save(path)
    return path


def _band(folder: Path) -> UInt8[np.ndarray, "H W 3"]:
    count = len(list((folder / "color").iterdir()))
    columns = []
    for frame in np.linspace(0, count - 1, _FRAMES_PER_ROOM).astype(int):
        color, depth, label = (
            np.asarray(Image.open(folder / name))
            for name in (f"color/{frame}.jpg", f"depth/{frame}.png", f"label/{frame}.png")
        )
        classes = scannet20_colors(scannet20_from_nyu40(label))
        columns.append(np.concatenate([color, depth_colors(depth / 1000.0), classes]))
    return np.concatenate(columns, axis=1)


def depth_colors(depth: Float[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Depth from blue (near) to red (6 m); missing depth is black."""
    at = np.clip(depth / _DEPTH_RANGE_M, 0.0, 1.0) * (len(_DEPTH_COLORS) - 1)
    steps = np.arange(len(_DEPTH_COLORS))
    color = np.stack([np.interp(at, steps, _DEPTH_COLORS[:, k]) for k in range(3)], axis=-1)
    return np.where((depth > 0)[..., None], color, 0).astype(np.uint8)
