"""Matching files to frames, poses and calibrations from text."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pointcept.datasets.preprocessing.formats import associate, open_sequence
from pointcept.datasets.preprocessing.frame_reader import FrameReader
from pointcept.datasets.preprocessing.options import SequenceOptions
from pointcept.datasets.preprocessing.poses import intrinsic_matrix, pose_from_quaternion, read_pose, rigid_pose
from pointcept.datasets.preprocessing.registration import ColorCalibration, read_color_calibration

SOURCE = Path("source.txt")


def test_association_takes_the_nearest_time_within_the_limit():
    times = np.array([0.000, 0.100, 0.200, 0.300, 9.0])
    others = np.array([0.015, 0.090, 0.108, 0.279])
    # 0.000 -> 0.015; 0.100 -> 0.108 (8 ms, not 0.090 at 10 ms); 0.200: 79 ms off; 0.300: 21 ms off; 9.0: past the end.
    np.testing.assert_array_equal(associate(times, others, 0.02), [0, 2, -1, -1, -1])
    np.testing.assert_array_equal(associate(times, np.array([0.11]), 0.02), [-1, 0, -1, -1, -1])


def tum_folder(folder: Path, rgb: str, depth: str, poses: str) -> Path:
    for name, text in (("rgb", rgb), ("depth", depth), ("groundtruth", poses)):
        (folder / f"{name}.txt").write_text(text)
        for line in text.splitlines():
            words = line.split()
            if name != "groundtruth" and line[:1] not in ("#", "") and len(words) > 1:
                (folder / words[1]).parent.mkdir(exist_ok=True)
                (folder / words[1]).touch()
    return folder


def test_tum_matches_pose_to_depth_time(tmp_path):
    folder = tum_folder(
        tmp_path,
        "# rgb\n1.00 rgb/a.png\n2.00 rgb/b.png\n3.00 rgb/c.png\n4.00 rgb/d.png\n",
        "# unsorted\n2.01 depth/b.png\n1.01 depth/a.png\n3.03 depth/c.png\n4.00 depth/d.png\n",
        # At 1.01 x = 1.02; at 2.01 the pose nearest in time has no unit quaternion; at 4.00 the nearest is 50 ms away.
        "0.99 0.98 0 0 0 0 0 1\n1.02 1.02 0 0 0 0 0 1\n2.01 2 0 0 0 0 0 0\n3.00 3 0 0 0 0 0 1\n4.05 4 0 0 0 0 0 1\n",
    )
    sequence = open_sequence(folder)
    assert sequence.format == "tum" and sequence.depth_units_per_metre == 5000
    (frame,) = sequence.frames
    assert (frame.number, frame.color.name, frame.depth.name) == (0, "a.png", "a.png")
    assert frame.camera_to_world[0, 3] == 1.02
    assert sequence.skipped == {"bad pose": ["b.png"], "no depth": ["c.png"], "no pose": ["d.png"]}


@pytest.mark.parametrize(
    ("depth", "poses", "message"),
    [
        ("1.0\n", "1 0 0 0 0 0 0 1\n", r"row of .*depth.txt must have 2 columns: got '1.0'"),
        ("# nothing\n", "1 0 0 0 0 0 0 1\n", r"depth.txt must have rows of a time and 1 values: it has none"),
        ("one depth/a.png\n", "1 0 0 0 0 0 0 1\n", r"depth.txt must hold numbers: could not convert .*'one'"),
        ("1.0 depth/a.png\n", "1 0 0 0 0 0 0\n", r"row of .*groundtruth.txt must have 8 columns"),
        ("1.0 depth/a.png\n", "1 0 0 0 x 0 0 1\n", r"groundtruth.txt must hold numbers"),
    ],
)
def test_broken_tum_lists_are_explained(depth, poses, message, tmp_path):
    folder = tum_folder(tmp_path, "1.0 rgb/a.png\n", depth, poses)
    with pytest.raises(ValueError, match=message):
        open_sequence(folder)


def test_seven_scenes_jpg_and_order_by_number(tmp_path, caplog):
    for number in (10, 9, 100):
        (tmp_path / f"frame-{number:06d}.color.jpg").touch()
        (tmp_path / f"frame-{number:06d}.depth.png").touch()
        np.savetxt(tmp_path / f"frame-{number:06d}.pose.txt", np.eye(4))
    with caplog.at_level(logging.INFO, logger="pointcept"):
        sequence = open_sequence(tmp_path)
    assert [frame.number for frame in sequence.frames] == [9, 10, 100]
    assert "looks like a sequence of format '7scenes'" in caplog.text
    assert sequence.intrinsic_file is None and sequence.depth_units_per_metre == 1000


def test_ambiguous_and_missing_numbers_are_explained(tmp_path):
    globs = ("*.jpg", "*.png", "*.txt")
    for name in ("a_1.jpg", "1.png", "1.txt", "b_1.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"one colour file: .*a_1.jpg and .*b_1.jpg both have the number 1. Narrow"):
        open_sequence(tmp_path, globs=globs)
    (tmp_path / "b_1.jpg").rename(tmp_path / "first.jpg")
    with pytest.raises(ValueError, match=r"must have its frame number in its name: .*first.jpg has none"):
        open_sequence(tmp_path, globs=globs)
    with pytest.raises(FileNotFoundError, match=r"sequence must be a folder: .*absent is not one"):
        open_sequence(tmp_path / "absent")


def test_quaternion_is_x_y_z_w():
    # A quarter turn about z takes x to y.
    half = np.sqrt(0.5)
    pose = pose_from_quaternion(np.array([1.0, 2.0, 3.0]), np.array([0, 0, half, half]), SOURCE)
    np.testing.assert_allclose(pose, [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]], atol=1e-12)


def test_rounded_rotation_becomes_a_rotation():
    rounded = np.round(pose_from_quaternion(np.zeros(3), np.array([0.5, 0.5, -0.5, 0.5]) + 1e-3, SOURCE), 3)
    rotation = rigid_pose(rounded, SOURCE)[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(rotation, rounded[:3, :3], atol=2e-3)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(3), "finite 4x4 matrix: source.txt"),
        (np.diag([1, 1, np.nan, 1]), "finite 4x4 matrix"),
        (np.diag([1, 1, 1.1, 1]), "rotation and a translation: source.txt"),
        (np.diag([1.0, 1, -1, 1]), "rotation and a translation"),
        (np.eye(4) + 0.5 * np.eye(4, k=-3), "rotation and a translation"),
    ],
)
def test_bad_poses_are_explained(matrix, message):
    with pytest.raises(ValueError, match=message):
        rigid_pose(matrix, SOURCE)


def test_pose_file_with_words_is_explained(tmp_path):
    (tmp_path / "pose.txt").write_text("1 0 0 0\n0 1 zero 0\n")
    with pytest.raises(ValueError, match=r"pose.txt must hold rows of as many numbers each: got .*'zero'"):
        read_pose(tmp_path / "pose.txt")


def test_intrinsics_from_numbers_and_matrices():
    expected = np.array([[500.0, 0, 320], [0, 510, 240], [0, 0, 1]])
    np.testing.assert_array_equal(intrinsic_matrix(np.array([500.0, 510, 320, 240]), "k"), expected)
    homogeneous = np.eye(4)
    homogeneous[:3, :3] = expected
    np.testing.assert_array_equal(intrinsic_matrix(homogeneous, "k"), expected)
    for bad in (np.array([-500.0, 510, 320, 240]), np.zeros(5), expected.T, np.array([np.inf, 1, 1, 1])):
        with pytest.raises(ValueError, match=r"Intrinsics must be 'fx fy cx cy'.*: k has"):
            intrinsic_matrix(bad, "k")


def test_calibration_keys(tmp_path):
    path = tmp_path / "calibration.json"
    k = [[530, 0, 320], [0, 530, 240], [0, 0, 1]]
    path.write_text(json.dumps({"note": "x", "K_color_estimated": k, "t_depth_to_color_m_estimated": [-0.025, 0, 0]}))
    calibration = read_color_calibration(path)
    assert calibration.depth_intrinsic is None
    np.testing.assert_array_equal(calibration.color_intrinsic, k)
    np.testing.assert_array_equal(calibration.color_from_depth[:3], [[1, 0, 0, -0.025], [0, 1, 0, 0], [0, 0, 1, 0]])
    for content, message in (
        ({"K_color": k}, r"must have K_color and t_depth_to_color: .*calibration.json lacks t_depth_to_color"),
        ({"K_color": k, "t_depth_to_color": [0, 0]}, r"t_depth_to_color have 3 values: .* \(2,\)"),
        ({"K_color": [[1]], "t_depth_to_color": [0, 0, 0]}, r"Intrinsics must be .*K_color of .*calibration.json"),
        ([1], r"must be a JSON object: .*calibration.json"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=message):
            read_color_calibration(path)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"must be a JSON object: .*calibration.json"):
        read_color_calibration(path)
    with pytest.raises(FileNotFoundError, match=r"colour calibration must exist: .*none.json"):
        read_color_calibration(tmp_path / "none.json")


def test_contradictory_intrinsics_are_explained(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "depth").mkdir()
    for folder, dtype in (("images", np.uint8), ("depth", np.uint16)):
        Image.fromarray(np.ones((4, 4), dtype)).save(tmp_path / folder / "0.png")
    np.savetxt(tmp_path / "poses.txt", np.eye(4).reshape(1, 16))
    np.savetxt(tmp_path / "K.txt", [[500, 0, 2], [0, 500, 2], [0, 0, 1]])
    other = np.array([[400.0, 0, 2], [0, 400, 2], [0, 0, 1]])
    sequence = open_sequence(tmp_path)
    calibration = ColorCalibration(other, other, np.eye(4))
    with pytest.raises(ValueError, match=r"must be one set: .*K.txt has .* K_depth of the calibration"):
        FrameReader(sequence, SequenceOptions(color_calibration=calibration))
    reader = FrameReader(sequence, SequenceOptions(color_calibration=calibration, intrinsic=other))
    np.testing.assert_array_equal(reader.intrinsic, other)
    (tmp_path / "K.txt").unlink()
    reader = FrameReader(open_sequence(tmp_path), SequenceOptions(color_calibration=calibration))
    np.testing.assert_array_equal(reader.intrinsic, other)
