"""Fragments and tiles: no point is left out, and none counts in two places."""

import numpy as np
import pytest

from pointcept.datasets.fragments import VoxelFragments, tiles


def cloud(seed: int, num_points: int = 300) -> np.ndarray:
    """Points of very different density: some voxels hold one, some dozens."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(num_points, 3)) ** 3).astype(np.float32)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("max_fragments", [None, 1, 3])
def test_every_point_is_predicted_and_by_its_own_voxel(seed, max_fragments):
    coord = cloud(seed)
    fragments = VoxelFragments(coord, 0.5, max_fragments)
    voxel_of_point = np.floor(coord.astype(np.float64) / 0.5).astype(np.int64)
    lowest = voxel_of_point.min(axis=0)
    times = np.zeros(len(coord), dtype=int)
    for index in range(len(fragments)):
        rows = fragments.rows(index)
        assert np.array_equal(voxel_of_point[rows] - lowest, fragments.grid_coord)  # one point of every voxel
        points, voxels = fragments.left_over(index)
        assert np.array_equal(voxel_of_point[points] - lowest, fragments.grid_coord[voxels])
        together = np.concatenate([rows, points])
        assert len(np.unique(together)) == len(together)
        times[together] += 1
    assert times.min() >= 1
    assert len(np.unique(fragments.grid_coord, axis=0)) == len(fragments.grid_coord)
    if max_fragments is None:
        assert len(fragments) == np.unique(voxel_of_point, axis=0, return_counts=True)[1].max()


def test_fragments_by_hand():
    coord = np.array([[0.1, 0, 0], [1.1, 0, 0], [0.2, 0, 0], [0.3, 0, 0]], dtype=np.float32)  # voxels of 3 and of 1
    fragments = VoxelFragments(coord, 1.0)
    assert [fragments.rows(index).tolist() for index in range(3)] == [[0, 1], [2, 1], [3, 1]]
    limited = VoxelFragments(coord, 1.0, max_fragments=2)
    assert [limited.rows(index).tolist() for index in range(2)] == [[0, 1], [2, 1]]
    assert [[part.tolist() for part in limited.left_over(index)] for index in range(2)] == [[[3], [0]], [[], []]]


@pytest.mark.parametrize("num_points", [1, 7, 64, 300])
@pytest.mark.parametrize("max_points", [1, 50, 300])
def test_tiles_share_out_the_points(num_points, max_points):
    coord = cloud(1, num_points)
    found = list(tiles(coord, max_points, overlap_m=0.3))
    assert np.array_equal(np.sort(np.concatenate([tile.core for tile in found])), np.arange(num_points))
    for tile in found:
        assert 1 <= len(tile.core) <= max_points
        assert np.array_equal(tile.context[tile.core_in_context], tile.core)
        low, high = coord[tile.core].min(axis=0) - 0.3, coord[tile.core].max(axis=0) + 0.3
        inside = ((coord >= low) & (coord <= high)).all(axis=1)
        assert len(found) == 1 or np.array_equal(np.flatnonzero(inside), tile.context)


def test_identical_points_are_still_shared_out():
    assert [len(tile.core) for tile in tiles(np.zeros((10, 3), np.float32), 4, 0.1)] == [2, 3, 2, 3]


def test_an_empty_cloud_has_no_voxels():
    assert len(VoxelFragments(np.zeros((0, 3), np.float32), 0.1).rows(0)) == 0
