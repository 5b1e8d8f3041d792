"""The reader for clouds of a user's own: one file per cloud, in a folder per split."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int64

from pointcept.datasets.cloud_arrays import Cloud, checked_cloud
from pointcept.datasets.cloud_files import SUFFIXES, read_cloud_file, stored_coord
from pointcept.datasets.label_tables import mapped_labels
from pointcept.datasets.protocol import CloudDataset
from pointcept.datasets.transforms.compose import Number, Transform
from pointcept.registry import DATASETS

_Z_UP_FROM = {
    "z": np.eye(3),
    "y": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "x": np.array([[0, 0, -1.0], [0, 1, 0], [1, 0, 0]]),
}


@DATASETS.register()
class PointFileDataset(CloudDataset):
    """Clouds of any source, each in a file of its own: PLY, LAS/LAZ, NumPy or text.

    Args:
        split: Folder of ``data_root`` with one file (or one folder of ``.npy`` files) per cloud, or a ``.txt`` or
            ``.json`` file in it that lists clouds relative to ``data_root``; or several of these.
        data_root: Folder of the data set.
        transform: Applied in this order.
        columns: Names of the columns of files that do not name them, as of :func:`read_cloud_file`.
        label_file: Where the labels of a cloud are, if not in its file: a path relative to the cloud's folder in which
            ``{name}`` stands for the name of its file, such as ``"../labels/{name}.npy"``. A ``.npy`` file or a text
            with one number per point.
        label_map: Class of each label in the files; -1 = ignore. None: the labels are the classes.
        class_names: As of :class:`CloudDataset`.
        color_max: The value of full brightness in the files, as of :func:`read_cloud_file`.
        metres_per_unit: Size of the files' unit of length: 0.001 for millimetres.
        up: The files' axis that points up. The clouds are turned so that it is z.
        condition: Name of the data set, for prompt-driven norms.
        loop: How often an epoch passes over the clouds.
        labelled_points: As of :class:`CloudDataset`.

    Raises:
        FileNotFoundError: a split or a listed cloud does not exist.
        ValueError: a split has no clouds, or an argument is out of range.
    """

    def __init__(
        self,
        *,
        split: str | Sequence[str],
        data_root: str | Path,
        transform: Sequence[Transform] = (),
        columns: Sequence[str] | None = None,
        label_file: str | None = None,
        label_map: Mapping[int, int] | None = None,
        class_names: Sequence[str] | str | None = None,
        color_max: Number | None = None,
        metres_per_unit: Number = 1.0,
        up: Literal["x", "y", "z"] = "z",
        condition: str = "PointFiles",
        loop: int = 1,
        labelled_points: str | Path | None = None,
    ) -> None:
        if metres_per_unit <= 0 or up not in _Z_UP_FROM:
            raise ValueError(
                f"metres_per_unit must be positive and up one of x, y, z: got {metres_per_unit} and {up!r}. Correct it."
            )
        if label_file is not None and "{name}" not in label_file:
            raise ValueError(
                f"label_file must say with {{name}} which cloud it belongs to: got {label_file!r}. Write "
                "'../labels/{name}.npy', for example."
            )
        self.data_root = Path(data_root).expanduser()
        self.columns = None if columns is None else tuple(columns)
        self.label_file = label_file
        self.label_map = label_map
        self.color_max = color_max
        self.metres_per_unit = metres_per_unit
        self.up = up
        splits = [split] if isinstance(split, str) else list(split)
        super().__init__(
            [cloud for name in splits for cloud in list_clouds(self.data_root, name, label_file)],
            transform=transform,
            condition=condition,
            loop=loop,
            class_names=class_names,
            labelled_points=labelled_points,
        )

    def name_of(self, scene: Path) -> str:
        """Its path below ``data_root``, without suffix, with ``-`` between the folders."""
        path = scene.relative_to(self.data_root) if scene.is_relative_to(self.data_root) else Path(scene.name)
        return "-".join((*path.parts[:-1], path.stem if scene.is_file() else path.name))

    def load(self, scene: Path) -> Cloud:
        """One cloud, metres, z up.

        Raises:
            FileNotFoundError: the labels do not exist.
            ValueError: the file cannot be read, or does not hold what was declared.
        """
        sample = read_cloud_file(scene, self.columns, self.color_max)
        arrays = {"coord": stored_coord(self._z_up(sample.coord) * self.metres_per_unit), **sample.point}
        if "normal" in arrays:
            arrays["normal"] = self._z_up(arrays["normal"])
        source = scene
        if self.label_file is not None:
            source = scene.parent / self.label_file.format(name=scene.stem if scene.is_file() else scene.name)
            arrays["segment"] = _read_label_file(source, sample.num_points)
        if self.label_map is not None and "segment" in arrays:
            arrays["segment"] = mapped_labels(arrays["segment"], self.label_map, source)
        return checked_cloud(arrays, dict.fromkeys(arrays, scene))

    def _z_up(self, vectors: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        return vectors if self.up == "z" else vectors @ _Z_UP_FROM[self.up].T.astype(vectors.dtype)


def list_clouds(data_root: Path, split: str, label_file: str | None = None) -> list[Path]:
    """The clouds of a split: sorted by name, or in the order of a list.

    Args:
        data_root: Folder of the data set.
        split: Folder, ``.txt`` or ``.json`` file in it.
        label_file: Files that look like this are labels, no clouds.

    Raises:
        FileNotFoundError: the split, or a listed cloud, does not exist.
        ValueError: the split holds no cloud, or two of the same name.
    """
    path = data_root / split
    if path.is_file():
        clouds = [data_root / name for name in _listed(path)]
        absent = [cloud for cloud in clouds if not cloud.exists()]
        if absent:
            raise FileNotFoundError(
                f"Every entry of {path} must be a cloud below {data_root}: {len(absent)} of {len(clouds)} do not "
                f"exist, first {absent[0]}. Correct the list."
            )
    elif path.is_dir():
        is_inside = label_file is not None and ".." not in label_file
        labels = set(path.glob(label_file.format(name="*"))) if is_inside else set()
        clouds = sorted(entry for entry in path.iterdir() if _is_cloud(entry) and entry not in labels)
    else:
        raise FileNotFoundError(
            f"split must be a folder or a list in data_root: {path.absolute()} does not exist. Correct split or "
            "data_root."
        )
    if not clouds:
        raise ValueError(
            f"A split must hold at least one cloud: {path} holds none. It needs files that end in "
            f"{', '.join(SUFFIXES)}, or folders with coord.npy."
        )
    stems = [cloud.with_suffix("") if cloud.is_file() else cloud for cloud in clouds]
    twice = sorted({stem.name for stem in stems if stems.count(stem) > 1}) if len(set(stems)) < len(stems) else []
    if twice:
        raise ValueError(
            f"Clouds of a split must have different names: {path} has {', '.join(twice[:5])} more than once. Rename "
            "one, or list the clouds to use in a .txt file."
        )
    return clouds


def _is_cloud(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    return path.suffix.lower() in SUFFIXES if path.is_file() else (path / "coord.npy").is_file()


def _listed(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".json":
        return [line.strip() for line in text.splitlines() if line.strip()]
    names = json.loads(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path} must be a JSON list of strings such as 'train/room.ply'. Correct the file.")
    return names


def _read_label_file(path: Path, num_points: int) -> Int64[np.ndarray, "_N"]:
    if not path.is_file():
        raise FileNotFoundError(f"Every cloud must have labels: {path} does not exist. Correct label_file or add it.")
    try:
        labels = np.load(path, allow_pickle=False) if path.suffix == ".npy" else np.loadtxt(path, ndmin=1)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} must hold one label per point: {error}. Save it again.") from error
    if labels.size != num_points or not np.array_equal(labels, np.rint(labels)):
        raise ValueError(
            f"{path} must hold one whole number per point: got shape {labels.shape} for {num_points} points. Save it "
            "again, in the order of the points."
        )
    return labels.reshape(-1).astype(np.int64)
