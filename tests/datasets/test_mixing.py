"""Mix3D: every point stays where it was, in a voxel of its own, and instances stay apart."""

import numpy as np
import pytest

from pointcept.datasets.mixing import MixingCollate, mix_pairs, mixed
from pointcept.datasets.transforms import CenterShift, Collect, GridSample, RandomRotate, apply_transforms
from pointcept.structures import PointSample

SIZE = 0.1


def scene(seed: int, condition: str = "ScanNet", num_points: int = 3000, size: float = SIZE, views=None) -> PointSample:
    rng = np.random.default_rng(seed)
    coord = rng.uniform(0, 1, (num_points, 3)) * (2.0, 1.5, 0.7) + rng.uniform(-1, 1, 3) * (3, 3, 0.1)
    point = {
        "color": rng.uniform(0, 255, (num_points, 3)).astype(np.float32),
        "segment": rng.integers(-1, 5, num_points),
        "instance": rng.integers(-1, 4, num_points),
    }
    sample = PointSample(
        coord=coord.astype(np.float32),
        point=point,
        scene={"name": f"scene{seed}", "condition": condition},
        views=views,
        seed=seed,
    )
    transforms = [GridSample(size), CenterShift(apply_z=False), Collect(("color",))]
    return apply_transforms(sample, transforms, rng)


def test_the_merged_scene_has_one_voxel_grid():
    first, second = scene(1), scene(2)
    both = mixed(first, second, np.random.default_rng(0))
    grid = both.point["grid_coord"]
    assert len(np.unique(grid, axis=0)) == len(grid) and (grid.min(axis=0) == 0).all()
    # One lattice for both: a voxel's index says where its points are, up to the half voxel that the second was moved.
    offset = both.coord - grid * SIZE
    assert (offset.max(axis=0) - offset.min(axis=0) < 2 * SIZE).all()
    assert (offset.max(axis=0) - offset.min(axis=0) > SIZE / 2).all()


def test_each_scene_keeps_its_points_but_where_both_have_one():
    first, second = scene(1), scene(2)
    both = mixed(first, second, np.random.default_rng(0))
    rows = {tuple(row) for row in np.concatenate([both.coord, both.point["feat"]], axis=1).tolist()}
    kept = [
        sum(tuple(row) in rows for row in np.concatenate([s.coord, s.point["feat"]], axis=1).tolist())
        for s in (first, second)
    ]
    assert sum(kept) == both.num_points
    shared = first.num_points + second.num_points - both.num_points
    assert 0 < shared < min(first.num_points, second.num_points)
    lost = [first.num_points - kept[0], second.num_points - kept[1]]
    assert sum(lost) == shared and min(lost) > shared / 4  # drawn, not always the same scene's


def test_scenes_apart_share_nothing():
    first, second = scene(1), scene(2)
    second = second.moved(np.array([[1, 0, 0, 50.03], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    both = mixed(first, second, np.random.default_rng(0))
    assert both.num_points == first.num_points + second.num_points
    extent = np.ptp(both.point["grid_coord"], axis=0) * SIZE
    np.testing.assert_allclose(extent, np.ptp(both.coord, axis=0), atol=1.5 * SIZE)


def test_instances_are_kept_apart():
    first, second = scene(1), scene(2)
    second = second.moved(np.diag([1, 1, 1, 1.0]) + np.array([[0, 0, 0, 50.0], [0] * 4, [0] * 4, [0] * 4]))
    both = mixed(first, second, np.random.default_rng(0))
    ids = both.point["instance"]
    assert set(ids[: first.num_points]) == {-1, 0, 1, 2, 3} and set(ids[first.num_points :]) == {-1, 4, 5, 6, 7}
    np.testing.assert_array_equal(ids[first.num_points :] < 0, second.point["instance"] < 0)


def test_a_scene_without_instances_leaves_the_others_ids():
    first, second = scene(1), scene(2)
    first = first.with_point(instance=np.full(first.num_points, -1))
    both = mixed(first, second, np.random.default_rng(0))
    assert set(both.point["instance"]) == {-1, 0, 1, 2, 3}


def test_pairs_are_of_one_data_set_and_an_odd_scene_stays():
    samples = [scene(1), scene(2, "S3DIS"), scene(3), scene(4), scene(5, "S3DIS")]
    names = [sample.name for sample in mix_pairs(samples, np.random.default_rng(0))]
    assert names == ["scene1+scene3", "scene2+scene5", "scene4"]


def test_batches_are_merged_as_often_as_asked_and_by_their_seeds():
    samples = [scene(seed) for seed in range(1, 5)]
    assert MixingCollate(0.0)(samples).batch_size == 4
    assert MixingCollate(1.0)(samples).batch_size == 2
    small = [scene(seed, num_points=3) for seed in range(2)]

    def merged(seed: int) -> bool:
        for index, sample in enumerate(small):
            sample.seed = 2 * seed + index
        return MixingCollate(0.7)(small).batch_size == 1

    drawn = [merged(seed) for seed in range(400)]
    assert 0.6 < np.mean(drawn) < 0.8
    assert drawn == [merged(seed) for seed in range(400)]


def test_what_cannot_be_merged_is_named():
    first, second = scene(1), scene(2)
    rng = np.random.default_rng(0)
    turned = RandomRotate((0.25, 0.25), "z", (0, 0, 0), p=1.0)(second, rng)
    with pytest.raises(ValueError, match=r"must lie in their voxels of 0\.1 m: scene 'scene2' has points .* m off"):
        mixed(first, turned, rng)
    with pytest.raises(
        ValueError, match=r"same point data and voxel size: 'scene1' has .* and 0\.1 m, 'scene3' has .*0\.2 m"
    ):
        mixed(first, scene(3, size=0.2), rng)
    plain = PointSample(coord=np.zeros((1, 3), np.float32), scene={"name": "attic"})
    with pytest.raises(ValueError, match=r"needs their voxel grid: scene 'attic' has none\. Use GridSample"):
        mixed(first, plain, rng)
    known = GridSample(SIZE, return_inverse=True)(plain, rng)
    with pytest.raises(ValueError, match=r"needs training clouds alone: scene 'attic' knows its original points"):
        mixed(first, known, rng)
