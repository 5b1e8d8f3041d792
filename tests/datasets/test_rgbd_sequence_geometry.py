"""Normals, registration, fusion, thinning, resizing and gravity against values known by construction."""

import numpy as np
import pytest

from pointcept.datasets.preprocessing.fusion import CloudFusion, depth_normals
from pointcept.datasets.preprocessing.gravity import estimate_gravity, upright_from_world
from pointcept.datasets.preprocessing.images import depth_edges, resize_color, resize_depth, resize_intrinsic
from pointcept.datasets.preprocessing.registration import ColorCalibration, nearest_depth, pixel_rays, register_color
from pointcept.datasets.preprocessing.thinning import draw_to_surface

SIZE = (60, 80)
INTRINSIC = np.array([[70.0, 0, 39.5], [0, 72.0, 29.5], [0, 0, 1]])


def plane_depth(normal, offset, intrinsic=INTRINSIC, size=SIZE):
    """z-depth of the plane normal . X = offset."""
    return (offset / (pixel_rays(intrinsic, size) @ np.asarray(normal, dtype=float))).astype(np.float32)


def unit(*values):
    return np.array(values) / np.linalg.norm(values)


@pytest.mark.parametrize("normal", [unit(0, 0, 1), unit(1, 0, 1), unit(0.5, -1.5, 1)])
def test_normals_of_a_plane_are_exact_in_spite_of_holes(normal):
    depth = plane_depth(normal, 2.0)
    depth[np.random.default_rng(0).random(SIZE) < 0.2] = 0
    depth[(depth < 0) | (depth > 20)] = 0
    normals, valid = depth_normals(depth, INTRINSIC)
    assert valid.sum() > 300
    assert not valid[depth == 0].any()
    np.testing.assert_allclose(normals[valid], np.broadcast_to(-normal, (valid.sum(), 3)), atol=1e-4)


def test_no_normal_mixes_two_surfaces():
    # Left a plane at 1 m, right a slanted one behind it: near the jump no normal is invented.
    right = np.arange(SIZE[1]) >= 40
    slanted = unit(0.5, 0, 1)
    depth = np.where(right, plane_depth(slanted, 2.5), plane_depth(unit(0, 0, 1), 1.0)).astype(np.float32)
    normals, valid = depth_normals(depth, INTRINSIC)
    expected = np.where(right[None, :, None], -slanted, -unit(0, 0, 1)) * np.ones((*SIZE, 1))
    np.testing.assert_allclose(normals[valid], expected[valid], atol=1e-4)
    column_has_points = valid.any(axis=0)
    assert not column_has_points[38:42].any()  # edge pixels 39 and 40, and one beside each
    assert column_has_points[[37, 42]].all()


def test_grazing_surfaces_are_left_out():
    # Seen through a tele lens, whose rays differ by 1 degree, at 76 and at 81 degrees from the normal; the limit is 78.
    tele = np.array([[4000.0, 0, 39.5], [0, 4000.0, 29.5], [0, 0, 1]])
    for angle_deg, is_kept in ((76, True), (81, False)):
        angle = np.deg2rad(angle_deg)
        _, valid = depth_normals(plane_depth([np.sin(angle), 0, np.cos(angle)], 0.5, tele), tele)
        assert valid[5:-5, 5:-5].all() == is_kept and valid.any() == is_kept


def two_layers(size, intrinsic, offset_x, front_half_width=0.2, front=1.0, back=2.0):
    """A green square before a background of vertical stripes, seen by a camera moved by offset_x."""
    rays = pixel_rays(intrinsic, size)
    at_front, at_back = rays * front + [offset_x, 0, 0], rays * back + [offset_x, 0, 0]
    is_front = (np.abs(at_front[..., :2]) < front_half_width).all(axis=-1)
    color = np.stack([127 + 100 * np.sin(6 * at_back[..., 0]), 0 * at_back[..., 0], np.full(size, 60.0)], axis=-1)
    color[is_front] = (0, 255, 0)
    depth = np.where(is_front, front, back).astype(np.float32)
    return np.rint(color).astype(np.uint8), depth, is_front


def test_registration_moves_the_colour_edge_onto_the_depth_edge():
    color_intrinsic = np.array([[120.0, 0, 79.5], [0, 118.0, 59.5], [0, 0, 1]])
    baseline = 0.06
    color, _, _ = two_layers((120, 160), color_intrinsic, baseline)
    expected, depth, is_front = two_layers(SIZE, INTRINSIC, 0.0)
    color_from_depth = np.eye(4)
    color_from_depth[0, 3] = -baseline
    registered, seen = register_color(
        color, depth, INTRINSIC, ColorCalibration(None, color_intrinsic, color_from_depth)
    )

    is_green = registered[..., 1] > 127
    wrong = is_green != is_front
    # Without registration the shift is 4.2 px at the front edge; after it, only bilinear mixing along the edge is left.
    assert (wrong & ~depth_edges(depth)).sum() == 0
    difference = np.abs(registered.astype(int) - expected).max(axis=-1)
    assert difference[seen & ~depth_edges(depth)].max() <= 6
    # The strip of background behind the square's left side is hidden from the colour camera, which is to the right.
    # Its width is baseline * f * (1 / front - 1 / back) = 0.06 * 70 * 0.5 = 2.1 px.
    hidden = ~seen & (np.abs(pixel_rays(INTRINSIC, SIZE)[..., 0]) < 0.35)
    rows = slice(18, 42)
    left, right = hidden[rows, :40].sum(axis=1), hidden[rows, 40:].sum(axis=1)
    assert (left >= 2).all() and (left <= 6).all() and (right <= 2).all()
    assert not is_green[hidden & ~is_front & ~depth_edges(depth)].any()  # background is lent by background


