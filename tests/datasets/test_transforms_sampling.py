import numpy as np
import pytest

from pointcept.datasets.transforms import (
    EmptyCloudError,
    GridSample,
    PointRangeFilter,
    RandomDropout,
    ShufflePoint,
    SphereCrop,
    apply_transforms,
)
from pointcept.datasets.transforms.sampling import voxel_keys
from pointcept.structures import PointSample


def make_sample(coord):
    coord = np.asarray(coord)
    return PointSample(coord=coord, point={"segment": np.arange(len(coord))}, scene={"name": "room"})


def random_sample(num_points, seed=0):
    return make_sample(np.random.default_rng(seed).uniform(-1, 1, (num_points, 3)).astype(np.float32))


SUBSETTING = [
    RandomDropout(0.8, 1.0),
    SphereCrop(point_max=30),
    SphereCrop(point_max=30, mode="center"),
    SphereCrop(sample_rate=0.3),
    PointRangeFilter((-0.5, -1, -1, 1, 1, 1)),
    GridSample(0.2),
    ShufflePoint(),
]


@pytest.mark.parametrize("transform", SUBSETTING, ids=lambda t: type(t).__name__)
def test_all_point_data_follows_its_point(transform):
    sample = random_sample(200)
    result = transform(sample, np.random.default_rng(0))
    kept = result.point["segment"]
    assert 0 < len(kept) <= 200 and len(set(kept)) == len(kept)
    np.testing.assert_array_equal(result.coord, sample.coord[kept])
    again = transform(sample, np.random.default_rng(0))
    np.testing.assert_array_equal(again.point["segment"], kept)
    np.testing.assert_array_equal(sample.point["segment"], np.arange(200))


