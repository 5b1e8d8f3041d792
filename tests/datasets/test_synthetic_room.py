import dataclasses

import numpy as np
import pytest
from scipy.spatial import cKDTree

from pointcept.datasets.frames import held_out
from pointcept.datasets.labels import SCANNET20_NAMES, scannet20_from_nyu40
from pointcept.datasets.synthetic.cameras import look_at, pinhole
from pointcept.datasets.synthetic.fusion import fuse
from pointcept.datasets.synthetic.primitives import Surface, cast_rays, describe_hits
from pointcept.datasets.synthetic.recipes import ROOM_KINDS, furnish
from pointcept.datasets.synthetic.room import RoomSettings, generate_room
from pointcept.datasets.synthetic.sensor import Sensor, measure_depth
from pointcept.datasets.synthetic.textures import PATTERNS, Material, albedo

SETTINGS = RoomSettings(image_size=(30, 40), num_frames=10, holdout_every=5)


@pytest.fixture(scope="module")
def room():
    return generate_room(3, "train", 0, SETTINGS)


def unproject(room, depth):
    """World points of all pixels, written out in full: pixel (0, 0) has its centre at (0, 0)."""
    views, height, width = depth.shape
    row, column = np.mgrid[:height, :width]
    x = (column - room.intrinsic[0, 2]) / room.intrinsic[0, 0] * depth
    y = (row - room.intrinsic[1, 2]) / room.intrinsic[1, 1] * depth
    camera = np.stack([x, y, depth], axis=-1).reshape(views, -1, 3)
    world = camera @ room.world_from_camera[:, :3, :3].transpose(0, 2, 1) + room.world_from_camera[:, None, :3, 3]
    return world.reshape(views, height, width, 3)


def test_pixels_unproject_onto_the_surface_they_see_with_its_label(room):
    point = unproject(room, room.true_depth).reshape(-1, 3)
    eye = np.repeat(room.world_from_camera[:, :3, 3], 30 * 40, axis=0)
    distance, index = cast_rays(room.furnished.primitives, eye, point - eye)
    np.testing.assert_allclose(distance, 1.0, atol=1e-9)
    np.testing.assert_array_equal(room.furnished.primitives.label[index], room.label.ravel())
    np.testing.assert_array_equal(room.furnished.primitives.instance[index], room.instance.ravel())
    unit = describe_hits(room.furnished.primitives, index, point).unit
    assert np.abs(np.abs(unit).max(axis=1)).max() <= 1 + 1e-6


def test_measured_depth_is_true_depth_within_noise(room):
    seen = room.depth > 0
    error = np.abs(room.depth - room.true_depth)[seen]
    sensor = Sensor()
    bound = sensor.sigma(room.true_depth[seen])
    step = np.maximum(sensor.step_per_m2 * room.true_depth[seen] ** 2, 0.001)
    assert (error <= 6 * bound + step).all()
    assert (error > 0).mean() > 0.9


def test_some_depth_is_missing_but_most_is_there(room):
    missing = (room.depth == 0).reshape(len(room.depth), -1).mean(axis=1)
    assert 0.02 < missing.mean() < 0.35
    assert missing.max() < 0.8


