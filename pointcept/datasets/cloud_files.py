"""One cloud from one file of a user's own: PLY, LAS, NumPy, or a text of columns."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyParseError

from pointcept.datasets.cloud_arrays import read_cloud
from pointcept.datasets.transforms.compose import Number
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
    "classification": "label",
    "scalar_intensity": "strength",
    "scalar_label": "label",
    "scalar_classification": "label",
}
_KNOWN = {name for group in _GROUPS.values() for name in group} | {"_"}
TEXT_SUFFIXES = (".txt", ".xyz", ".pts", ".csv")
LAS_SUFFIXES = (".las", ".laz")
SUFFIXES = (".ply", ".npy", ".npz", *LAS_SUFFIXES, *TEXT_SUFFIXES)
"""What files of clouds may end in."""


def read_cloud_file(
    path: str | Path, columns: Sequence[str] | None = None, color_max: Number | None = None
) -> PointSample:
    """One cloud with whatever the file says of its points.

    Args:
        path: A ``.ply`` file with vertices x, y, z; a ``.npy`` matrix of one row per point or structured array; a
            ``.npz`` of arrays ``coord, color, normal, segment``; a text file of columns (``.txt``, ``.xyz``, ``.pts``,
            ``.csv``; lines that begin with ``#`` or ``//`` are left out, and a first row may name the columns); a
            ``.las`` or ``.laz`` file, whose classification is the label; or a scene's folder of ``.npy`` files.
        columns: Names of the columns of a matrix or text: some of x, y, z, red, green, blue, nx, ny, nz, strength,
            label, instance, and ``_`` for others. None takes ``COLUMNS``.
        color_max: The value of full brightness in the file: 255, 1 or 65535. None takes 1 for floats up to 1, 65535 for
            16-bit colours above 255, and 255 otherwise.

    Returns:
        ``coord``, metres, and point data as data sets have it: ``color`` 0..255, ``normal``, ``strength``,
        ``segment``, ``instance``; named after the file.

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
    fields = {_canonical(name): values for name, values in fields.items()}
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
    point = {key: _point_data(key, array) for key, array in arrays.items() if key not in ("coord", "color")}
    if "color" in arrays:
        point["color"] = _color(arrays["color"], color_max, path)
    return PointSample(coord=stored_coord(arrays["coord"]), point=point, scene={"name": path.stem})


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
        if suffix in LAS_SUFFIXES:
            return _read_las(path)
        if suffix == ".npy":
            matrix = np.load(path, allow_pickle=False)
            if matrix.dtype.names:
                return {name: matrix[name] for name in matrix.dtype.names}
        elif suffix in TEXT_SUFFIXES:
            matrix, header = _read_text(path)
            columns = header if columns is None else columns
        else:
            raise ValueError(f"its suffix must be {', '.join(SUFFIXES)}")
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
    unknown = [name for name in names if _canonical(name) not in _KNOWN]
    if unknown:
        raise ValueError(f"Columns must be known: got {', '.join(unknown)}. Known: {', '.join(sorted(_KNOWN))}.")
    return {name: matrix[:, index] for index, name in enumerate(names) if name != "_"}


def _canonical(name: str) -> str:
    folded = name.lower()
    return _OTHER_NAMES.get(folded, folded)


def _split(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    fields = {}
    for key, array in arrays.items():
        names = _GROUPS.get(key, (key,))
        columns = array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1)
        if columns.shape[1] == len(names):
            fields |= {name: columns[:, index] for index, name in enumerate(names)}
    return fields


def _read_text(path: Path) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """The matrix, and the names of its columns where the first row has them."""
    with path.open(encoding="utf-8") as file:
        lines = (line.partition("//")[0].partition("#")[0].strip() for line in file)
        number, first = next(((number, line) for number, line in enumerate(lines, start=1) if line), (0, ""))
    delimiter = next((mark for mark in (",", ";") if mark in first), None)
    words = tuple(word.strip().strip('"') for word in first.split(delimiter))
    header = words if first and not all(_is_number(word) for word in words) else None
    matrix = np.loadtxt(
        path,
        dtype=np.float64,
        comments=("#", "//"),
        delimiter=delimiter,
        ndmin=2,
        skiprows=number if header else 0,
    )
    return matrix, None if header is None else tuple(name if _canonical(name) in _KNOWN else "_" for name in header)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def stored_coord(values: np.ndarray) -> np.ndarray:
    """Positions, metres: float64 where it matters, as far from the origin float32 rounds to centimetres."""
    values = values.astype(np.float64)
    return values if np.abs(values).max(initial=0) > 1000 else values.astype(np.float32)


def _point_data(key: str, values: np.ndarray) -> np.ndarray:
    if key in ("segment", "instance"):
        return values.reshape(-1).astype(np.int64)
    return values.astype(np.float32)


def _color(values: np.ndarray, color_max: Number | None, path: Path) -> np.ndarray:
    largest = float(values.max(initial=0))
    if color_max is None:
        is_unit, is_wide = values.dtype.kind == "f" and largest <= 1, values.dtype == np.uint16 and largest > 255
        color_max = 1 if is_unit else 65535 if is_wide else 255
    if largest > color_max or values.min(initial=0) < 0:
        raise ValueError(
            f"Colours of {path} must lie in 0..{color_max}: got {values.min()}..{largest:g}. Say with color_max what "
            "full brightness is in the file (1, 255 or 65535)."
        )
    return (values * (255 / color_max)).astype(np.float32)


def _read_las(path: Path) -> dict[str, np.ndarray]:
    try:
        import laspy
    except ImportError:
        raise ValueError("LAS files need laspy, which is not installed: pip install 'pointcept[las]'") from None
    try:
        cloud = laspy.read(path)
    except laspy.errors.LaspyException as error:
        raise ValueError(str(error)) from error
    names = {name for name in cloud.point_format.dimension_names if name in (*_GROUPS["color"], "intensity")}
    fields = {axis: np.asarray(getattr(cloud, axis)) for axis in "xyz"} | {
        name: np.asarray(cloud[name]) for name in names
    }
    return {**fields, "classification": np.asarray(cloud.classification)}


def _require_finite(fields: dict[str, np.ndarray], path: Path) -> None:
    wrong = {name: int((~np.isfinite(values)).sum()) for name, values in fields.items() if values.dtype.kind == "f"}
    wrong = {name: count for name, count in wrong.items() if count}
    if wrong:
        listed = ", ".join(f"{count} in {name}" for name, count in wrong.items())
        raise ValueError(f"{path} must be finite: it is not, {listed}. Remove these points first.")
