"""Thinning a fused cloud: noise spreads a surface over several layers of voxels; this draws them together."""

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

RADIUS_VOXELS = 3.0
NUM_NEIGHBORS = 48
NUM_ROUNDS = 2
# Neighbours count by this power of the cosine between the normals, so that neither edges are rounded nor the two sides
# of a board merged.
NORMAL_POWER = 4
CHUNK_POINTS = 100_000


def draw_to_surface(
    coord: Float[np.ndarray, "N 3"], normal: Float[np.ndarray, "N 3"], weight: Float[np.ndarray, " N"], voxel_m: float
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]]:
    """Move each point along its normal to the weighted mean plane of its neighbours of like normal, twice.

    A neighbour at distance d counts ``weight * exp(-2 (d / r)^2) * cos^4``, with r = 3 voxels and the angle between
    the normals; the normal becomes the mean normal by the same weights. Points of a plane stay where they are.

    Args:
        coord: Position, metres.
        normal: Unit normals.
        weight: How many measurements each point stands for.
        voxel_m: Distance of neighbouring points, metres.

    Returns:
        The new positions and unit normals.
    """
    radius = RADIUS_VOXELS * voxel_m
    for _ in range(NUM_ROUNDS):
        tree = cKDTree(coord)
        moved = [_one_round(tree, coord, normal, weight, radius, start) for start in range(0, len(coord), CHUNK_POINTS)]
        coord = np.concatenate([positions for positions, _ in moved])
        normal = np.concatenate([normals for _, normals in moved])
    return coord, normal


def _one_round(
    tree: cKDTree, coord: np.ndarray, normal: np.ndarray, weight: np.ndarray, radius: float, start: int
) -> tuple[np.ndarray, np.ndarray]:
    own_coord, own_normal = coord[start : start + CHUNK_POINTS], normal[start : start + CHUNK_POINTS]
    distance, index = tree.query(own_coord, k=NUM_NEIGHBORS, distance_upper_bound=radius)
    found = np.isfinite(distance)
    index, distance = np.where(found, index, 0), np.where(found, distance, 0)
    cosine = np.einsum("nkc,nc->nk", normal[index], own_normal)
    share = found * weight[index] * np.exp(-2 * (distance / radius) ** 2) * np.maximum(cosine, 0) ** NORMAL_POWER
    offset = np.einsum("nkc,nc->nk", coord[index] - own_coord[:, None], own_normal)
    shift = (share * offset).sum(axis=1) / share.sum(axis=1)  # the point itself is found: the sum is positive
    mean_normal = np.einsum("nk,nkc->nc", share, normal[index])
    mean_normal /= np.linalg.norm(mean_normal, axis=1, keepdims=True)
    return own_coord + shift[:, None] * own_normal, mean_normal
