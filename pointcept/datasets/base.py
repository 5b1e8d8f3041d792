"""Data sets of scenes: which scenes a split holds, their point clouds, and the protocol of an item."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from pointcept.datasets.transforms.compose import Transform, apply_transforms
from pointcept.registry import DATASETS
from pointcept.structures import PointSample


class SampleDataset(torch.utils.data.Dataset):
    """What all data sets share: ``dataset[index]`` and ``dataset[index, seed]`` give a ``PointSample``.

    All randomness of an item comes from its seed (by default its index), so an item is a function of its key: in any
    process, in any order.

    Args:
        scenes: What ``read`` makes samples of.
        transform: Applied in this order.
        loop: How often an epoch passes over the scenes.

    Raises:
        ValueError: ``loop`` is below 1.
    """

    def __init__(self, scenes: Sequence[Any], *, transform: Sequence[Transform] = (), loop: int = 1) -> None:
        if loop < 1:
            raise ValueError(f"loop must be at least 1: got {loop}.")
        self.scenes = scenes
        self.transform = list(transform)
        self.loop = loop

    def __len__(self) -> int:
        return len(self.scenes) * self.loop

    def __getitem__(self, key: int | tuple[int, int]) -> PointSample:
        index, seed = key if isinstance(key, tuple) else (key, key)
        if not 0 <= index < len(self):
            raise IndexError(f"An index must lie in 0..{len(self) - 1}: got {index}.")
        rng = np.random.default_rng(seed)
        sample = self.read(self.scenes[index % len(self.scenes)], rng)
        sample.seed = seed
        return apply_transforms(sample, self.transform, rng)

    def read(self, scene: Any, rng: np.random.Generator) -> PointSample:
        """One scene as it is on disk; ``rng`` chooses where there is something to choose."""
        raise NotImplementedError


@DATASETS.register()
class SceneDataset(SampleDataset):
    """Scenes of one or more splits, each a folder of ``.npy`` files as Pointcept lays them out.

    Args:
        split: Folder of ``data_root`` that holds one folder per scene, or a JSON file in it that lists scene folders
            relative to ``data_root``; or several of these.
        data_root: Folder of the data set.
        transform: Applied in this order.
        segment_key: File of class ids, without ``.npy``; None reads none.
        condition: Name of the data set, for prompt-driven norms.
        loop: How often an epoch passes over the scenes.
        labelled_points: JSON file of the points of each scene whose labels may be used, ``{"scene": [row, ...]}``; all
            other points become unlabelled (-1). None uses all labels.
        fraction: Share of the scenes to use, evenly spread over the split and at least one, for training with few
            labels.

    Raises:
        FileNotFoundError: a split does not exist.
        ValueError: a split is empty, ``loop`` is below 1, or ``fraction`` is not above 0 and at most 1.
    """

    def __init__(
        self,
        *,
        split: str | Sequence[str],
        data_root: str | Path,
        transform: Sequence[Transform] = (),
        segment_key: str | None = "segment20",
        condition: str = "ScanNet",
        loop: int = 1,
        labelled_points: str | Path | None = None,
        fraction: float | int = 1.0,
    ) -> None:
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction must be above 0 and at most 1: got {fraction}.")
        self.data_root = Path(data_root).expanduser()
        splits = [split] if isinstance(split, str) else list(split)
        scenes = [folder for name in splits for folder in list_scenes(self.data_root, name)]
        if not scenes:
            raise ValueError("split must name at least one split: got none. Write split='train', for example.")
        super().__init__(_spread(scenes, float(fraction)), transform=transform, loop=loop)
        self.segment_key = segment_key
        self.condition = condition
        self._labelled = None if labelled_points is None else read_labelled_points(Path(labelled_points), self.scenes)

    def read(self, scene: Path, rng: np.random.Generator) -> PointSample:
        """One scene as it is on disk; ``rng`` chooses where there is something to choose."""
        coord, point = read_cloud(scene, self.segment_key)
        if self._labelled is not None and "segment" in point:
            point["segment"] = _only(point["segment"], self._labelled[scene.name], scene)
        return PointSample(coord=coord, point=point, scene={"name": scene.name, "condition": self.condition})


def _spread(scenes: list[Path], fraction: float) -> list[Path]:
    count = max(1, round(len(scenes) * fraction))
    return [scenes[(2 * index + 1) * len(scenes) // (2 * count)] for index in range(count)]


def list_scenes(data_root: Path, split: str) -> list[Path]:
    """Folders of the scenes of a split: sorted by name, or in the order of a JSON list.

    Raises:
        FileNotFoundError: ``data_root/split`` does not exist, or a listed folder does not.
        ValueError: the split holds no scene, or the file is no JSON list of strings.
    """
    path = data_root / split
    if path.is_file():
        scenes = [data_root / name for name in _read_json_list(path)]
        absent = [scene for scene in scenes if not scene.is_dir()]
        if absent:
            raise FileNotFoundError(
                f"Every entry of {path} must be a scene folder below {data_root}: {len(absent)} of {len(scenes)} do "
                f"not exist, first {absent[0]}. Correct the list or complete the data."
            )
    elif path.is_dir():
        scenes = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    else:
        raise FileNotFoundError(
            f"split must be a folder or a JSON list in data_root: {path} does not exist. {_content(data_root)}"
            "Correct split or data_root, or convert the data set first."
        )
    if not scenes:
        raise ValueError(
            f"A split must hold at least one scene: {path} holds none. It needs one folder of .npy files per scene; "
            "convert the data set first."
        )
    return scenes


def read_cloud(folder: Path, segment_key: str | None) -> tuple[Float[np.ndarray, "_N 3"], dict[str, np.ndarray]]:
    """Position and point data of one scene folder; all files but ``coord.npy`` may be absent.

    Args:
        folder: Holds ``coord, color, normal, <segment_key>, instance`` as ``.npy``.
        segment_key: File of class ids, without ``.npy``; None reads none.

    Returns:
        ``coord`` (N, 3), metres, float32, or float64 where the file has it (far from the origin float32 would round
        to centimetres; the first transform that moves the cloud makes it float32). And a dict of ``color`` (N, 3)
        float32 0..255, ``normal`` (N, 3) float32, ``segment`` and ``instance`` (N,) int64, as far as there are files.

    Raises:
        FileNotFoundError: there is no ``coord.npy``.
        ValueError: a file is truncated, has a wrong shape or non-finite values, or the cloud is empty.
    """
    coord = _read_array(folder / "coord.npy")
    if coord.dtype != np.float64:
        coord = coord.astype(np.float32)
    if coord.ndim != 2 or coord.shape[1] != 3 or len(coord) == 0:
        raise ValueError(
            f"{folder / 'coord.npy'} must hold at least one point, shape (N, 3): got {coord.shape}. Convert the scene "
            "again, or leave it out with a JSON list as split."
        )
    point = {}
    files = {"color": "color", "normal": "normal", "segment": segment_key, "instance": "instance"}
    for key, stem in files.items():
        path = folder / f"{stem}.npy"
        if stem is None or not path.is_file():
            continue
        array = _read_array(path)
        width = 3 if key in ("color", "normal") else 1
        if array.size != len(coord) * width or array.shape[0] != len(coord):
            raise ValueError(
                f"{path} must have one row of {width} per point of coord.npy: got {array.shape} for {len(coord)} "
                "points. Convert the scene again."
            )
        point[key] = array.astype(np.float32).reshape(-1, 3) if width == 3 else array.astype(np.int64).reshape(-1)
    for stem, array in {"coord": coord, **point}.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            wrong = int((~np.isfinite(array)).any(axis=1).sum())
            raise ValueError(
                f"{folder / stem}.npy must be finite: {wrong} of {len(array)} rows are not. Convert the scene again."
            )
    return coord, point


def read_labelled_points(path: Path, scenes: Sequence[Path]) -> dict[str, np.ndarray]:
    """Rows of the points of each scene whose labels may be used.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no JSON dict of lists of rows, or lacks a scene.
    """
    try:
        rows = json.loads(path.read_text())
        table = {name: np.asarray(rows[name], dtype=np.int64).reshape(-1) for name in (s.name for s in scenes)}
    except FileNotFoundError:
        raise FileNotFoundError(f"labelled_points must be a file: {path} does not exist. Correct the path.") from None
    except KeyError as error:
        raise ValueError(
            f"labelled_points must list every scene of the split: {path} lacks {error}. Add it, with [] for no labels."
        ) from None
    except (ValueError, TypeError) as error:
        raise ValueError(
            f'labelled_points must be JSON such as {{"scene0000_00": [3, 17]}}: {path} is not ({error}). Correct it.'
        ) from error
    return table


def _only(segment: np.ndarray, rows: np.ndarray, scene: Path) -> np.ndarray:
    if len(rows) and (rows.min() < 0 or rows.max() >= len(segment)):
        raise ValueError(
            f"labelled_points must be rows of the scene's cloud: {scene} has {len(segment)} points and the file lists "
            f"rows {rows.min()}..{rows.max()}. Make the file for these clouds."
        )
    kept = np.full_like(segment, -1)
    kept[rows] = segment[rows]
    return kept


def _read_array(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"A scene folder must hold {path.name}: {path} does not exist. Convert the scene again."
        ) from None
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} must be a whole .npy file: {error}. Convert or download it again.") from error


def _read_json_list(path: Path) -> list[str]:
    try:
        names = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be a JSON list of scene folders: {error}. Correct the file.") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path} must be a JSON list of strings such as 'train/scene0000_00'. Correct the file.")
    return names


def _content(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder} does not exist either. "
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    return f"{folder} holds {', '.join(names[:10]) or 'nothing'}. "
