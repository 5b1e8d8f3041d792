"""The arrays of one cloud: reading them from a scene's files, and checking that they belong together."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from pointcept.utils.plain_pickle import load_torch_file

Cloud = tuple[Float[np.ndarray, "_N 3"], dict[str, np.ndarray]]
"""Position, metres, and point data as a :class:`PointSample` has it."""

_WIDTHS = {"color": 3, "normal": 3, "strength": 1, "segment": 1, "instance": 1}


def read_cloud(folder: Path, segment_key: str | None) -> Cloud:
    """Position and point data of one scene folder; all files but ``coord.npy`` may be absent.

    Args:
        folder: Holds ``coord, color, normal, strength, <segment_key>, instance`` as ``.npy``.
        segment_key: File of class ids, without ``.npy``; None reads none.

    Returns:
        ``coord`` and point data as :func:`checked_cloud` gives them.

    Raises:
        FileNotFoundError: there is no ``coord.npy``.
        ValueError: a file is truncated, has a wrong shape or non-finite values, or the cloud is empty.
    """
    stems = {"color": "color", "normal": "normal", "strength": "strength", "segment": segment_key}
    files = {key: folder / f"{stem}.npy" for key, stem in {**stems, "instance": "instance"}.items() if stem}
    arrays = {key: _read_array(path) for key, path in files.items() if path.is_file()}
    return checked_cloud(
        {"coord": _read_array(folder / "coord.npy"), **arrays}, {"coord": folder / "coord.npy", **files}
    )


def read_torch_cloud(path: Path, segment_key: str | None) -> Cloud:
    """Position and point data of one file that ``torch.save`` wrote, with PonderV2's or Pointcept's old names.

    Args:
        path: Holds a dict of ``coord`` and, where there are any, ``color``, ``normal``, labels (``semantic_gt`` and the
            number in ``segment_key``: ``semantic_gt20`` for ``segment20``) and ``instance_gt``.
        segment_key: Which labels to read; None reads none.

    Raises:
        ValueError: the file holds something else, or as :func:`checked_cloud`.
    """
    content = load_torch_file(path)
    if not isinstance(content, dict) or "coord" not in content:
        raise ValueError(f"{path} must hold a dict with 'coord': got {_described(content)}. Convert the scene again.")
    names = {"coord": ("coord",), "color": ("color",), "normal": ("normal",), "strength": ("strength",)}
    names["instance"] = ("instance", "instance_gt")
    if segment_key is not None:
        names["segment"] = (segment_key, segment_key.replace("segment", "semantic_gt"))
    found = {key: next((name for name in options if name in content), None) for key, options in names.items()}
    arrays = {key: np.asarray(content[name]) for key, name in found.items() if name is not None}
    return checked_cloud(arrays, {key: f"{path}[{name!r}]" for key, name in found.items()})


def checked_cloud(arrays: dict[str, np.ndarray], sources: dict[str, Any]) -> Cloud:
    """Position and point data with the shapes and types of a sample.

    Args:
        arrays: ``coord`` and any of ``color``, ``normal``, ``strength``, ``segment`` and ``instance``, a row per point.
        sources: Where each came from, for messages.

    Returns:
        ``coord`` (N, 3), metres, float32, or float64 where it was given so (far from the origin float32 would round to
        centimetres; the first transform that moves the cloud makes it float32). And a dict of ``color`` (N, 3) float32
        0..255, ``normal`` (N, 3) and ``strength`` (N, 1) float32, ``segment`` and ``instance`` (N,) int64.

    Raises:
        ValueError: a wrong shape, non-finite values, or an empty cloud.
    """
    coord = arrays["coord"]
    if coord.dtype != np.float64:
        coord = coord.astype(np.float32)
    if coord.ndim != 2 or coord.shape[1] != 3 or len(coord) == 0:
        raise ValueError(
            f"{sources['coord']} must hold at least one point, shape (N, 3): got {coord.shape}. Convert the scene "
            "again, or leave it out with a JSON list as split."
        )
    point = {}
    for key, array in arrays.items():
        if key == "coord":
            continue
        width = _WIDTHS[key]
        if array.shape != (len(coord), width) and not (width == 1 and array.shape == (len(coord),)):
            raise ValueError(
                f"{sources[key]} must have one row of {width} per point of coord.npy: got {array.shape} for "
                f"{len(coord)} points. Convert the scene again."
            )
        is_label = key in ("segment", "instance")
        point[key] = array.astype(np.int64).reshape(-1) if is_label else array.astype(np.float32).reshape(-1, width)
    for key, array in {"coord": coord, **point}.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            wrong = int((~np.isfinite(array)).any(axis=1).sum())
            raise ValueError(
                f"{sources[key]} must be finite: {wrong} of {len(array)} rows are not. Convert the scene again."
            )
    return coord, point


def _read_array(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"A scene folder must hold {path.name}: {path} does not exist. Convert the scene again."
        ) from None
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} must be a whole .npy file: {error}. Convert or download it again.") from error


def _described(content: Any) -> str:
    return f"a dict of {sorted(map(str, content))}" if isinstance(content, dict) else type(content).__name__