def test_registration_leaves_no_holes():
    color = np.full((50, 50, 3), 200, np.uint8)
    calibration = ColorCalibration(None, np.array([[40.0, 0, 24.5], [0, 40, 24.5], [0, 0, 1]]), np.eye(4))
    depth = np.zeros(SIZE, np.float32)
    registered, seen = register_color(color, depth, INTRINSIC, calibration)  # no depth at all
    assert (registered == 200).all() and not seen.any()
    depth[20:30, 20:30] = 1.5
    registered, seen = register_color(color, depth, INTRINSIC, calibration)
    assert (registered == 200).all()
    np.testing.assert_array_equal(seen, depth > 0)


def test_registration_behind_the_colour_camera_counts_as_unseen():
    color_from_depth = np.eye(4)
    color_from_depth[2, 3] = -3.0
    calibration = ColorCalibration(None, INTRINSIC, color_from_depth)
    _, seen = register_color(np.zeros((*SIZE, 3), np.uint8), np.full(SIZE, 2, np.float32), INTRINSIC, calibration)
    assert not seen.any()


def test_nearest_depth_keeps_the_nearest_of_each_cell():
    pixel = np.array([[0.4, 0.0], [-0.4, 0.2], [3.0, 1.0], [4.0, 0.0], [0.0, -0.6]])
    buffer = nearest_depth(pixel, np.array([2.0, 1.0, 5.0, 0.1, 0.1]), (2, 4))
    np.testing.assert_array_equal(buffer, [[1, np.inf, np.inf, np.inf], [np.inf, np.inf, np.inf, 5]])


def test_voxel_averages_by_hand():
    # Two fronto-parallel frames of one plane, 2 mm apart in depth and 20 apart in colour: every voxel that both
    # cover alike lies in the middle.
    fusion = CloudFusion(0.1)
    for depth, value in ((1.049, 100), (1.051, 120)):
        fusion.add_frame(np.full((*SIZE, 3), value, np.uint8), np.full(SIZE, depth, np.float32), INTRINSIC, np.eye(4))
    cloud = fusion.cloud(2)
    np.testing.assert_allclose(cloud.coord[:, 2], 1.05, atol=1e-4)
    np.testing.assert_allclose(cloud.normal, np.broadcast_to([0, 0, -1], cloud.coord.shape), atol=1e-5)
    np.testing.assert_allclose(cloud.color, 110, atol=1)
    voxels = np.floor(cloud.coord / 0.1)
    assert len(np.unique(voxels, axis=0)) == len(voxels)  # one point per voxel


def test_points_seen_too_rarely_are_left_out():
    fusion = CloudFusion(0.05)
    color = np.zeros((*SIZE, 3), np.uint8)
    fusion.add_frame(color, np.full(SIZE, 1.0, np.float32), INTRINSIC, np.eye(4))
    half = np.where(np.arange(SIZE[1]) < 40, 1.0, 0).astype(np.float32) * np.ones((SIZE[0], 1), np.float32)
    fusion.add_frame(color, half, INTRINSIC, np.eye(4))
    assert fusion.cloud(1).coord[:, 0].max() > 0.4
    assert fusion.cloud(2).coord[:, 0].max() < 0.05
    with pytest.raises(ValueError, match=r"none of .* voxels was seen in 3 frames. Lower --min-observations"):
        fusion.cloud(3)
    with pytest.raises(ValueError, match=r"voxel size must be positive: got 0.0 m"):
        CloudFusion(0.0)


def test_merging_early_changes_nothing(monkeypatch):
    clouds = []
    for limit in (10**9, 1):
        monkeypatch.setattr("pointcept.datasets.preprocessing.fusion.MERGE_ROWS", limit)
        fusion = CloudFusion(0.05)
        for shift in (0.0, 0.03, 0.06):
            pose = np.eye(4)
            pose[0, 3] = shift
            fusion.add_frame(np.full((*SIZE, 3), 9, np.uint8), plane_depth(unit(0.3, 0.2, 1), 1.0), INTRINSIC, pose)
        clouds.append(fusion.cloud(2))
    np.testing.assert_allclose(clouds[0].coord, clouds[1].coord, atol=1e-6)
    np.testing.assert_array_equal(clouds[0].color, clouds[1].color)


def grid_plane(spacing, extent):
    x, y = np.meshgrid(np.arange(0, extent, spacing), np.arange(0, extent, spacing))
    return np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=-1)


