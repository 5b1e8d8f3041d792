"""The driving benchmarks of LiDAR segmentation in Pointcept's layout: SemanticKITTI and nuScenes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from pointcept.datasets.cloud_arrays import Cloud, checked_cloud
from pointcept.datasets.label_tables import (
    NUSCENES_LEARNING_MAP,
    SEMANTIC_KITTI_LEARNING_MAP,
    SEMANTIC_KITTI_SEQUENCES,
    mapped_labels,
)
from pointcept.datasets.protocol import CloudDataset
from pointcept.datasets.transforms.compose import Transform
from pointcept.registry import DATASETS
from pointcept.utils.plain_pickle import load_pickle


@DATASETS.register()
class SemanticKITTIDataset(CloudDataset):
    """SemanticKITTI: ``<data_root>/dataset/sequences/<sequence>/velodyne/<frame>.bin`` and ``labels/<frame>.label``.

    ``<data_root>/sequences`` is read too. A sweep has ``strength`` and, but for the test sequences, ``segment``: the 19
    classes, where moving objects count as standing ones. It is named ``08_000012``.

    Args:
        split: ``train``, ``val``, ``test``, or sequences such as ``"08"``; or several of these.
        data_root: Folder of the data set.
        transform: Applied in this order.
        condition: Name of the data set, for prompt-driven norms.
        loop: How often an epoch passes over the sweeps.
        labelled_points: As of :class:`CloudDataset`.

    Raises:
        FileNotFoundError: a sequence does not exist.
        ValueError: an unknown split, or a sequence without sweeps.
    """

    def __init__(
        self,
        *,
        split: str | Sequence[str] = "train",
        data_root: str | Path = "data/semantic_kitti",
        transform: Sequence[Transform] = (),
        condition: str = "SemanticKITTI",
        loop: int = 1,
        labelled_points: str | Path | None = None,
    ) -> None:
        self.data_root = Path(data_root).expanduser()
        root = self.data_root / "dataset" if (self.data_root / "dataset").is_dir() else self.data_root
        splits = [split] if isinstance(split, str) else list(split)
        super().__init__(
            [sweep for name in splits for sweep in _kitti_sweeps(root / "sequences", name)],
            transform=transform,
            condition=condition,
            loop=loop,
            class_names="semantic_kitti",
            labelled_points=labelled_points,
        )

    def name_of(self, scene: Path) -> str:
        """Sequence and frame."""
        return f"{scene.parent.parent.name}_{scene.stem}"

    def load(self, scene: Path) -> Cloud:
        """One sweep.

        Raises:
            FileNotFoundError: a sweep of a sequence that is not for testing has no labels.
            ValueError: a file is cut off, or has unknown labels.
        """
        values = _read_floats(scene, 4)
        arrays = {"coord": values[:, :3], "strength": values[:, 3:]}
        labels = scene.parent.parent / "labels" / f"{scene.stem}.label"
        if labels.is_file():
            raw = _read_labels(labels, np.dtype("<u4"), len(values)) & 0xFFFF
            arrays["segment"] = mapped_labels(raw, SEMANTIC_KITTI_LEARNING_MAP, labels)
        elif scene.parent.parent.name not in SEMANTIC_KITTI_SEQUENCES["test"]:
            raise FileNotFoundError(
                f"Every sweep of a sequence that is not for testing must have labels: {labels} does not exist. "
                "Download the labels of SemanticKITTI."
            )
        return checked_cloud(arrays, {"coord": scene, "strength": scene, "segment": labels})


@DATASETS.register()
class NuScenesDataset(CloudDataset):
    """Key frames of nuScenes with lidarseg labels, as listed by Pointcept's info files.

    ``<data_root>/info/nuscenes_infos_<sweeps>sweeps_<split>.pkl`` (or ``.json``) is a list of dicts with
    ``lidar_path``, ``lidar_token`` and, but for the test split, ``gt_segment_path``, relative to ``<data_root>/raw``.
    Nothing in it is executed. A sweep has ``strength`` (0..1) and ``segment``, the 16 classes of the challenge; it is
    named by its token.

    Args:
        split: ``train``, ``val`` or ``test``; or several of these.
        data_root: Folder of the data set.
        sweeps: Number in the name of the info files; only the key frames are read.
        transform: Applied in this order.
        condition: Name of the data set, for prompt-driven norms.
        loop: How often an epoch passes over the sweeps.
        labelled_points: As of :class:`CloudDataset`.

    Raises:
        FileNotFoundError: there is no info file.
        ValueError: an info file is empty, lacks a key, or holds something that is no plain data.
    """

    def __init__(
        self,
        *,
        split: str | Sequence[str] = "train",
        data_root: str | Path = "data/nuscenes",
        sweeps: int = 10,
        transform: Sequence[Transform] = (),
        condition: str = "nuScenes",
        loop: int = 1,
        labelled_points: str | Path | None = None,
    ) -> None:
        self.data_root = Path(data_root).expanduser()
        splits = [split] if isinstance(split, str) else list(split)
        infos = [info for name in splits for info in _read_infos(self.data_root / "info", sweeps, name)]
        raw = self.data_root / "raw"
        self._tokens = {raw / info["lidar_path"]: str(info["lidar_token"]) for info in infos}
        self._labels = {
            raw / info["lidar_path"]: raw / info["gt_segment_path"] for info in infos if info.get("gt_segment_path")
        }
        super().__init__(
            [raw / info["lidar_path"] for info in infos],
            transform=transform,
            condition=condition,
            loop=loop,
            class_names="nuscenes",
            labelled_points=labelled_points,
        )

    def name_of(self, scene: Path) -> str:
        """Token of the sweep."""
        return self._tokens[scene]

    def load(self, scene: Path) -> Cloud:
        """One sweep.

        Raises:
            FileNotFoundError: its file, or that of its labels, does not exist.
            ValueError: a file is cut off, or has unknown labels.
        """
        values = _read_floats(scene, 5)
        arrays = {"coord": values[:, :3], "strength": values[:, 3:4] / 255}
        labels = self._labels.get(scene)
        if labels is not None:
            raw = _read_labels(labels, np.dtype("u1"), len(values))
            arrays["segment"] = mapped_labels(raw, NUSCENES_LEARNING_MAP, labels)
        return checked_cloud(arrays, {"coord": scene, "strength": scene, "segment": labels})


def _kitti_sweeps(sequences: Path, split: str) -> list[Path]:
    if not (split in SEMANTIC_KITTI_SEQUENCES or split.isdigit()):
        raise ValueError(
            f"split must be {', '.join(SEMANTIC_KITTI_SEQUENCES)} or the number of a sequence: got {split!r}. Correct "
            "it."
        )
    sweeps = []
    for name in SEMANTIC_KITTI_SEQUENCES.get(split, (split,)):
        folder = sequences / name / "velodyne"
        if not folder.is_dir():
            raise FileNotFoundError(
                f"Split {split!r} needs sequence {name}: {folder.absolute()} does not exist. Complete the data, "
                "correct data_root, or name the sequences that are there as split."
            )
        found = sorted(folder.glob("*.bin"))
        if not found:
            raise ValueError(f"A sequence must hold sweeps: {folder} has no .bin file. Complete the data.")
        sweeps += found
    return sweeps


def _read_infos(folder: Path, sweeps: int, split: str) -> list[dict[str, Any]]:
    path = folder / f"nuscenes_infos_{sweeps}sweeps_{split}.pkl"
    plain = path.with_suffix(".json")
    if not path.is_file() and not plain.is_file():
        raise FileNotFoundError(
            f"Split {split!r} needs a list of sweeps: neither {path} nor {plain.name} exists. Make it with Pointcept's "
            "preprocess_nuscenes_info.py, or correct data_root, split or sweeps."
        )
    infos = json.loads(plain.read_text(encoding="utf-8")) if plain.is_file() else load_pickle(path)
    source = plain if plain.is_file() else path
    if not isinstance(infos, list) or not infos:
        raise ValueError(f"{source} must be a list of at least one sweep: got {type(infos).__name__}. Make it again.")
    for index, info in enumerate(infos):
        absent = [key for key in ("lidar_path", "lidar_token") if not isinstance(info, dict) or key not in info]
        if absent:
            raise ValueError(f"Entry {index} of {source} must have {' and '.join(absent)}. Make the file again.")
    return infos


def _read_floats(path: Path, width: int) -> Float32[np.ndarray, "_N _width"]:
    content = _read_bytes(path)
    if len(content) % (4 * width):
        raise ValueError(
            f"{path} must hold rows of {width} float32: its {len(content)} bytes are no multiple of {4 * width}. "
            "Download it again."
        )
    return np.frombuffer(content, dtype="<f4").astype(np.float32).reshape(-1, width)


def _read_labels(path: Path, dtype: np.dtype, num_points: int) -> Int64[np.ndarray, "_N"]:
    content = _read_bytes(path)
    if len(content) != num_points * dtype.itemsize:
        raise ValueError(
            f"{path} must have one label of {dtype.itemsize} bytes per point: it has {len(content)} bytes for "
            f"{num_points} points. Download it again."
        )
    return np.frombuffer(content, dtype=dtype).astype(np.int64)


def _read_bytes(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"A file of the data set is missing: {path} does not exist. Complete the data.")
    return path.read_bytes()
