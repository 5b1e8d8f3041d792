"""Writing PLY files: binary, and complete or not there at all."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyElement

from pointcept.utils.files import atomic_write


def write_ply(path: str | os.PathLike, elements: Mapping[str, np.ndarray]) -> None:
    """Write structured arrays as the elements of a binary little-endian PLY file.

    An interrupted run leaves either the old file or the new one. Folders are made as needed.

    Args:
        path: Where to write.
        elements: A structured array per element name, such as ``vertex`` and ``face``, in this order.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = PlyData([PlyElement.describe(array, name) for name, array in elements.items()], byte_order="<")
    with atomic_write(path) as file:
        data.write(file)


def vertex_array(coord: np.ndarray, color: np.ndarray | None = None, normal: np.ndarray | None = None) -> np.ndarray:
    """Points as the structured array that PLY viewers expect (x, y, z, then nx, ny, nz and red, green, blue).

    Args:
        coord: (N, 3), metres.
        color: (N, 3) uint8; or None.
        normal: (N, 3); or None.
    Raises:
        ValueError: a shape or the colours' type is wrong.
    """
    parts = [("coord", coord, ("x", "y", "z"), np.float32)]
    if normal is not None:
        parts.append(("normal", normal, ("nx", "ny", "nz"), np.float32))
    if color is not None:
        if color.dtype != np.uint8:
            raise ValueError(f"color must be uint8, 0..255: got {color.dtype}. Scale and round it first.")
        parts.append(("color", color, ("red", "green", "blue"), np.uint8))
    for name, array, _, _ in parts:
        if array.shape != (len(coord), 3):
            raise ValueError(f"{name} must have shape ({len(coord)}, 3), one row per point: got {array.shape}.")
    vertices = np.empty(len(coord), dtype=[(field, kind) for _, _, fields, kind in parts for field in fields])
    for _, array, fields, _ in parts:
        for axis, field in enumerate(fields):
            vertices[field] = array[:, axis]
    return vertices
