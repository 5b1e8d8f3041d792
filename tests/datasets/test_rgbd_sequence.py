"""A small analytic room, written in each convention, converted and compared with itself."""

import dataclasses
import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from scipy.spatial.transform import Rotation

from pointcept.datasets.preprocessing import rgbd_sequence
from pointcept.datasets.preprocessing.images import depth_edges
from pointcept.datasets.preprocessing.options import SequenceOptions
from pointcept.datasets.preprocessing.registration import ColorCalibration
from pointcept.datasets.preprocessing.rgbd_sequence import convert

SIZE = (96, 128)
INTRINSIC = np.array([[110.0, 0, 63.5], [0, 110.0, 47.5], [0, 0, 1]])
BOX = np.array([[-0.4, 1.6, 0.0], [0.4, 2.2, 0.6]])
WALL_Y = 3.0
NUM_FRAMES = 12
HOLDOUT = 4
VOXEL = 0.05
# The sequence is stored in a frame of its own, as trackers do: gravity is along its (0.6, 0.8, 0).
DOWN = np.array([0.6, 0.8, 0.0])
SOURCE_FROM_ROOM = np.array([[0.8, 0, -0.6, 1.0], [-0.6, 0, -0.8, 2.0], [0, 1, 0, -3.0], [0, 0, 0, 1]])


@dataclasses.dataclass
class Rendered:
    """Frames of the room: z is up in the room, the poses are in the frame of the sequence."""

    color: list
    depth: list
    room_pose: list
    pose: list


def hit(origin, directions):
    """Depth (multiples of the direction) at which rays meet the floor z = 0, the wall or the box."""
    with np.errstate(divide="ignore", invalid="ignore"):
        floor = np.where(directions[..., 2] < 0, -origin[2] / directions[..., 2], np.inf)
        wall = np.where(directions[..., 1] > 0, (WALL_Y - origin[1]) / directions[..., 1], np.inf)
        first, second = (BOX[0] - origin) / directions, (BOX[1] - origin) / directions
    enter, leave = np.minimum(first, second).max(axis=-1), np.maximum(first, second).min(axis=-1)
    return np.minimum(np.minimum(floor, wall), np.where(enter < leave, enter, np.inf))


def surface_distance(points):
    """Distance of points to the nearest surface of the room."""
    center, half = BOX.mean(axis=0), (BOX[1] - BOX[0]) / 2
    outside = np.abs(points - center) - half
    box = np.linalg.norm(np.maximum(outside, 0), axis=1) + np.minimum(outside.max(axis=1), 0)
    return np.minimum(np.abs(box), np.minimum(np.abs(points[:, 2]), np.abs(points[:, 1] - WALL_Y)))


def texture(points):
    """Smooth colour of the room."""
    return np.rint(127 + 100 * np.sin(2 * points + np.array([0.0, 1.0, 2.0]))).astype(np.uint8)


def look_at(center, target):
    forward = (target - center) / np.linalg.norm(target - center)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = center
    return pose


