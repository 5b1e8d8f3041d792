"""Camera poses and intrinsics from text: reading and checking."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

# Published poses are rounded; a rotation further than this from orthonormal is no rotation.
RIGID_TOLERANCE = 1e-2


def _load_numbers(path: Path) -> Float[np.ndarray, "_R _C"]:
    rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
    try:
        return np.array([[float(word) for word in row] for row in rows], ndmin=2)
    except ValueError:
        raise ValueError(f"{path} must hold rows of as many numbers each: got {rows[:4]}. Write it again.") from None


def rigid_pose(matrix: Float[np.ndarray, "_R _C"], source: Path) -> Float[np.ndarray, "4 4"]:
    """The pose with its rounded rotation replaced by the nearest rotation.

    Raises:
        ValueError: the matrix is not 4x4, not finite, or no rigid motion.
    """
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise ValueError(f"A pose must be a finite 4x4 matrix: {source} has {matrix.tolist()}.")
    left, scale, right = np.linalg.svd(matrix[:3, :3])
    is_rotation = np.abs(scale - 1).max() < RIGID_TOLERANCE and np.linalg.det(left @ right) > 0
    if not is_rotation or not np.allclose(matrix[3], (0, 0, 0, 1), atol=1e-6):
        raise ValueError(f"A pose must be a rotation and a translation: {source} has {matrix.tolist()}.")
    pose = np.eye(4)
    pose[:3, :3] = left @ right
    pose[:3, 3] = matrix[:3, 3]
    return pose


def read_pose(path: Path) -> Float[np.ndarray, "4 4"]:
    """Rigid 4x4 matrix from a text file.

    Raises:
        ValueError: the file is no finite rigid 4x4 matrix.
    """
    return rigid_pose(_load_numbers(path), path)


def pose_from_quaternion(
    translation: Float[np.ndarray, "3"], quaternion: Float[np.ndarray, "4"], source: Path
) -> Float[np.ndarray, "4 4"]:
    """Rigid matrix of a translation (metres) and a quaternion (x, y, z, w) of length 1 within 1 %.

    Raises:
        ValueError: the values are not finite, or the quaternion has another length.
    """
    norm = np.linalg.norm(quaternion)
    if not np.isfinite(translation).all() or not abs(norm - 1) < RIGID_TOLERANCE:
        raise ValueError(
            f"A pose must be finite with a unit quaternion: {source} has t={translation.tolist()}, "
            f"q={quaternion.tolist()}."
        )
    vector, w = quaternion[:3] / norm, quaternion[3] / norm
    cross = np.array([[0, -vector[2], vector[1]], [vector[2], 0, -vector[0]], [-vector[1], vector[0], 0]])
    pose = np.eye(4)
    pose[:3, :3] = np.eye(3) + 2 * w * cross + 2 * cross @ cross
    pose[:3, 3] = translation
    return pose


def intrinsic_matrix(values: Float[np.ndarray, "..."], source: str) -> Float[np.ndarray, "3 3"]:
    """Intrinsics from ``fx fy cx cy``, a 3x3 or a 4x4 matrix; pixels, the centre of the first pixel at (0, 0).

    Raises:
        ValueError: the values are none of these, not finite, or have a focal length that is not positive.
    """
    if values.size == 4:
        fx, fy, cx, cy = values.ravel()
        matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=np.float64)
    elif values.shape in ((3, 3), (4, 4)):
        matrix = values[:3, :3].astype(np.float64)
    else:
        matrix = np.zeros((3, 3))
    lower = np.array([matrix[1, 0], matrix[2, 0], matrix[2, 1], matrix[2, 2] - 1])
    if not np.isfinite(matrix).all() or not (matrix[0, 0] > 0 and matrix[1, 1] > 0) or np.abs(lower).max() > 1e-6:
        raise ValueError(
            "Intrinsics must be 'fx fy cx cy', or a 3x3 or 4x4 matrix with positive focal lengths and the last row "
            f"0 0 1: {source} has {values.tolist()}. Correct it."
        )
    return matrix


def read_intrinsic(path: Path) -> Float[np.ndarray, "3 3"]:
    """Intrinsics from a text file, see ``intrinsic_matrix``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has other content.
    """
    if not path.is_file():
        raise FileNotFoundError(f"The file of the intrinsics must exist: {path} is missing.")
    return intrinsic_matrix(_load_numbers(path), str(path))
