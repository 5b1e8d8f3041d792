"""Normals of clouds that have none."""

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

_POINTS_AT_A_TIME = 65536


def estimate_normals(coord: Float[np.ndarray, "N 3"], neighbors: int = 16) -> Float[np.ndarray, "N 3"]:
    """Unit normals of planes through the nearest points, turned towards the centre of the cloud's box.

    A cloud with fewer than three points gets normals that point up.

    Args:
        coord: Metres.
        neighbors: Points of a plane, the point itself among them.
    """
    count = min(neighbors, len(coord))
    normal = np.tile(np.array([0, 0, 1], dtype=np.float32), (len(coord), 1))
    if count < 3:
        return normal
    local = coord.astype(np.float64) - (coord.min(axis=0) + coord.max(axis=0)) / 2
    tree = cKDTree(local)
    for start in range(0, len(local), _POINTS_AT_A_TIME):
        part = local[start : start + _POINTS_AT_A_TIME]
        _, index = tree.query(part, k=count)
        near = local[index] - local[index].mean(axis=1, keepdims=True)  # M K 3
        _, vectors = np.linalg.eigh(np.einsum("mki,mkj->mij", near, near))
        found = vectors[..., 0]  # of the smallest eigenvalue
        found = np.where((found * part).sum(axis=1, keepdims=True) > 0, -found, found)
        normal[start : start + _POINTS_AT_A_TIME] = found
    return normal
