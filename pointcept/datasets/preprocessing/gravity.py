"""Which way is down in a sequence, and the rotation that makes z point up."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

# Normals within this angle of the cameras' mean up direction can be those of floors, tables and ceilings.
SEARCH_COSINE = np.cos(np.deg2rad(45))
NUM_CANDIDATES = 500


def read_gravity(path: Path) -> Float[np.ndarray, "3"]:
    """Direction in which things fall, from a text file of three numbers; any length but zero.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"The gravity file must exist: {path} is missing.")
    return gravity_direction(path.read_text().split(), str(path))


def gravity_direction(words: list[str], source: str) -> Float[np.ndarray, "3"]:
    """Unit vector from three words.

    Raises:
        ValueError: they are no three finite numbers, or all zero.
    """
    try:
        direction = np.array([float(word) for word in words])
    except ValueError:
        direction = np.zeros(0)
    if direction.shape != (3,) or not np.isfinite(direction).all() or not np.linalg.norm(direction) > 0:
        raise ValueError(
            f"Gravity must be three numbers 'x y z' that point down, not all zero: {source} has {' '.join(words)!r}."
        )
    return direction / np.linalg.norm(direction)


def estimate_gravity(
    normals: Float[np.ndarray, "N 3"], camera_down: Float[np.ndarray, "V 3"]
) -> Float[np.ndarray, "3"]:
    """Direction in which things fall, from what rooms and people have in common.

    People hold cameras roughly upright, so the mean image-down direction is the first guess. Rooms consist of floors
    and walls, so of the surface normals within 45 degrees of it the one is taken that is parallel or perpendicular
    (within 5 degrees) to most others, refined over those by least squares.

    Args:
        normals: Unit surface normals, world frame.
        camera_down: The cameras' y axes, world frame.

    Raises:
        ValueError: the cameras' down directions cancel.
    """
    prior = camera_down.mean(axis=0)
    length = np.linalg.norm(prior)
    if length < 0.1:
        raise ValueError(
            "To estimate gravity the cameras must be held roughly upright: their image-down directions cancel. Pass "
            "--gravity 'x y z'."
        )
    prior = prior / length
    normals = normals[:: max(1, len(normals) // 50_000)].astype(np.float64)
    candidates = normals[np.abs(normals @ prior) > SEARCH_COSINE]
    candidates = np.concatenate([prior[None], candidates[:: max(1, len(candidates) // NUM_CANDIDATES)]])
    best = candidates[_support(normals, candidates, np.deg2rad(5)).argmax()]
    for angle in np.deg2rad((5.0, 3.0, 3.0)):
        cosine = normals @ best
        parallel, perpendicular = np.abs(cosine) > np.cos(angle), np.abs(cosine) < np.sin(angle)
        scatter = normals[perpendicular].T @ normals[perpendicular] - normals[parallel].T @ normals[parallel]
        refined = np.linalg.eigh(scatter)[1][:, 0]
        if np.abs(refined @ best) < np.cos(2 * angle):  # too few surfaces to tell
            break
        best = refined
    return best if best @ prior > 0 else -best


def _support(
    normals: Float[np.ndarray, "N 3"], candidates: Float[np.ndarray, "M 3"], angle: float
) -> Float[np.ndarray, " M"]:
    """Number of normals parallel to each candidate, plus half the number of perpendicular ones."""
    support = np.zeros(len(candidates))
    for start in range(0, len(normals), 8192):  # bounds the memory of the product
        cosine = np.abs(normals[start : start + 8192] @ candidates.T)
        support += (cosine > np.cos(angle)).sum(axis=0) + 0.5 * (cosine < np.sin(angle)).sum(axis=0)
    return support


def upright_from_world(down: Float[np.ndarray, "3"]) -> Float[np.ndarray, "4 4"]:
    """The smallest rotation that turns ``down`` (unit) to (0, 0, -1), as a 4x4 matrix."""
    target = np.array([0.0, 0.0, -1.0])
    axis = np.cross(down, target)
    cosine = float(down @ target)
    matrix = np.eye(4)
    if cosine < -1 + 1e-9:  # upside down: half a turn about x
        matrix[:3, :3] = np.diag([1.0, -1.0, -1.0])
        return matrix
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    matrix[:3, :3] = np.eye(3) + cross + cross @ cross / (1 + cosine)
    return matrix