def render(pose, intrinsic=INTRINSIC, size=SIZE):
    """Colour and z-depth that a camera of this room_from_camera pose sees."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    rays = np.stack([columns, rows, np.ones(size)], axis=-1) @ np.linalg.inv(intrinsic).T
    directions = rays @ pose[:3, :3].T
    depth = hit(pose[:3, 3], directions)
    return texture(pose[:3, 3] + depth[..., None] * directions), depth


@pytest.fixture(scope="module")
def room():
    rendered = Rendered([], [], [], [])
    for index in range(NUM_FRAMES):
        pose = look_at(np.array([-0.8 + 0.15 * index, -0.5 + 0.05 * index, 2.0]), np.array([0.0, 2.0, 0.3]))
        color, depth = render(pose)
        rendered.color.append(color)
        rendered.depth.append(depth)
        rendered.room_pose.append(pose)
        rendered.pose.append(SOURCE_FROM_ROOM @ pose)
    return rendered


def save_depth(path: Path, depth, units_per_metre=1000):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(depth * units_per_metre).astype(np.uint16)).save(path)


def save_color(path: Path, color):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(color).save(path)


def write_seven_scenes(folder: Path, room: Rendered):
    for index in range(NUM_FRAMES):
        stem = f"frame-{7 * index:06d}"
        save_color(folder / f"{stem}.color.png", room.color[index])
        save_depth(folder / f"{stem}.depth.png", room.depth[index])
        np.savetxt(folder / f"{stem}.pose.txt", room.pose[index])
    np.savetxt(folder / "camera-intrinsics.txt", INTRINSIC)


def write_tum(folder: Path, room: Rendered):
    lists = {"rgb": ["# time file"], "depth": ["# time file"], "groundtruth": ["# time tx ty tz qx qy qz qw"]}
    for index in range(NUM_FRAMES):
        time = 100 + index / 30
        save_color(folder / f"rgb/{time:.6f}.png", room.color[index])
        save_depth(folder / f"depth/{time:.6f}.png", room.depth[index], 5000)
        lists["rgb"].append(f"{time:.6f} rgb/{time:.6f}.png")
        lists["depth"].append(f"{time + 0.009:.6f} depth/{time:.6f}.png")
        pose = room.pose[index]
        values = [*pose[:3, 3], *Rotation.from_matrix(pose[:3, :3]).as_quat()]
        lists["groundtruth"].append(f"{time + 0.012:.4f} " + " ".join(f"{value:.9f}" for value in values))
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    np.savetxt(folder / "intrinsics.txt", INTRINSIC)


def write_pose_list(folder: Path, room: Rendered):
    for index in range(NUM_FRAMES):
        save_color(folder / f"images/{5 * index:05d}.png", room.color[index])
        save_depth(folder / f"depth/{5 * index:05d}.png", room.depth[index])
    np.savetxt(folder / "poses.txt", np.stack(room.pose).reshape(-1, 16))
    np.savetxt(folder / "K.txt", INTRINSIC)


def write_generic(folder: Path, room: Rendered):
    for index in range(NUM_FRAMES):
        save_color(folder / f"rgb/image_{index + 1}.png", room.color[index])
        save_depth(folder / f"z/z{index + 1:04d}.png", room.depth[index])
        np.savetxt(folder / f"rgb/image_{index + 1}.txt", room.pose[index])


GENERIC_GLOBS = {"color_glob": "rgb/*.png", "depth_glob": "z/*.png", "pose_glob": "rgb/*.txt"}
CONVENTIONS = {
    "7scenes": (write_seven_scenes, {}),
    "tum": (write_tum, {}),
    "poselist": (write_pose_list, {}),
    "generic": (write_generic, {**GENERIC_GLOBS, "intrinsic": INTRINSIC}),
}


def options(**changes):
    return SequenceOptions(**{"voxel_size_m": VOXEL, "holdout_every": HOLDOUT, "gravity": DOWN, **changes})


def read_image(path: Path):
    with Image.open(path) as image:
        return np.asarray(image)


def read_cloud(root: Path, split="train", scene="room"):
    return {name: np.load(root / split / scene / f"{name}.npy") for name in ("coord", "color", "normal")}


def room_from_scene(root: Path, room: Rendered):
    """The pose of the first frame links the written scene to the room."""
    scene = root / "rgbd" / "room"
    first = min(int(path.stem) for path in (scene / "pose").glob("*.txt"))
    return room.room_pose[0] @ np.linalg.inv(np.loadtxt(scene / "pose" / f"{first}.txt"))


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_cloud_lies_on_the_surfaces_in_each_convention(convention, room, tmp_path):
    write, changes = CONVENTIONS[convention]
    write(tmp_path / "in", room)
    report = convert(tmp_path / "in", tmp_path / "out", "room", options=options(**changes))
    cloud = read_cloud(tmp_path / "out")
    link = room_from_scene(tmp_path / "out", room)
    np.testing.assert_allclose(link[:3, 2], [0, 0, 1], atol=1e-6)  # z is up in the scene, as it is in the room

    points = cloud["coord"].astype(np.float64) @ link[:3, :3].T + link[:3, 3]
    distance = surface_distance(points)
    assert distance.max() < VOXEL
    assert np.median(distance) < 0.002
    color_error = np.abs(cloud["color"].astype(float) - texture(points)).max(axis=1)
    assert np.median(color_error) < 8
    normals = cloud["normal"].astype(np.float64) @ link[:3, :3].T
    floor = (np.abs(points[:, 2]) < 0.01) & (points[:, 1] < 1.4)
    wall = (np.abs(points[:, 1] - WALL_Y) < 0.01) & (points[:, 2] > 0.3)
    top = (np.abs(points[:, 2] - 0.6) < 0.01) & (np.abs(points[:, 0]) < 0.2) & (np.abs(points[:, 1] - 1.9) < 0.15)
    for part, expected in ((floor, [0, 0, 1]), (wall, [0, -1, 0]), (top, [0, 0, 1])):
        assert part.sum() >= 20
        assert (normals[part] @ expected).min() > 0.995

    assert cloud["coord"].dtype == np.float32 and cloud["normal"].dtype == np.float32
    assert cloud["color"].dtype == np.uint8
    assert (report.num_points, report.num_fused, report.num_held_out, report.num_skipped) == (len(points), 9, 3, 0)
    assert report.heldout_error_m < 0.01
    facts = json.loads((tmp_path / "out/rgbd/room/scene.json").read_text())
    assert (facts["source_format"], facts["holdout_every"]) == (convention, HOLDOUT)
    intrinsic = np.loadtxt(tmp_path / "out/rgbd/room/intrinsic/intrinsic_depth.txt")
    np.testing.assert_allclose(intrinsic[:3, :3], INTRINSIC)
    assert read_image(tmp_path / "out/rgbd/room/preview.png").shape == (480 + 2 * 2 * 120, 960, 3)


def test_written_frames_are_those_of_the_source(room, tmp_path):
    write_tum(tmp_path / "in", room)
    convert(tmp_path / "in", tmp_path / "out", "room", options=options())
    scene = tmp_path / "out/rgbd/room"
    link = room_from_scene(tmp_path / "out", room)
    assert sorted(int(path.stem) for path in (scene / "depth").glob("*.png")) == list(range(NUM_FRAMES))
    for index in (0, 5, NUM_FRAMES - 1):
        depth = read_image(scene / f"depth/{index}.png") / 1000
        assert np.abs(depth - room.depth[index]).max() < 0.0007  # half a millimetre, and half of 1/5000 m
        color = read_image(scene / f"color/{index}.jpg").astype(float)
        assert np.abs(color - room.color[index]).mean() < 2
        pose = link @ np.loadtxt(scene / f"pose/{index}.txt")
        np.testing.assert_allclose(pose, room.room_pose[index], atol=1e-5)


def test_held_out_frames_are_not_in_the_cloud(room, tmp_path):
    # Frames of rank 3, 7, 11 are held out: made a metre too near, they must leave no trace.
    changed = dataclasses.replace(room, depth=[d - 1.0 * (i % 4 == 3) for i, d in enumerate(room.depth)])
    clouds = []
    for name, frames in (("same", room), ("changed", changed)):
        write_pose_list(tmp_path / name, frames)
        convert(tmp_path / name, tmp_path / "out" / name, "room", options=options())
        clouds.append(read_cloud(tmp_path / "out" / name))
    for key, value in clouds[0].items():
        np.testing.assert_array_equal(value, clouds[1][key])


def test_inverted_poses_are_noticed_on_held_out_frames(room, tmp_path, caplog):
    write_seven_scenes(tmp_path / "in", dataclasses.replace(room, pose=[np.linalg.inv(pose) for pose in room.pose]))
    with caplog.at_level(logging.WARNING, logger="pointcept"):
        report = convert(tmp_path / "in", tmp_path / "out", "room", options=options(min_observations=1))
    assert report.heldout_error_m > 0.05
    assert "from the fused cloud: the poses (camera-to-world, metres?)" in caplog.text


def test_estimated_gravity_makes_z_point_up(room, tmp_path):
    write_pose_list(tmp_path / "in", room)
    convert(tmp_path / "in", tmp_path / "out", "room", options=options(gravity="auto"))
    up = room_from_scene(tmp_path / "out", room)[:3, 2]
    assert np.rad2deg(np.arccos(up[2])) < 0.5


def test_gravity_file_of_the_folder_is_used(room, tmp_path):
    write_pose_list(tmp_path / "in", room)
    np.savetxt(tmp_path / "in/gravity-direction.txt", 9.81 * DOWN)
    convert(tmp_path / "in", tmp_path / "out", "room", options=options(gravity="auto"))
    np.testing.assert_allclose(room_from_scene(tmp_path / "out", room)[:3, 2], [0, 0, 1], atol=1e-6)


def test_source_frame_is_kept_without_gravity(room, tmp_path):
    write_pose_list(tmp_path / "in", room)
    convert(tmp_path / "in", tmp_path / "out", "room", options=options(gravity="none"))
    np.testing.assert_allclose(np.loadtxt(tmp_path / "out/rgbd/room/pose/5.txt"), room.pose[1], atol=1e-6)


def test_one_sequence_serves_two_splits_and_is_not_overwritten_unasked(room, tmp_path):
    write_pose_list(tmp_path / "in", room)
    run = dict(options=options())
    convert(tmp_path / "in", tmp_path / "out", "room", splits=("train", "val"), **run)
    np.testing.assert_array_equal(read_cloud(tmp_path / "out", "val")["coord"], read_cloud(tmp_path / "out")["coord"])
    assert (tmp_path / "out/rgbd/room/color/55.jpg").is_file()
    with pytest.raises(FileExistsError, match=r"must not exist yet: found .*val/room.*--overwrite"):
        (tmp_path / "out/train/room").rename(tmp_path / "moved")
        convert(tmp_path / "in", tmp_path / "out", "room", **run)
    # Replaced by fewer frames: neither old frames nor the cloud of the other split stay.
    convert(tmp_path / "in", tmp_path / "out", "room", overwrite=True, options=options(stride=3))
    assert not (tmp_path / "out/val/room").exists()
    assert sorted(int(path.stem) for path in (tmp_path / "out/rgbd/room/color").iterdir()) == [0, 15, 30, 45]


def test_resizing_keeps_projections(room, tmp_path):
    write_pose_list(tmp_path / "in", room)
    report = convert(tmp_path / "in", tmp_path / "out", "room", options=options(image_size_px=(48, 80)))
    assert report.heldout_error_m < 0.02
    scene = tmp_path / "out/rgbd/room"
    intrinsic = np.loadtxt(scene / "intrinsic/intrinsic_depth.txt")[:3, :3]
    depth = read_image(scene / "depth/20.png") / 1000
    pose = room_from_scene(tmp_path / "out", room) @ np.loadtxt(scene / "pose/20.txt")
    assert depth.shape == (48, 80) and read_image(scene / "color/20.jpg").shape == (48, 80, 3)
    rows, columns = np.nonzero(depth)
    rays = np.stack([columns, rows, np.ones(len(rows))], axis=-1) @ np.linalg.inv(intrinsic).T
    points = (rays * depth[rows, columns][:, None]) @ pose[:3, :3].T + pose[:3, 3]
    distance = surface_distance(points)
    assert np.quantile(distance, 0.9) < 0.0015  # the rest: nearest pixel along depth edges
    assert np.quantile(distance, 0.99) < 0.1


@pytest.mark.parametrize("size", [None, (48, 64)])
def test_colour_of_another_camera_is_registered(size, room, tmp_path):
    color_intrinsic = np.array([[150.0, 0, 89.5], [0, 150.0, 69.5], [0, 0, 1]])
    color_from_depth = np.eye(4)
    color_from_depth[:3, 3] = (-0.06, 0.01, 0)
    poses = [pose @ np.linalg.inv(color_from_depth) for pose in room.room_pose]
    color = [render(pose, color_intrinsic, (140, 180))[0] for pose in poses]
    write_pose_list(tmp_path / "in", dataclasses.replace(room, color=color))
    calibration = ColorCalibration(INTRINSIC, color_intrinsic, color_from_depth)
    changes = {"color_calibration": calibration, "image_size_px": size}
    convert(tmp_path / "in", tmp_path / "out", "room", options=options(**changes))
    scene = tmp_path / "out/rgbd/room"
    for index in (0, 8):
        intrinsic = np.loadtxt(scene / "intrinsic/intrinsic_depth.txt")[:3, :3]
        expected, depth = render(room.room_pose[index], intrinsic, size or SIZE)
        registered = read_image(scene / f"color/{5 * index}.jpg").astype(int)
        error = np.abs(registered - expected).max(axis=-1)
        far_from_edges = ~ndimage.binary_dilation(depth_edges(depth.astype(np.float32)), iterations=6)
        assert np.quantile(error[far_from_edges], 0.99) < 10
    cloud, link = read_cloud(tmp_path / "out"), room_from_scene(tmp_path / "out", room)
    points = cloud["coord"].astype(np.float64) @ link[:3, :3].T + link[:3, 3]
    assert np.median(np.abs(cloud["color"].astype(float) - texture(points)).max(axis=1)) < 8


def test_bad_poses_and_missing_frames_are_skipped_with_a_count(room, tmp_path, caplog):
    write_seven_scenes(tmp_path / "in", room)
    np.savetxt(tmp_path / "in/frame-000000.pose.txt", np.full((4, 4), -np.inf))
    np.savetxt(tmp_path / "in/frame-000007.pose.txt", np.diag([1.0, 1, 2, 1]))
    np.savetxt(tmp_path / "in/frame-000014.pose.txt", np.diag([1.0, 1, -1, 1]))
    (tmp_path / "in/frame-000021.depth.png").unlink()
    (tmp_path / "in/frame-000028.color.png").unlink()
    (tmp_path / "in/frame-000035.pose.txt").unlink()
    save_depth(tmp_path / "in/frame-000042.depth.png", np.where(np.arange(128) % 2, 65.535, 0) * np.ones(SIZE))
    with caplog.at_level(logging.WARNING, logger="pointcept"):
        report = convert(tmp_path / "in", tmp_path / "out", "room", options=options())
    assert (report.num_fused, report.num_held_out, report.num_skipped) == (4, 1, 7)
    for reason in (
        "3 bad pose (first: frame-000000.color.png)",
        "1 no depth (first: frame-000021.color.png)",
        "1 no colour (first: frame-000028.depth.png)",
        "1 no pose (first: frame-000035.color.png)",
        "1 no depth in range (first: frame-000042.color.png)",
    ):
        assert reason in caplog.text


def test_a_sequence_too_short_to_hold_out_says_so(room, tmp_path, caplog):
    write_pose_list(tmp_path / "in", room)
    with caplog.at_level(logging.WARNING, logger="pointcept"):
        report = convert(tmp_path / "in", tmp_path / "out", "room", options=options(holdout_every=20))
    assert report.num_held_out == 0 and np.isnan(report.heldout_error_m)
    assert "No frame is held out, so rendering cannot be scored: 12 frames, --holdout-every 20" in caplog.text


def truncate(path: Path):
    path.write_bytes(path.read_bytes()[:-400])


@pytest.mark.parametrize(
    ("spoil", "changes", "message"),
    [
        (lambda f: truncate(f / "images/00010.png"), {}, r"colour image must be readable: .*images/00010.png"),
        (lambda f: truncate(f / "depth/00015.png"), {}, r"depth image must be readable: .*depth/00015.png.*truncated"),
        (
            lambda f: save_color(f / "depth/00000.png", np.zeros((*SIZE, 3), np.uint8)),
            {},
            r"one channel of 16 bits: .*depth/00000.png has mode 'RGB'",
        ),
        (
            lambda f: save_color(f / "images/00005.png", np.zeros((30, 40, 3), np.uint8)),
            {},
            r"must have one size: .*00005.png has \(30, 40\), .*00005.png \(96, 128\).*--color-calibration",
        ),
        (lambda f: save_depth(f / "depth/00005.png", np.ones((9, 9))), {}, r"one size, as they share .*00005.png"),
        (lambda f: (f / "K.txt").unlink(), {}, r"intrinsics of the depth camera must be known.*--intrinsic"),
        (lambda f: (f / "K.txt").write_text("1 2\n3 4 5\n"), {}, r"K.txt must hold rows of as many numbers each"),
        (lambda f: np.savetxt(f / "poses.txt", np.eye(4)), {}, r"one row of 16 numbers .*12 images.*4 rows"),
        (
            lambda f: np.savetxt(f / "poses.txt", np.full((12, 16), np.nan)),
            {},
            r"frame with colour, depth and a finite rigid pose: .* has none \(12 with bad pose\)",
        ),
        (
            lambda f: np.savetxt(f / "poses.txt", (np.eye(4) + 1e6 * np.eye(4, k=3)).reshape(1, 16).repeat(12, 0)),
            {},
            r"must lie within 52429 m of the origin: one is at 640... m. Poses must be in metres",
        ),
        (lambda f: None, {"min_observations": 99}, r"fused cloud must have points: none of \d+ voxels.* 99 frames"),
        (lambda f: None, {"max_depth_m": 0.01}, r"depth within 0.01 m: none of 12 has"),
        (lambda f: None, {"format": "tum"}, r"'tum' must have rgb.txt, depth.txt and groundtruth.txt"),
        (lambda f: None, {"format": "generic"}, r"patterns .* must be given together.*None"),
        (lambda f: None, {"color_glob": "*.png"}, r"patterns .* must be given together"),
        (lambda f: None, {**GENERIC_GLOBS}, r"colour pattern must match files in .*'rgb/\*.png' matches none"),
        (lambda f: None, {"format": "kitti"}, r"format must be auto, generic, tum, 7scenes, poselist: got 'kitti'"),
        (lambda f: (f / "poses.txt").unlink(), {}, r"must follow a known format: .* follows none"),
    ],
)
def test_bad_input_is_explained(spoil, changes, message, room, tmp_path):
    write_pose_list(tmp_path / "in", room)
    spoil(tmp_path / "in")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        convert(tmp_path / "in", tmp_path / "out", "room", options=options(**changes))
    assert not (tmp_path / "out/train").exists() and not (tmp_path / "out/rgbd").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"voxel_size_m": 0.0}, "voxel_size_m must be positive"),
        ({"depth_scale": float("nan")}, "depth_scale must be positive"),
        ({"max_depth_m": 100.0}, "max_depth_m must be at most 65.535"),
        ({"stride": 0}, "stride must be at least 1: got 0"),
        ({"min_observations": 0}, "min_observations must be at least 1"),
        ({"image_size_px": (0, 10)}, "image_size_px must be a positive height and width"),
        ({"gravity": "down"}, "gravity must be a direction, 'auto' or 'none': got 'down'"),
        ({"holdout_every": 1}, "holdout_every must be at least 2"),
    ],
)
def test_bad_options_are_explained(changes, message):
    with pytest.raises(ValueError, match=message):
        SequenceOptions(**changes)


def test_command_line(room, tmp_path, caplog):
    write_generic(tmp_path / "in", room)
    np.savetxt(tmp_path / "down.txt", DOWN)
    arguments = [str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--scene", "room"]
    arguments += ["--split", "train", "val", "--color", "rgb/*.png", "--depth", "z/*.png", "--pose", "rgb/*.txt"]
    arguments += ["--gravity", str(tmp_path / "down.txt"), "--image-size", "48", "64", "--holdout-every", "4"]
    with caplog.at_level(logging.INFO, logger="pointcept"):
        code = rgbd_sequence.main([*arguments, "--voxel-size", "0.05", "--intrinsic", "110", "110", "63.5", "47.5"])
    assert code == 0
    assert "9 frames fused, 3 held out, 0 skipped; held-out depth within" in caplog.text
    assert (tmp_path / "out/val/room/coord.npy").is_file()
    negative = ["--overwrite", "--gravity", "-0.6", "-0.8", "0", "--intrinsic", str(tmp_path / "K.txt")]
    np.savetxt(tmp_path / "K.txt", INTRINSIC)
    assert rgbd_sequence.main([*arguments, *negative]) == 0
    assert rgbd_sequence.main([*arguments, "--overwrite", "--intrinsic", "80", "80"]) == 1
    assert "Intrinsics must be 'fx fy cx cy'" in caplog.text
    assert rgbd_sequence.main([*arguments, "--overwrite", "--gravity", "down"]) == 1
    assert "The gravity file must exist: down is missing" in caplog.text
    assert rgbd_sequence.main([*arguments, "--overwrite", "--gravity", "0", "0", "0"]) == 1
    assert "Gravity must be three numbers 'x y z' that point down, not all zero" in caplog.text


SAMPLES = os.environ.get("POINTCEPT_SAMPLES")


@pytest.mark.skipif(SAMPLES is None, reason="POINTCEPT_SAMPLES does not name a folder of real sequences")
@pytest.mark.parametrize(("name", "holdout_every", "num_fused"), [("7scenes_redkitchen", 3, 5), ("hololens_000", 3, 4)])
def test_real_sequences(name, holdout_every, num_fused, tmp_path):
    folder = Path(SAMPLES) / "rgbd" / name
    stride = 11 if name.startswith("7") else 1
    changes = {"holdout_every": holdout_every, "stride": stride, "voxel_size_m": 0.03, "gravity": "auto"}
    report = convert(folder, tmp_path, name, options=options(**changes))
    assert report.num_fused == num_fused
    assert report.heldout_error_m < 0.03
