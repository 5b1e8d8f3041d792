import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pointcept.datasets import RGBDSceneDataset
from pointcept.datasets.labels import scannet20_from_nyu40
from pointcept.datasets.synthetic import RoomSettings, ensure_synthetic_rooms, generate, generate_room
from pointcept.datasets.synthetic.__main__ import main

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
SETTINGS = RoomSettings(image_size=(12, 16), num_frames=8, max_points=2000, voxel_size=0.05)


def ensure(root, train=1, val=1, seed=5, **changes):
    return ensure_synthetic_rooms(root, train, val, seed, settings=SETTINGS, **{"num_workers": 1, **changes})


def content(root):
    """Hash of every file of the data set, hidden ones left out."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    return ensure(tmp_path_factory.mktemp("rooms") / "data", 3, 1)


def test_the_layout_on_disk_is_the_standard_one(rooms):
    assert sorted(path.name for path in (rooms / "train").iterdir()) == [f"synthetic_train_{i:04d}" for i in range(3)]
    assert [path.name for path in (rooms / "val").iterdir()] == ["synthetic_val_0000"]
    cloud = {path.stem: np.load(path) for path in (rooms / "val/synthetic_val_0000").iterdir()}
    count = len(cloud["coord"])
    assert {name: (value.shape, value.dtype) for name, value in cloud.items()} == {
        "coord": ((count, 3), np.float32),
        "color": ((count, 3), np.uint8),
        "normal": ((count, 3), np.float32),
        "segment20": ((count,), np.int64),
        "segment200": ((count,), np.int64),
        "instance": ((count,), np.int64),
    }
    frames = rooms / "rgbd/synthetic_val_0000"
    assert {path.name for path in frames.iterdir()} == {
        "color",
        "depth",
        "pose",
        "label",
        "intrinsic",
        "scene.json",
    }
    for folder, suffix in (("color", "jpg"), ("depth", "png"), ("pose", "txt"), ("label", "png")):
        assert {path.name for path in (frames / folder).iterdir()} == {f"{i}.{suffix}" for i in range(8)}
    assert {path.name for path in (frames / "intrinsic").iterdir()} == {"intrinsic_depth.txt", "intrinsic_color.txt"}
    assert np.loadtxt(frames / "intrinsic/intrinsic_depth.txt").shape == (4, 4)
    facts = json.loads((frames / "scene.json").read_text())
    assert facts == {"holdout_every": 8, "index": 0, "kind": "living room", "seed": 5}


def test_the_files_hold_the_room(rooms):
    room = generate_room(5, "train", 1, SETTINGS)
    frames = rooms / "rgbd/synthetic_train_0001"
    depth = np.asarray(Image.open(frames / "depth/6.png"))
    assert depth.dtype == np.uint16
    np.testing.assert_array_equal(depth, np.rint(room.depth[6] * 1000))
    np.testing.assert_array_equal(np.asarray(Image.open(frames / "label/6.png")), room.label[6])
    np.testing.assert_allclose(np.loadtxt(frames / "pose/6.txt"), room.world_from_camera[6], atol=1e-7)
    color = np.asarray(Image.open(frames / "color/6.jpg")).astype(int)
    assert np.abs(color - room.color[6]).mean() < 4
    folder = rooms / "train/synthetic_train_0001"
    np.testing.assert_array_equal(np.load(folder / "coord.npy"), room.cloud.coord)
    np.testing.assert_array_equal(np.load(folder / "segment20.npy"), scannet20_from_nyu40(room.cloud.label))


def test_the_reader_reads_it(rooms):
    room = generate_room(5, "val", 0, SETTINGS)
    sample = RGBDSceneDataset(split="val", data_root=rooms, num_views=1, view_split="heldout")[0]
    assert sample.views.name == ("7",)
    np.testing.assert_allclose(sample.views.depth[0], room.depth[7], atol=1e-6)
    np.testing.assert_allclose(sample.views.extrinsic[0] @ room.world_from_camera[7], np.eye(4), atol=1e-6)
    np.testing.assert_allclose(sample.views.intrinsic[0], room.intrinsic, atol=1e-6)
    np.testing.assert_array_equal(sample.views.segment[0], scannet20_from_nyu40(room.label[7]))
    np.testing.assert_array_equal(sample.point["instance"], room.cloud.instance)


def test_a_second_call_changes_nothing(rooms, monkeypatch):
    monkeypatch.setattr(generate, "_make_one", lambda *_: pytest.fail("made a room again"))
    before = {path: path.stat().st_mtime_ns for path in rooms.rglob("*")}
    assert ensure(rooms, 3, 1) == rooms
    assert {path: path.stat().st_mtime_ns for path in rooms.rglob("*")} == before


def test_the_number_of_workers_does_not_matter(rooms, tmp_path):
    assert content(ensure(tmp_path / "two", 3, 1, num_workers=2)) == content(rooms)


def test_an_interrupted_generation_continues_and_larger_numbers_add_rooms(rooms, tmp_path, monkeypatch):
    root, made = tmp_path / "data", []
    original = generate._make_one

    def stop_at_the_second(root, split, index, seed, settings):
        if made:
            raise KeyboardInterrupt
        made.append((split, index))
        original(root, split, index, seed, settings)

    monkeypatch.setattr(generate, "_make_one", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        ensure(root, 2, 1)
    assert json.loads((root / "manifest.json").read_text())["complete"] is False
    (root / ".synthetic_train_0001.left").mkdir()  # as a killed process leaves it
    monkeypatch.setattr(generate, "_make_one", lambda *job: (made.append(job[1:3]), original(*job)))
    ensure(root, 2, 1)
    assert made == [("train", 0), ("train", 1), ("val", 0)]
    assert not list(root.glob(".synthetic_*"))
    ensure(root, 3, 1)
    assert made[3:] == [("train", 2)]
    assert content(root) == content(rooms)


def test_a_removed_room_is_made_again(tmp_path):
    root = ensure(tmp_path / "data", 1, 0)
    before = content(root)
    shutil.rmtree(root / "rgbd/synthetic_train_0000")
    assert content(ensure(root, 1, 0)) == before


def test_callers_at_the_same_time_make_each_room_once(tmp_path, monkeypatch):
    made, original, errors = [], generate._make_one, []
    monkeypatch.setattr(generate, "_make_one", lambda *job: (made.append(job[1:3]), original(*job)))

    def call():
        try:
            ensure(tmp_path / "data", 2, 1)
        except Exception as error:  # noqa: BLE001 - the test reports it
            errors.append(error)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(made) == [("train", 0), ("train", 1), ("val", 0)]


def test_rooms_that_another_process_makes_during_the_look_are_found(tmp_path, monkeypatch):
    root = tmp_path / "data"
    root.mkdir()
    listing = Path.iterdir

    def made_meanwhile(folder):
        if folder == root:
            monkeypatch.setattr(Path, "iterdir", listing)
            ensure(root, 1, 0)
        return listing(folder)

    monkeypatch.setattr(Path, "iterdir", made_meanwhile)
    assert ensure(root, 1, 0) == root
    assert Path.iterdir is listing


def test_a_script_without_a_guard_ends_with_an_explanation_and_leaves_the_folder_usable(tmp_path):
    root, script = tmp_path / "data", tmp_path / "script.py"
    script.write_text(
        "from pointcept.datasets.synthetic import RoomSettings, ensure_synthetic_rooms\n"
        f"ensure_synthetic_rooms({str(root)!r}, 4, 0, 5, settings={SETTINGS!r}, num_workers=2)\n"
    )
    run = subprocess.run([sys.executable, str(script)], env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 1
    assert "Put what it runs below a line if __name__ == '__main__'." in run.stderr
    assert run.stderr.strip().splitlines()[-1].startswith("concurrent.futures.process.BrokenProcessPool")
    assert not (root / "train").exists()
    assert len(list((ensure(root, 4, 0) / "train").iterdir())) == 4


def test_other_settings_are_refused(rooms):
    with pytest.raises(ValueError, match=r"must have been made with seed 6: manifest.json says 5. Choose another"):
        ensure(rooms, 3, 1, seed=6)
    with pytest.raises(ValueError, match=r"must have been made with settings .*'num_frames': 24.*says .*: 8"):
        ensure_synthetic_rooms(rooms, 3, 1, 5)
    with pytest.raises(ValueError, match=r"must hold 2 rooms of the split 'train': manifest.json says 3"):
        ensure(rooms, 2, 1)


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(ValueError, match=r"must be empty or hold synthetic rooms: .*no manifest.json but holiday.jpg"):
        ensure(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": -1}, "num_train must not be negative: got -1"),
        ({"seed": -2}, "seed must not be negative: got -2"),
        ({"train": 0, "val": 0}, "At least one room must be asked for"),
        ({"num_workers": 0}, "num_workers must be at least 1: got 0"),
    ],
)
def test_bad_numbers_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        ensure(tmp_path, **arguments)
    assert not list(tmp_path.iterdir())


def test_the_command_line_makes_rooms_and_a_preview(tmp_path):
    options = ["--rooms", "1", "1", "--image-size", "12", "16", "--frames", "3", "--workers", "1"]
    assert main(["--root", str(tmp_path / "data"), *options]) == 0
    # Two rooms below each other, each six frames wide and three rows (colour, depth, label) high.
    with Image.open(tmp_path / "data/preview.png") as preview:
        assert preview.size == (6 * 16, 2 * 3 * 12)


def test_the_command_line_explains_bad_arguments(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_status:
        main(["--root", str(tmp_path / "data"), "--frames", "0"])
    assert exit_status.value.code == 2
    assert "num_frames must be at least 1: got 0" in capsys.readouterr().err