def test_cameras_stand_in_free_space_and_see_surfaces_at_sensible_depth(room):
    eye = room.world_from_camera[:, :3, 3]
    size, obstacles = room.furnished.size, room.furnished.obstacles
    assert (eye > 0.1).all() and (eye < size - 0.1).all()
    assert (eye[:, 2] >= 1.0).all() and (eye[:, 2] <= 1.8).all()
    outside = np.maximum(np.maximum(obstacles[:, 0] - eye[:, None], eye[:, None] - obstacles[:, 1]), 0)
    assert np.linalg.norm(outside, axis=2).min() > 0.1
    assert np.median(room.true_depth) > 0.8 and room.true_depth.max() < np.linalg.norm(size)
    rotation = room.world_from_camera[:, :3, :3]
    np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), np.tile(np.eye(3), (10, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0)
    assert (rotation[:, 2, 1] < 0).all()  # the image's down points to the floor


def test_the_same_surface_looks_alike_from_two_views(room):
    point = unproject(room, room.true_depth)[0].reshape(-1, 3)
    differences = []
    for view in range(1, 10):
        pose = room.world_from_camera[view]
        camera = (point - pose[:3, 3]) @ pose[:3, :3]
        pixel = camera @ room.intrinsic.T
        column, row = np.rint(pixel[:, :2] / pixel[:, 2:]).astype(int).T
        inside = (camera[:, 2] > 0.1) & (column >= 0) & (column < 40) & (row >= 0) & (row < 30)
        row, column, depth = row[inside], column[inside], camera[inside, 2]
        same = np.abs(room.true_depth[view][row, column] - depth) < 0.02
        first = room.color[0].reshape(-1, 3)[inside][same].astype(int)
        differences.append(np.abs(first - room.color[view][row, column][same]).mean(axis=1))
    differences = np.concatenate(differences)
    assert len(differences) > 200
    assert np.median(differences) < 10


def test_the_cloud_holds_the_fused_frames_and_nothing_of_the_held_out_ones():
    settings = dataclasses.replace(SETTINGS, voxel_size=0.001, max_points=10**6)
    room = generate_room(3, "train", 1, settings)
    seen, point = room.depth > 0, unproject(room, room.depth)
    is_held_out = held_out(10, 5)
    np.testing.assert_array_equal(np.flatnonzero(is_held_out), [4, 9])
    fused, hidden = point[~is_held_out][seen[~is_held_out]], point[is_held_out][seen[is_held_out]]
    assert len(room.cloud.coord) <= len(fused)
    to_cloud = cKDTree(room.cloud.coord)
    # Points share a voxel of 1 mm now and then; otherwise a fused pixel is a point of the cloud, up to float32.
    assert (to_cloud.query(fused)[0] < 0.001 * np.sqrt(3)).all()
    assert (to_cloud.query(hidden)[0] < 1e-6).mean() < 0.01
    assert (cKDTree(fused).query(room.cloud.coord)[0] < 0.001 * np.sqrt(3)).all()


def test_the_cloud_lies_on_the_surfaces_and_carries_their_labels(room):
    cloud = room.cloud
    assert cloud.coord.dtype == np.float32 and cloud.color.dtype == np.uint8
    np.testing.assert_allclose(np.linalg.norm(cloud.normal, axis=1), 1.0, atol=1e-5)
    floor = cloud.label == 2
    assert np.abs(cloud.coord[floor, 2]).mean() < 0.02
    assert (cloud.normal[floor, 2] > 0.7).mean() > 0.98
    walls = cloud.label == 1
    assert set(np.unique(cloud.instance[walls])) == {-1}
    assert (cloud.instance[cloud.label == 6] >= 0).all()


def test_few_points_are_kept_when_few_are_asked_for():
    cloud = generate_room(3, "train", 0, dataclasses.replace(SETTINGS, max_points=500)).cloud
    assert len(cloud.coord) == len(cloud.color) == len(cloud.label) == 500


def arrays(room):
    cloud = dataclasses.asdict(room.cloud)
    return [room.color, room.depth, room.label, room.instance, room.world_from_camera, *cloud.values()]


def test_a_room_is_a_function_of_seed_split_and_number(room):
    again = generate_room(3, "train", 0, SETTINGS)
    for first, second in zip(arrays(room), arrays(again), strict=True):
        np.testing.assert_array_equal(first, second)
    for other in (generate_room(4, "train", 0, SETTINGS), generate_room(3, "val", 0, SETTINGS)):
        assert not np.array_equal(room.furnished.size, other.furnished.size)
        assert not np.array_equal(room.color, other.color)


def test_rooms_hold_the_classes_of_scannet():
    seen = set()
    for number in range(25):
        furnished = furnish(ROOM_KINDS[number % 5], np.random.default_rng(number))
        classes = scannet20_from_nyu40(furnished.primitives.label.astype(np.uint8))
        seen |= {SCANNET20_NAMES[k] for k in classes if k >= 0}
    assert seen == set(SCANNET20_NAMES)


def test_furniture_stays_inside_the_room():
    for number in range(10):
        furnished = furnish(ROOM_KINDS[number % 5], np.random.default_rng([7, number]))
        assert (furnished.obstacles[:, 0] > -0.02).all()
        assert (furnished.obstacles[:, 1] < furnished.size + 0.02).all()
        corners = furnished.primitives.corners()[furnished.primitives.instance >= 0]
        assert (corners > -0.1).all() and (corners < furnished.size + 0.1).all()


def test_depth_noise_grows_with_the_square_of_depth():
    rng, quiet = np.random.default_rng(0), np.zeros((200, 200))
    spread = {}
    for z in (1.0, 2.0, 4.0):
        depth = np.full((200, 200), z)
        measured = measure_depth(Sensor(), depth, np.ones((200, 200)), quiet, rng)
        valid = measured > 0
        spread[z] = measured[valid].std()
        assert measured[valid].mean() == pytest.approx(z, abs=0.001)
        np.testing.assert_allclose(measured * 1000, np.rint(measured * 1000), atol=1e-9)
    # sigma = 0.0005 + 0.0009 z^2, and the quantisation's variance, step^2 / 12 with step = 0.0012 z^2
    for z, value in spread.items():
        expected = np.hypot(0.0005 + 0.0009 * z**2, 0.0012 * z**2 / np.sqrt(12))
        assert value == pytest.approx(expected, rel=0.12)


def test_depth_goes_missing_at_edges_grazing_angles_and_out_of_range():
    sensor, rng = Sensor(dropout=0.0), np.random.default_rng(0)
    flat, facing, opaque = np.full((240, 240), 2.0), np.ones((240, 240)), np.zeros((240, 240))

    def lost(depth=flat, cosine=facing, missing=opaque):
        return measure_depth(sensor, depth, cosine, missing, rng) == 0

    assert lost().mean() < 0.03
    assert lost(depth=np.full((240, 240), 6.5)).all() and lost(depth=np.full((240, 240), 0.2)).all()
    assert lost(depth=np.full((240, 240), np.inf)).all()
    assert 0.75 < lost(cosine=np.full((240, 240), 0.05)).mean() < 0.95
    assert 0.4 < lost(missing=np.full((240, 240), 0.5)).mean() < 0.6
    step = np.where(np.arange(240) < 120, 2.0, 3.0) * np.ones((240, 1))
    assert lost(depth=step)[:, 119:121].mean() > 0.5
    # A slanted plane has no edges: 1/z is linear in the pixels.
    assert lost(depth=1.0 / np.linspace(0.2, 1.0, 240) * np.ones((240, 1))).mean() < 0.03


def test_fusion_averages_by_weight_and_takes_the_label_of_the_best():
    cloud = fuse(
        coord=np.array([[0.01, 0.0, 0.0], [0.05, 0.0, 0.0], [1.0, 0.0, 0.0]]),
        color=np.array([[100, 0, 0], [200, 0, 0], [7, 8, 9]], dtype=np.uint8),
        normal=np.eye(3),
        label=np.array([1, 2, 3], dtype=np.uint8),
        instance=np.array([4, 5, 6]),
        weight=np.array([1.0, 3.0, 1.0]),
        voxel_size=0.1,
        max_points=10,
        rng=np.random.default_rng(0),
    )
    np.testing.assert_allclose(cloud.coord, [[0.04, 0, 0], [1, 0, 0]], atol=1e-7)  # (0.01 + 3 * 0.05) / 4
    np.testing.assert_array_equal(cloud.color, [[175, 0, 0], [7, 8, 9]])
    np.testing.assert_array_equal(cloud.label, [2, 3])
    np.testing.assert_array_equal(cloud.instance, [5, 6])
    assert (cloud.normal[0] @ (0, 1, 0)) > 0.9


def test_fusion_of_nothing_is_an_empty_cloud():
    cloud = fuse(
        coord=np.zeros((0, 3)),
        color=np.zeros((0, 3), dtype=np.uint8),
        normal=np.zeros((0, 3)),
        label=np.zeros(0, dtype=np.uint8),
        instance=np.zeros(0, dtype=np.int64),
        weight=np.zeros(0),
        voxel_size=0.1,
        max_points=10,
        rng=np.random.default_rng(0),
    )
    assert cloud.coord.shape == (0, 3)


def flat_surface(position):
    """A horizontal face with these coordinates on it."""
    local = np.concatenate([position, np.ones((len(position), 1))], axis=1)
    up = np.tile((0.0, 0.0, 1.0), (len(position), 1))
    return Surface(local, up, local, np.clip(local, -1, 1), np.full(len(position), 2))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_varies_and_stays_in_range(pattern):
    position = np.random.default_rng(0).uniform(-1, 1, (4000, 2))
    material = Material(pattern, ((0.9, 0.2, 0.1), (0.1, 0.3, 0.8)), 0.2, seed=5)
    color = albedo([material], np.zeros(4000, dtype=np.int64), flat_surface(position), np.full(4000, 0.005))
    assert color.min() >= 0 and color.max() <= 1
    assert color.std(axis=0).max() > 0.01


def test_a_fine_pattern_fades_into_its_mean_with_distance():
    position = np.random.default_rng(0).uniform(-2, 2, (4000, 2))
    material = Material("checker", ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0)), 0.1)
    index = np.zeros(4000, dtype=np.int64)
    near, far = (albedo([material], index, flat_surface(position), np.full(4000, w)) for w in (0.001, 0.3))
    assert near[:, 0].std() > 0.45
    assert far[:, 0].std() < 0.1
    assert far[:, 0].mean() == pytest.approx(0.5, abs=0.03)


