import json

import numpy as np
import pytest
from PIL import Image

from pointcept.datasets.rgbd_layout import new_scene, write_frame, write_intrinsics, write_scene, write_scene_json

INTRINSIC = np.array([[10.0, 0, 3.5], [0, 11.0, 2.5], [0, 0, 1]])


def cloud(count=4, **changes):
    arrays = {
        "coord": np.arange(3 * count, dtype=np.float64).reshape(count, 3),
        "color": np.full((count, 3), 7, dtype=np.uint8),
        "normal": np.tile((0.0, 0.0, 1.0), (count, 1)),
    }
    return {**arrays, **changes}


def frame(**changes):
    arrays = {
        "color": np.zeros((6, 8, 3), dtype=np.uint8),
        "depth": np.full((6, 8), 1.2346),
        "camera_to_world": np.eye(4),
    }
    return {**arrays, **changes}


def test_a_finished_scene_holds_what_was_written(tmp_path):
    root = tmp_path / "data"
    pose = np.array([[0, 0, 1, 1.5], [-1, 0, 0, 2.5], [0, -1, 0, 0.123456], [0, 0, 0, 1]])
    with new_scene(root, "train", "room") as staging:
        write_scene(staging, "train", "room", **cloud(segment20=np.array([0, -1, 2, 3])))
        write_frame(staging, "room", 12, **frame(camera_to_world=pose, label=np.full((6, 8), 5, dtype=np.uint8)))
        write_intrinsics(staging, "room", INTRINSIC, (6, 8))
        write_scene_json(staging, "room", holdout_every=8)
        assert not (root / "train").exists()
    assert {path.name for path in (root / "train/room").iterdir()} == {
        "coord.npy",
        "color.npy",
        "normal.npy",
        "segment20.npy",
    }
    assert np.load(root / "train/room/coord.npy").dtype == np.float32
    np.testing.assert_array_equal(np.load(root / "train/room/segment20.npy"), [0, -1, 2, 3])
    frames = root / "rgbd/room"
    np.testing.assert_array_equal(np.asarray(Image.open(frames / "depth/12.png")), np.full((6, 8), 1235))
    np.testing.assert_array_equal(np.asarray(Image.open(frames / "label/12.png")), np.full((6, 8), 5))
    np.testing.assert_allclose(np.loadtxt(frames / "pose/12.txt"), pose, atol=1e-8)
    np.testing.assert_allclose(np.loadtxt(frames / "intrinsic/intrinsic_color.txt")[:3, :3], INTRINSIC)
    assert json.loads((frames / "scene.json").read_text()) == {"holdout_every": 8}
    assert {path.name for path in root.iterdir()} == {"train", "rgbd"}


def test_an_error_leaves_nothing_behind(tmp_path):
    with pytest.raises(RuntimeError, match="on purpose"), new_scene(tmp_path, "train", "room") as staging:
        write_scene(staging, "train", "room", **cloud())
        raise RuntimeError("on purpose")
    assert not list(tmp_path.iterdir())


def test_a_scene_without_a_cloud_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing was written for val/room"), new_scene(tmp_path, "val", "room"):
        pass
    assert not list(tmp_path.iterdir())


def test_an_existing_scene_is_replaced_only_on_request(tmp_path):
    for count, overwrite in ((4, False), (5, True)):
        with new_scene(tmp_path, "train", "room", overwrite=overwrite) as staging:
            write_scene(staging, "train", "room", **cloud(count))
            write_frame(staging, "room", count, **frame())
    assert len(np.load(tmp_path / "train/room/coord.npy")) == 5
    assert [path.name for path in (tmp_path / "rgbd/room/color").iterdir()] == ["5.jpg"]
    with (
        pytest.raises(FileExistsError, match=r"must not exist yet: found .*room"),
        new_scene(tmp_path, "train", "room"),
    ):
        pass


@pytest.mark.parametrize(
    ("split", "scene", "message"),
    [
        ("validation", "room", "split must be one of train, val, test: got 'validation'"),
        ("train", "a/b", "must be a plain folder name: got 'a/b'"),
        ("train", ".room", "must be a plain folder name: got '.room'"),
    ],
)
def test_bad_names_are_refused(tmp_path, split, scene, message):
    with pytest.raises(ValueError, match=message), new_scene(tmp_path, split, scene):
        pass


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": np.full((6, 8), 70.0)}, r"within 0..65.535 m: got 70.0..70.0. Give metres"),
        ({"depth": np.full((6, 8), np.nan)}, "must be finite"),
        ({"camera_to_world": np.full((4, 4), np.inf)}, "must be a finite rigid motion"),
        ({"camera_to_world": np.diag([2.0, 2, 2, 1])}, "must be a finite rigid motion"),
        ({"camera_to_world": np.diag([1.0, 1, -1, 1])}, "must be a finite rigid motion"),
        ({"label": np.zeros((3, 4), dtype=np.uint8)}, r"must have the size of its colour: got \(3, 4\) and \(6, 8\)"),
    ],
)
def test_bad_frames_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        write_frame(tmp_path, "room", 0, **frame(**changes))
    assert not list(tmp_path.iterdir())


def test_bad_clouds_and_intrinsics_are_refused(tmp_path):
    with pytest.raises(ValueError, match="color has 3 rows, coord 4"):
        write_scene(tmp_path, "train", "room", **cloud(color=np.zeros((3, 3), dtype=np.uint8)))
    with pytest.raises(ValueError, match="normal of scene 'room' must be finite: 4 of 4 rows are not"):
        write_scene(tmp_path, "train", "room", **cloud(normal=np.full((4, 3), np.nan)))
    with pytest.raises(ValueError, match=r"principal point inside the 3 x 3 \(height x width\) image"):
        write_intrinsics(tmp_path, "room", INTRINSIC, (3, 3))
    assert not list(tmp_path.iterdir())