@pytest.mark.parametrize("transform", SUBSETTING, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("num_points", [0, 1])
def test_empty_cloud_and_one_point_pass(transform, num_points):
    sample = make_sample(np.zeros((num_points, 3), np.float32))
    assert apply_transforms(sample, [transform], np.random.default_rng(0)).num_points == num_points


def test_empty_cloud_after_cropping_names_scene_and_transform():
    outside = PointRangeFilter((5, 5, 5, 6, 6, 6))
    with pytest.raises(
        EmptyCloudError, match=r"PointRangeFilter left none of the 10 points of scene 'room'\. Let it keep more"
    ):
        apply_transforms(random_sample(10), [ShufflePoint(), outside, ShufflePoint()], np.random.default_rng(0))


def test_dropout_keeps_the_share_it_says():
    sample = random_sample(1000)
    assert RandomDropout(0.8, 1.0)(sample, np.random.default_rng(0)).num_points == 200
    assert RandomDropout(0.8, 0.0)(sample, np.random.default_rng(0)) is sample
    assert RandomDropout(1.0, 1.0)(sample, np.random.default_rng(0)).num_points == 1


def test_sphere_crop_keeps_the_nearest_points():
    sample = random_sample(500)
    cropped = SphereCrop(point_max=50, mode="center")(sample, np.random.default_rng(0))
    center = (sample.coord.min(0) + sample.coord.max(0)) / 2
    distance = np.linalg.norm(sample.coord - center, axis=1)
    assert set(cropped.point["segment"]) == set(np.argsort(distance)[:50])
    assert SphereCrop(point_max=500)(sample, np.random.default_rng(0)) is sample


def test_range_filter_keeps_its_faces():
    sample = make_sample(np.array([[0, 0, 0], [1, 1, 1], [1.001, 1, 1], [0.5, 0.5, -0.001]], np.float32))
    result = PointRangeFilter((0, 0, 0, 1, 1, 1))(sample, np.random.default_rng(0))
    assert result.point["segment"].tolist() == [0, 1]


def test_grid_sample_by_hand():
    # Edge 0.1: voxel indices (-2, 0, 1), (-2, 0, 1), (0, 0, 0), minus their minimum (-2, 0, 0).
    coord = np.array([[-0.15, 0.05, 0.11], [-0.11, 0.09, 0.19], [0.0, 0.0, 0.0]], np.float32)
    result = GridSample(0.1, return_inverse=True)(make_sample(coord), np.random.default_rng(0))
    assert result.point["grid_coord"].tolist() == [[0, 0, 1], [2, 0, 0]]
    assert result.point["grid_coord"].dtype == np.int64
    assert result.point["segment"][0] in (0, 1) and result.point["segment"][1] == 2
    assert result.scene["inverse"].tolist() == [0, 0, 1]


def test_grid_sample_agrees_with_a_slow_twin():
    sample = random_sample(3000)
    result = GridSample(0.13, return_inverse=True)(sample, np.random.default_rng(0))
    grid = np.floor(sample.coord.astype(np.float64) / 0.13).astype(int)
    grid -= grid.min(0)
    voxels, inverse = np.unique(grid, axis=0, return_inverse=True)
    np.testing.assert_array_equal(result.point["grid_coord"], voxels)
    np.testing.assert_array_equal(result.scene["inverse"], inverse.reshape(-1))
    np.testing.assert_array_equal(grid[result.point["segment"]], voxels)


def test_every_point_of_a_voxel_is_drawn_equally_often():
    # Voxels of 1 to 7 points, 3000 copies of each: every point is expected in 1 of count draws.
    counts = np.repeat(np.arange(1, 8), 3000)
    voxel = np.repeat(np.arange(len(counts)), counts)
    position = np.arange(len(voxel)) - np.repeat(np.cumsum(counts) - counts, counts)
    coord = np.stack([voxel + 0.5, np.full(len(voxel), 0.5), np.full(len(voxel), 0.5)], axis=1)
    result = GridSample(1.0)(make_sample(coord), np.random.default_rng(0))
    drawn = position[result.point["segment"]]
    for count in range(1, 8):
        share = np.bincount(drawn[counts == count], minlength=count) / 3000
        np.testing.assert_allclose(share, 1 / count, atol=0.04)  # over 4 standard deviations


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_grid_sample_a_million_metres_away(dtype):
    # Multiples of 1/16 m are exact in float32 up to 2^20 m.
    near = np.array([[0, 0, 0], [0.0625, 0, 0], [0.5, 0.25, 0.125]])
    far = (near + np.array([1e6, -1e6, 1e6])).astype(dtype)
    result = GridSample(0.0625)(make_sample(far), np.random.default_rng(0))
    assert result.point["grid_coord"].tolist() == [[0, 0, 0], [1, 0, 0], [8, 4, 2]]


def test_two_clusters_a_million_metres_apart_do_not_collide():
    # 5e7 voxels along each axis: more than 2^63 cells together.
    rng = np.random.default_rng(0)
    near = rng.uniform(0, 0.5, (500, 3))
    coord = np.concatenate([near, near + 1e6, near - 1e6])
    result = GridSample(0.02)(make_sample(coord), np.random.default_rng(0))
    grid = np.floor(coord / 0.02).astype(np.int64)
    np.testing.assert_array_equal(result.point["grid_coord"], np.unique(grid, axis=0) - grid.min(0))


@pytest.mark.parametrize("extent", [8, 2**22, 2**40])
def test_voxel_keys_are_exact_and_ordered(extent):
    rng = np.random.default_rng(0)
    grid = rng.integers(0, extent, (300, 3))
    grid = np.concatenate([grid, grid[:50]])
    keys = voxel_keys(grid)
    _, by_key = np.unique(keys, return_inverse=True)
    _, by_row = np.unique(grid, axis=0, return_inverse=True)
    np.testing.assert_array_equal(by_key, by_row.reshape(-1))


def test_grid_coord_can_be_left_out():
    assert (
        "grid_coord" not in GridSample(0.1, return_grid_coord=False)(random_sample(9), np.random.default_rng(0)).point
    )


@pytest.mark.parametrize(
    "transform", [ShufflePoint(), SphereCrop(1), RandomDropout(0.5, 1)], ids=lambda t: str(type(t))
)
def test_no_transform_may_invalidate_the_inverse(transform):
    sampled = GridSample(0.1, return_inverse=True)(random_sample(50), np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"must come before GridSample\(return_inverse=True\).*'room'"):
        transform(sampled, np.random.default_rng(0))


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"grid_size must be a positive number of metres: got 0"):
        GridSample(grid_size=0)
    with pytest.raises(ValueError, match=r"point_max must be at least 1: got 0"):
        SphereCrop(point_max=0)
    with pytest.raises(ValueError, match=r"dropout_ratio must lie in 0..1: got 1.5"):
        RandomDropout(dropout_ratio=1.5)
    with pytest.raises(ValueError, match=r"point_cloud_range must be \(x_min"):
        PointRangeFilter((0, 0, 0, -1, 1, 1))