def test_cameras_by_hand():
    intrinsic = pinhole((120, 160), 90.0)
    np.testing.assert_allclose(intrinsic, [[80, 0, 79.5], [0, 80, 59.5], [0, 0, 1]])
    pose = look_at(np.array([[1.0, 2.0, 1.5]]), np.array([[3.0, 2.0, 1.5]]), np.zeros(1))[0]
    # Looking along +x: the image's right is -y, its down -z.
    np.testing.assert_allclose(pose, [[0, 0, 1, 1], [-1, 0, 0, 2], [0, -1, 0, 1.5], [0, 0, 0, 1]], atol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": (4, 40)}, r"image_size must be a height and a width of at least 8 pixels: got \(4, 40\)"),
        ({"num_frames": 0}, "num_frames must be at least 1: got 0"),
        ({"field_of_view_deg": 170.0}, r"field_of_view_deg must lie in 20\.\.120 degrees: got 170"),
        ({"voxel_size": 0.0}, r"voxel_size must lie in 0\.001\.\.1 metres: got 0"),
        ({"max_points": 0}, "max_points must be at least 1: got 0"),
        ({"holdout_every": 1}, "holdout_every must be at least 2"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        RoomSettings(**change)


def test_room_numbers_out_of_range_are_refused():
    with pytest.raises(ValueError, match="split must be one of train, val, test: got 'training'"):
        generate_room(0, "training", 0)
    with pytest.raises(ValueError, match="seed and index must not be negative: got -1 and 0"):
        generate_room(-1, "train", 0)
