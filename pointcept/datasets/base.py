"""Data sets of scenes in Pointcept's layout: which scenes a split holds, and their point clouds."""

import json
from collections.abc import Sequence
from pathlib import Path

from pointcept.datasets.cloud_arrays import Cloud, read_cloud, read_torch_cloud
from pointcept.datasets.protocol import CloudDataset
from pointcept.datasets.transforms.compose import Transform
from pointcept.registry import DATASETS


@DATASETS.register("DefaultDataset")
class SceneDataset(CloudDataset):
    """Scenes of one or more splits, each a folder of ``.npy`` files as Pointcept lays them out.

    A scene may also be one ``.pth`` file, as PonderV2 prepares them; it is read without executing anything from it.

    Args:
        split: Folder of ``data_root`` that holds one folder (or ``.pth`` file) per scene, or a JSON file in it that
            lists scenes relative to ``data_root``; or several of these.
        data_root: Folder of the data set.
        transform: Applied in this order.
        segment_key: File of class ids, without ``.npy``; None reads none.
        condition: Name of the data set, for prompt-driven norms.
        loop: How often an epoch passes over the scenes.
        labelled_points: As of :class:`CloudDataset`.
        class_names: As of :class:`CloudDataset`.
        fraction: Share of the scenes to use, evenly spread over the split and at least one, for training with few
            labels.

    Raises:
        FileNotFoundError: a split does not exist.
        ValueError: a split is empty, ``loop`` is below 1, or ``fraction`` is not above 0 and at most 1.
    """

    depth = 1
    """Levels of folders between a split and its scenes, the scenes' included."""

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
        class_names: Sequence[str] | str | None = None,
        fraction: float | int = 1.0,
    ) -> None:
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction must be above 0 and at most 1: got {fraction}.")
        self.data_root = Path(data_root).expanduser()
        self.segment_key = segment_key
        splits = [split] if isinstance(split, str) else list(split)
        scenes = self.select([scene for name in splits for scene in list_scenes(self.data_root, name, self.depth)])
        super().__init__(
            _spread(scenes, float(fraction)),
            transform=transform,
            condition=condition,
            loop=loop,
            class_names=class_names,
            labelled_points=labelled_points,
        )

    def select(self, scenes: list[Path]) -> list[Path]:
        """The scenes of the splits that are used: all of them."""
        return scenes

    def load(self, scene: Path) -> Cloud:
        """The cloud of a scene's folder, or of its ``.pth`` file."""
        return read_torch_cloud(scene, self.segment_key) if scene.is_file() else read_cloud(scene, self.segment_key)


def _spread(scenes: list[Path], fraction: float) -> list[Path]:
    count = min(len(scenes), max(1, round(len(scenes) * fraction)))
    return [scenes[(2 * index + 1) * len(scenes) // (2 * count)] for index in range(count)]


def list_scenes(data_root: Path, split: str, depth: int = 1) -> list[Path]:
    """Folders and ``.pth`` files of the scenes of a split: sorted by name, or in the order of a JSON list.

    Args:
        data_root: Folder of the data set.
        split: Folder or JSON file in it.
        depth: Levels of folders between a split and its scenes, the scenes' included.

    Raises:
        FileNotFoundError: ``data_root/split`` does not exist, or a listed scene does not.
        ValueError: the split holds no scene, or the file is no JSON list of strings.
    """
    path = data_root / split
    if path.is_file():
        scenes = [data_root / name for name in _read_json_list(path)]
        absent = [scene for scene in scenes if not _is_scene(scene)]
        if absent:
            raise FileNotFoundError(
                f"Every entry of {path} must be a scene folder below {data_root}: {len(absent)} of {len(scenes)} do "
                f"not exist, first {absent[0]}. Correct the list or complete the data."
            )
    elif path.is_dir():
        scenes = [entry for entry in sorted(path.glob("/".join(["[!.]*"] * depth))) if _is_scene(entry)]
    else:
        raise FileNotFoundError(
            f"split must be a folder or a JSON list in data_root: {path.absolute()} does not exist. "
            f"{_content(data_root.absolute())}Correct split or data_root, or convert the data set first."
        )
    if not scenes:
        raise ValueError(
            f"A split must hold at least one scene: {path} holds none. It needs one folder of .npy files per scene; "
            "convert the data set first."
        )
    return scenes


def _is_scene(path: Path) -> bool:
    return path.is_dir() or (path.suffix == ".pth" and path.is_file())


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
