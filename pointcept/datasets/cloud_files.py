"""One cloud from one file of a user's own: PLY, NumPy, or a text of columns."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyParseError

from pointcept.datasets.base import read_cloud
from pointcept.structures import PointSample

COLUMNS: dict[int, tuple[str, ...]] = {
    3: ("x", "y", "z"),
    6: ("x", "y", "z", "red", "green", "blue"),
    7: ("x", "y", "z", "red", "green", "blue", "label"),
}
"""What the columns of a matrix without names are taken for, by their number."""

_GROUPS = {
    "coord": ("x", "y", "z"),
    "color": ("red", "green", "blue"),
    "normal": ("nx", "ny", "nz"),
    "strength": ("strength",),
    "segment": ("label",),
    "instance": ("instance",),
}
_OTHER_NAMES = {
    "r": "red",
    "g": "green",
    "b": "blue",
    "normal_x": "nx",
    "normal_y": "ny",
    "normal_z": "nz",
    "intensity": "strength",
    "segment": "label",
    "class": "label",
}
TEXT_SUFFIXES = (".txt", ".xyz", ".pts", ".csv")


def read_cloud_file(path: str | Path, columns: Sequence[str] | None = None) -> PointSample:
    """One cloud with whatever the file says of its points.

    Args:
        path: A ``.ply`` file with vertices x, y, z; a ``.npy`` matrix of one row per point or structured array; a
            ``.npz`` of arrays ``coord, color, normal, segment``; a text file of columns (``.txt``, ``.xyz``, ``.pts``,
            ``.csv``; lines that begin with ``#`` or ``//`` are left out); or a scene's folder of ``.npy`` files.
        columns: Names of the columns of a matrix or text: some of x, y, z, red, green, blue, nx, ny, nz, strength,
            label, instance, and ``_`` for others. None takes ``COLUMNS``.

    Returns:
        ``coord``, metres, and point data as data sets have it: ``color`` 0..255 (colours of floats up to 1 are scaled),
        ``normal``, ``strength``, ``segment``, ``instance``; named after the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an unknown suffix, a file that cannot be read, unclear columns, no points, or values that are not
            finite.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"A cloud must exist: there is no file {path}. Correct the path.")
    if path.is_dir():
        segment = sorted(file.stem for file in path.glob("segment*.npy"))
        coord, point = read_cloud(path, segment[0] if segment else None)
        return PointSample(coord=coord, point=point, scene={"name": path.name})
    fields = _fields(path, columns)
    fields = {_OTHER_NAMES.get(name, name): values for name, values in fields.items()}
    arrays = {}
    for key, names in _GROUPS.items():
        present = [name for name in names if name in fields]
        if present and len(present) < len(names):
            raise ValueError(f"{path} must have all of {', '.join(names)}: it has only {', '.join(present)}.")
        if present:
            arrays[key] = np.stack([fields[name] for name in names], axis=1)
    if "coord" not in arrays or len(arrays["coord"]) == 0:
        raise ValueError(
            f"A cloud needs points with x, y and z: {path} has {len(next(iter(fields.values()), ()))} rows of "
            f"{', '.join(fields) or 'nothing'}. Name the columns, or convert the file."
        )
    _require_finite(fields, path)
    point = {key: _point_data(key, array) for key, array in arrays.items() if key != "coord"}
    return PointSample(coord=_coord(arrays["coord"]), point=point, scene={"name": path.stem})


def _fields(path: Path, columns: Sequence[str] | None) -> dict[str, np.ndarray]:
    """The file's columns by name."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".ply":
            vertices = PlyData.read(path)["vertex"].data
            return {name: vertices[name] for name in vertices.dtype.names if vertices.dtype[name].kind != "O"}
        if suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return _split({key: arrays[key] for key in arrays.files})
        if suffix == ".npy":
            matrix = np.load(path, allow_pickle=False)
            if matrix.dtype.names:
                return {name: matrix[name] for name in matrix.dtype.names}
        elif suffix in TEXT_SUFFIXES:
            matrix = _read_text(path)
        else:
            raise ValueError(f"its suffix must be .ply, .npy, .npz, {', '.join(TEXT_SUFFIXES)}")
    except (OSError, ValueError, EOFError, KeyError, PlyParseError) as error:
        raise ValueError(f"{path} must be a readable cloud: {error}. Convert it, for example to PLY.") from error
    if matrix.ndim != 2:
        raise ValueError(f"{path} must have one row per point: got shape {matrix.shape}. Save a matrix.")
    names = COLUMNS.get(matrix.shape[1], ()) if columns is None else tuple(columns)
    if len(names) != matrix.shape[1]:
        raise ValueError(
            f"The columns of {path} must be named: it has {matrix.shape[1]}, and {len(names)} names are given or known "
            "(3: x y z; 6: and red green blue; 7: and label). Give --columns, such as x,y,z,nx,ny,nz,_."
        )
    known = {name for group in _GROUPS.values() for name in group} | {"_"}
    unknown = [name for name in names if _OTHER_NAMES.get(name, name) not in known]
    if unknown:
        raise ValueError(f"Columns must be known: got {', '.join(unknown)}. Known: {', '.join(sorted(known))}.")
    return {name: matrix[:, index] for index, name in enumerate(names) if name != "_"}


def _split(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    fields = {}
    for key, array in arrays.items():
        names = _GROUPS.get(key, (key,))
        columns = array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1)
        if columns.shape[1] == len(names):
            fields |= {name: columns[:, index] for index, name in enumerate(names)}
    return fields


def _read_text(path: Path) -> np.ndarray:
    with path.open(encoding="utf-8") as file:
        lines = (line.partition("//")[0] for line in file)
        first = next((line for line in lines if line.partition("#")[0].strip()), "")
    delimiter = next((mark for mark in (",", ";") if mark in first), None)
    return np.loadtxt(path, dtype=np.float64, comments=("#", "//"), delimiter=delimiter, ndmin=2)


def _coord(values: np.ndarray) -> np.ndarray:
    """Float64 where it matters: far from the origin float32 rounds to centimetres."""
    values = values.astype(np.float64)
    return values if np.abs(values).max(initial=0) > 1000 else values.astype(np.float32)


def _point_data(key: str, values: np.ndarray) -> np.ndarray:
    if key in ("segment", "instance"):
        return values.reshape(-1).astype(np.int64)
    if key == "color" and values.dtype.kind == "f" and values.max(initial=0) <= 1:
        return (255 * values).astype(np.float32)
    return values.astype(np.float32)


def _require_finite(fields: dict[str, np.ndarray], path: Path) -> None:
    wrong = {name: int((~np.isfinite(values)).sum()) for name, values in fields.items() if values.dtype.kind == "f"}
    wrong = {name: count for name, count in wrong.items() if count}
    if wrong:
        listed = ", ".join(f"{count} in {name}" for name, count in wrong.items())
        raise ValueError(f"{path} must be finite: it is not, {listed}. Remove these points first.")