def test_thinning_draws_noisy_layers_together_but_not_the_sides_of_a_board():
    rng = np.random.default_rng(1)
    noisy = grid_plane(0.01, 0.6)
    noisy[:, 2] += rng.normal(0, 0.01, len(noisy))
    back = grid_plane(0.02, 0.6) - [0, 0, 0.05]  # the other side of a board of 5 cm, within the radius of 6 cm
    coord = np.concatenate([noisy, back])
    normal = np.repeat([[0.0, 0, 1], [0, 0, -1]], [len(noisy), len(back)], axis=0)
    moved, new_normal = draw_to_surface(coord, normal, np.ones(len(coord)), 0.02)
    front, back_side = moved[: len(noisy)], moved[len(noisy) :]
    assert front[:, 2].std() < 0.2 * noisy[:, 2].std()
    np.testing.assert_allclose(back_side, back, atol=1e-9)
    np.testing.assert_allclose(front[:, :2], noisy[:, :2], atol=1e-9)
    np.testing.assert_allclose(new_normal, normal, atol=1e-9)


def test_thinning_in_chunks_changes_nothing(monkeypatch):
    rng = np.random.default_rng(2)
    coord = grid_plane(0.02, 0.4) + rng.normal(0, 0.005, (400, 3))
    normal = np.tile([[0.0, 0, 1]], (400, 1))
    whole = draw_to_surface(coord, normal, np.ones(400), 0.02)
    monkeypatch.setattr("pointcept.datasets.preprocessing.thinning.CHUNK_POINTS", 37)
    for first, second in zip(whole, draw_to_surface(coord, normal, np.ones(400), 0.02), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("size", [(30, 40), (45, 100), (120, 160)])
def test_resized_depth_of_a_plane_is_that_of_the_resized_camera(size):
    normal = unit(0.4, -0.3, 1)
    intrinsic = resize_intrinsic(INTRINSIC, SIZE, size)
    resized = resize_depth(plane_depth(normal, 1.5), size)
    expected = plane_depth(normal, 1.5, intrinsic, size)
    inner = (slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(resized[inner], expected[inner], rtol=1e-5)


def test_resized_depth_mixes_no_surfaces_and_no_holes():
    depth = np.where(np.arange(80) < 41, 1.0, 3.0).astype(np.float32) * np.ones((60, 1), np.float32)
    depth[:, 10] = 0
    assert set(np.unique(resize_depth(depth, (25, 33)))) <= {0.0, 1.0, 3.0}
    np.testing.assert_array_equal(resize_depth(depth, SIZE), depth)


def test_resized_colour_moves_with_the_intrinsics():
    ramp = np.repeat((3 * np.arange(80, dtype=np.uint8))[None, :, None], 60, axis=0).repeat(3, axis=2)
    half = resize_color(ramp, (30, 40))
    # Pixel x of the half image covers 2x and 2x + 1, so its centre is at 2x + 0.5.
    np.testing.assert_allclose(half[15, 5:35, 0], 3 * (2 * np.arange(5, 35) + 0.5), atol=1)
    point = np.array([0.1, 0.2, 1.0])
    old, new = INTRINSIC @ point, resize_intrinsic(INTRINSIC, SIZE, (30, 40)) @ point
    np.testing.assert_allclose(new[:2], (old[:2] - 0.5) / 2)


@pytest.mark.parametrize("down", [unit(0, 0, -1), unit(0, 0, 1), unit(0, 1, 0), unit(1, -2, 0.5)])
def test_upright_rotation_turns_down_to_minus_z(down):
    matrix = upright_from_world(down)
    np.testing.assert_allclose(matrix[:3, :3] @ down, [0, 0, -1], atol=1e-12)
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)


def test_gravity_from_floor_and_walls_in_spite_of_tilted_cameras():
    rng = np.random.default_rng(3)
    down = unit(0.3, -0.2, 0.9)
    level = upright_from_world(down)[:3, :3].T  # world from level
    floor = np.tile([0.0, 0, 1], (2000, 1)) + rng.normal(0, 0.02, (2000, 3))
    wall = np.tile([0.6, 0.8, 0], (1500, 1)) + rng.normal(0, 0.02, (1500, 3))
    clutter = rng.normal(size=(1500, 3))
    normals = np.concatenate([floor, wall, clutter])
    normals = (normals / np.linalg.norm(normals, axis=1, keepdims=True)) @ level.T
    cameras = np.stack([unit(0.5, 0.1, -1), unit(0.3, 0.2, -1), unit(0.4, -0.1, -1)]) @ level.T  # tilted by 20 degrees
    estimate = estimate_gravity(normals, cameras)
    assert np.rad2deg(np.arccos(estimate @ down)) < 0.5


def test_gravity_needs_upright_cameras():
    with pytest.raises(ValueError, match=r"image-down directions cancel. Pass --gravity"):
        estimate_gravity(np.eye(3), np.array([[0, 1.0, 0], [0, -1.0, 0]]))


def test_gravity_without_surfaces_is_the_cameras_mean():
    estimate = estimate_gravity(np.zeros((0, 3)), np.array([[0, 1.0, 0]]))
    np.testing.assert_allclose(estimate, [0, 1, 0], atol=1e-12)
