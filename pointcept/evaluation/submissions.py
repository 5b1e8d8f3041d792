"""Files that the benchmarks' servers take: one per scene, and what goes with them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Int

from pointcept.datasets.label_tables import NUSCENES_NAMES
from pointcept.datasets.labels import SCANNET20_NYU40_IDS, SEMANTIC_KITTI_IDS
from pointcept.datasets.scannet200_labels import SCANNET200_IDS
from pointcept.utils.files import atomic_write, write_text

Classes = Int[np.ndarray, "N"]


def finish_submission(benchmark: str, folder: Path) -> None:
    """Writes what a benchmark wants beside the scenes: for nuScenes ``test/submission.json``."""
    if benchmark == "nuscenes":
        meta = {"use_camera": False, "use_lidar": True, "use_radar": False, "use_map": False, "use_external": False}
        (folder / "test").mkdir(parents=True, exist_ok=True)
        write_text(folder / "test" / "submission.json", json.dumps({"meta": meta}, indent=2) + "\n")


def write_scannet(folder: Path, scene: str, classes: Classes) -> Path:
    """``<scene>.txt`` with the NYU40 id of each point's class, one per line (ScanNet's 20 classes)."""
    return _write_ids(folder / f"{scene}.txt", _mapped(classes, SCANNET20_NYU40_IDS, scene))


def write_scannet200(folder: Path, scene: str, classes: Classes) -> Path:
    """``<scene>.txt`` with the raw id of each point's class, one per line (ScanNet's 200 classes)."""
    return _write_ids(folder / f"{scene}.txt", _mapped(classes, SCANNET200_IDS, scene))


def write_nuscenes(folder: Path, scene: str, classes: Classes) -> Path:
    """``lidarseg/test/<token>_lidarseg.bin`` with one uint8 per point, 1..16.

    Args:
        folder: Of the submission.
        scene: Token of the LiDAR sweep.
        classes: 0..15.
    """
    path = folder / "lidarseg" / "test" / f"{scene}_lidarseg.bin"
    return _write_array(path, _mapped(classes, range(1, len(NUSCENES_NAMES) + 1), scene).astype(np.uint8))


def write_semantic_kitti(folder: Path, scene: str, classes: Classes) -> Path:
    """``sequences/<sequence>/predictions/<frame>.label`` with the raw id of each point's class as uint32.

    Args:
        folder: Of the submission.
        scene: ``<sequence>_<frame>``, such as ``08_000012``.
        classes: 0..18.

    Raises:
        ValueError: the scene's name is no sequence and frame.
    """
    sequence, separator, frame = scene.rpartition("_")
    if not separator or not sequence.isdigit() or not frame.isdigit():
        raise ValueError(
            f"Scenes of SemanticKITTI must be named <sequence>_<frame>: got {scene!r}. Use the reader of that data set."
        )
    path = folder / "sequences" / sequence / "predictions" / f"{frame}.label"
    return _write_array(path, _mapped(classes, SEMANTIC_KITTI_IDS, scene).astype(np.uint32))


SUBMISSIONS: dict[str, Callable[[Path, str, np.ndarray], Path]] = {
    "scannet": write_scannet,
    "scannet200": write_scannet200,
    "nuscenes": write_nuscenes,
    "semantic_kitti": write_semantic_kitti,
}
"""Writer of each benchmark: folder, name of the scene and its classes in, path of the file out."""


def _mapped(classes: Classes, ids: tuple[int, ...] | range, scene: str) -> np.ndarray:
    if classes.size and (classes.min() < 0 or classes.max() >= len(ids)):
        raise ValueError(
            f"A submission needs classes 0..{len(ids) - 1}: scene {scene!r} has {classes.min()}..{classes.max()}. "
            "Choose the submission of the data set that the model was trained on."
        )
    return np.asarray(ids, dtype=np.int64)[classes]


def _write_ids(path: Path, ids: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "\n".join(map(str, ids.tolist())) + "\n")
    return path


def _write_array(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return path
