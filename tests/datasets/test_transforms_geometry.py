import dataclasses

import numpy as np
import pytest

from pointcept.datasets.transforms import (
    CenterShift,
    RandomFlip,
    RandomJitter,
    RandomRotate,
    RandomRotateTargetAngle,
    RandomScale,
    RandomShift,
)
from pointcept.structures import PointSample, Views


def random_rotation(rng):
    q, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    return q * np.sign(np.linalg.det(q))


def make_sample(num_points=40, num_views=3, origin=(0.0, 0.0, 0.0), seed=0):
    """A cloud around ``origin`` and cameras that look at it from various sides."""
    rng = np.random.default_rng(seed)
    coord = (rng.uniform(-2, 2, (num_points, 3)) + origin).astype(np.float32)
    normal = rng.standard_normal((num_points, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    extrinsics = []
    for _ in range(num_views):
        camera_from_world = np.eye(4)
        camera_from_world[:3, :3] = random_rotation(rng)
        camera_from_world[:3, 3] = (0, 0, 6) - camera_from_world[:3, :3] @ np.asarray(origin)
        extrinsics.append(camera_from_world)
    views = Views(
        image=[np.zeros((4, 6, 3), np.uint8)] * num_views,
        depth=[np.full((4, 6), 1.5 + v, np.float32) for v in range(num_views)],
        intrinsic=np.tile([[500.0, 0, 320], [0, 510.0, 240], [0, 0, 1]], (num_views, 1, 1)),
        extrinsic=np.stack(extrinsics),
    )
    point = {"normal": normal.astype(np.float32), "segment": np.arange(num_points)}
    return PointSample(coord=coord, point=point, scene={"name": "room"}, views=views)


def project(sample):
    """Pixel (V, N, 2) and depth (V, N) of every point in every view."""
    coord = sample.coord.astype(np.float64)
    camera = np.einsum("vij,nj->vni", sample.views.extrinsic[:, :3, :3], coord) + sample.views.extrinsic[:, None, :3, 3]
    pixel = np.einsum("vij,vnj->vni", sample.views.intrinsic, camera)
    return pixel[..., :2] / pixel[..., 2:], camera[..., 2]


GEOMETRIC = [
    CenterShift(),
    CenterShift(apply_z=False),
    RandomShift(((-1.0, 1.0), (-2.0, 2.0), (-3.0, 3.0))),
    RandomRotate((-1, 1), "z", center=(0, 0, 0), p=1),
    RandomRotate((-1, 1), "z", p=1),
    RandomRotate((-1 / 64, 1 / 64), "x", p=1),
    RandomRotate((-1 / 64, 1 / 64), "y", p=1),
    RandomRotateTargetAngle((0.5, 1, 1.5), "y", center=(1, 2, 3), p=1),
    RandomScale((0.5, 2.0)),
    RandomFlip(p=1),
]


@pytest.mark.parametrize("transform", GEOMETRIC, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_points_keep_their_pixels_in_every_view(transform, seed):
    sample = make_sample(seed=seed, origin=(1.0, -3.0, 2.0))
    moved = transform(sample, np.random.default_rng(seed))
    pixel, depth = project(sample)
    new_pixel, new_depth = project(moved)
    assert not np.allclose(moved.coord, sample.coord)
    np.testing.assert_allclose(new_pixel, pixel, atol=1e-3)
    # Depth images follow the depth of the points: by the scale of the transform, 1 for rigid ones.
    scale = moved.views.depth[0][0, 0] / sample.views.depth[0][0, 0]
    np.testing.assert_allclose(new_depth, depth * scale, rtol=1e-5)
    np.testing.assert_allclose(np.stack(moved.views.depth), np.stack(sample.views.depth) * scale, rtol=1e-6)
    if not isinstance(transform, RandomScale):
        assert scale == 1


# The others move by the bounding box, which differs between the two clouds of this test.
ABOUT_FIXED_POINT = [t for t in GEOMETRIC if not isinstance(t, CenterShift) and getattr(t, "center", 0) is not None]


@pytest.mark.parametrize("transform", ABOUT_FIXED_POINT, ids=lambda t: type(t).__name__)
def test_normals_turn_with_the_points(transform):
    # A second cloud, displaced along the normals, must stay displaced along the normals.
    sample = make_sample()
    step = 0.5
    tips = dataclasses.replace(sample, coord=sample.coord + step * sample.point["normal"])
    moved = transform(sample, np.random.default_rng(3))
    moved_tips = transform(tips, np.random.default_rng(3))
    direction = moved_tips.coord - moved.coord
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    np.testing.assert_allclose(direction, moved.point["normal"], atol=1e-4)


@pytest.mark.parametrize("transform", [*GEOMETRIC, RandomJitter()], ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("num_points", [0, 1])
def test_empty_cloud_and_one_point_pass(transform, num_points):
    result = transform(make_sample(num_points), np.random.default_rng(0))
    assert result.coord.shape == (num_points, 3)
    assert np.isfinite(result.coord).all()


@pytest.mark.parametrize("transform", [*GEOMETRIC, RandomJitter()], ids=lambda t: type(t).__name__)
def test_input_is_not_changed_and_the_generator_decides(transform):
    sample = make_sample()
    before = sample.coord.copy(), sample.views.extrinsic.copy(), sample.point["normal"].copy()
    first = transform(sample, np.random.default_rng(7))
    again = transform(sample, np.random.default_rng(7))
    np.testing.assert_array_equal(first.coord, again.coord)
    np.testing.assert_array_equal(first.views.extrinsic, again.views.extrinsic)
    after = sample.coord, sample.views.extrinsic, sample.point["normal"]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


def test_center_shift_by_hand():
    coord = np.array([[1, 2, 3], [3, 6, 4]], np.float32)  # box centre (2, 4), floor 3
    sample = PointSample(coord=coord)
    np.testing.assert_allclose(CenterShift()(sample, np.random.default_rng(0)).coord, [[-1, -2, 0], [1, 2, 1]])
    np.testing.assert_allclose(
        CenterShift(apply_z=False)(sample, np.random.default_rng(0)).coord, [[-1, -2, 3], [1, 2, 4]]
    )


def test_center_shift_at_a_million_metres_keeps_millimetres():
    offset = np.array([1e6, -1e6, 1e6])
    near = np.array([[0, 0, 0], [1.001, 2.002, 3.003]])
    sample = dataclasses.replace(make_sample(2, origin=tuple(offset)), coord=near + offset)
    moved = CenterShift()(sample, np.random.default_rng(0))
    assert moved.coord.dtype == np.float32
    np.testing.assert_allclose(moved.coord[1] - moved.coord[0], near[1], atol=1e-6)
    np.testing.assert_allclose(project(moved)[0], project(sample)[0], atol=1e-3)


def test_rotation_by_hand():
    sample = PointSample(coord=np.array([[1, 0, 5], [2, 0, 5]], np.float32))
    quarter_turn = RandomRotate((0.5, 0.5), "z", center=(0, 0, 0), p=1)
    np.testing.assert_allclose(quarter_turn(sample, np.random.default_rng(0)).coord, [[0, 1, 5], [0, 2, 5]], atol=1e-6)
    about_box = RandomRotate((0.5, 0.5), "z", p=1)  # the centre (1.5, 0, 5) stays
    np.testing.assert_allclose(
        about_box(sample, np.random.default_rng(0)).coord, [[1.5, -0.5, 5], [1.5, 0.5, 5]], atol=1e-6
    )
    about_x = RandomRotate((0.5, 0.5), "x", center=(0, 0, 0), p=1)  # y -> z, z -> -y
    np.testing.assert_allclose(about_x(sample, np.random.default_rng(0)).coord, [[1, -5, 0], [2, -5, 0]], atol=1e-6)


def test_target_angles_are_the_only_ones_drawn():
    sample = PointSample(coord=np.array([[1, 0, 0], [3, 0, 0]], np.float32))
    transform = RandomRotateTargetAngle((0.5, 1), center=(0, 0, 0), p=1)
    rng = np.random.default_rng(0)
    ends = {tuple(np.round(transform(sample, rng).coord[0]).astype(int)) for _ in range(40)}
    assert ends == {(0, 1, 0), (-1, 0, 0)}


def test_probability_zero_returns_the_sample_itself():
    sample = make_sample()
    rng = np.random.default_rng(0)
    for transform in (RandomRotate(p=0), RandomRotateTargetAngle(p=0), RandomFlip(p=0)):
        assert transform(sample, rng) is sample


def test_flip_mirrors_each_axis_independently():
    sample = PointSample(coord=np.array([[1, 2, 3]], np.float32))
    rng = np.random.default_rng(0)
    seen = {tuple(RandomFlip(0.5)(sample, rng).coord[0].astype(int)) for _ in range(60)}
    assert seen == {(1, 2, 3), (-1, 2, 3), (1, -2, 3), (-1, -2, 3)}


def test_jitter_is_clipped_and_leaves_cameras():
    sample = make_sample(2000)
    moved = RandomJitter(sigma=0.02, clip=0.03)(sample, np.random.default_rng(0))
    noise = moved.coord - sample.coord
    assert np.abs(noise).max() <= 0.03 + 1e-6
    assert 0.015 < noise.std() < 0.02
    assert moved.views is sample.views


def test_anisotropic_scale_keeps_normals_perpendicular():
    sample = dataclasses.replace(make_sample(), views=None)
    rng = np.random.default_rng(1)
    other = rng.standard_normal(sample.coord.shape)
    tangent = np.cross(sample.point["normal"], other)
    tips = dataclasses.replace(sample, coord=(sample.coord + tangent).astype(np.float32))
    transform = RandomScale((0.5, 2.0), anisotropic=True)
    scaled, scaled_tips = (transform(s, np.random.default_rng(2)) for s in (sample, tips))
    np.testing.assert_allclose(((scaled_tips.coord - scaled.coord) * scaled.point["normal"]).sum(1), 0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(scaled.point["normal"], axis=1), 1, atol=1e-5)
    factor = scaled.coord / sample.coord
    assert np.ptp(factor, axis=0).max() < 1e-4  # one factor per axis
    assert np.ptp(factor[0]) > 0.1  # that differs between axes


def test_anisotropic_scale_of_a_scene_with_views_is_refused():
    with pytest.raises(ValueError, match=r"anisotropic=True\) needs a scene without views: 'room' has 3"):
        RandomScale(anisotropic=True)(make_sample(), np.random.default_rng(0))


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"p must lie in 0..1: got 2"):
        RandomFlip(p=2)
    with pytest.raises(ValueError, match=r"angle must be \(low, high\): got \(1, -1\)"):
        RandomRotate(angle=(1, -1))
    with pytest.raises(ValueError, match=r"scale must be positive: got \(0, 1\)"):
        RandomScale(scale=(0, 1))
    with pytest.raises(ValueError, match=r"shift must be 3 times \(low, high\)"):
        RandomShift(shift=((0, 1), (0, 1)))
    with pytest.raises(ValueError, match=r"angle must list at least one angle"):
        RandomRotateTargetAngle(angle=())
    with pytest.raises(ValueError, match=r"clip must be positive: got 0.1 and 0"):
        RandomJitter(sigma=0.1, clip=0)
