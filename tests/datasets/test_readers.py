"""The readers of the benchmarks, on files that the tests write in Pointcept's and PonderV2's layouts."""

import json
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from pointcept.datasets import (
    NuScenesDataset,
    S3DISDataset,
    ScanNet200Dataset,
    ScanNetDataset,
    SceneDataset,
    SemanticKITTIDataset,
    Structured3DDataset,
)
from pointcept.datasets.label_tables import (
    NUSCENES_LEARNING_MAP,
    NUSCENES_NAMES,
    S3DIS_NAMES,
    SEMANTIC_KITTI_LEARNING_MAP,
    SEMANTIC_KITTI_NAMES,
    STRUCTURED3D_NAMES,
)
from pointcept.datasets.labels import SEMANTIC_KITTI_IDS
from pointcept.datasets.scannet200_labels import SCANNET200_IDS, SCANNET200_NAMES

SAMPLES = os.environ.get("POINTCEPT_SAMPLES")
needs_samples = pytest.mark.skipif(SAMPLES is None, reason="POINTCEPT_SAMPLES does not name a folder of real data")


def arrays(num_points: int = 10, num_classes: int = 13, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "coord": rng.uniform(0, 5, (num_points, 3)).astype(np.float32),
        "color": rng.integers(0, 256, (num_points, 3)).astype(np.uint8),
        "normal": rng.normal(size=(num_points, 3)).astype(np.float32),
        "segment": rng.integers(-1, num_classes, num_points).astype(np.int16),
        "instance": rng.integers(-1, 4, num_points).astype(np.int16),
    }


def write_scene(folder: Path, values: dict[str, np.ndarray]) -> None:
    folder.mkdir(parents=True)
    for name, array in values.items():
        np.save(folder / f"{name}.npy", array)


def test_scannet_reads_20_and_200_classes_of_the_same_clouds(tmp_path):
    values = arrays(num_classes=20)
    values["segment20"] = values.pop("segment").astype(np.int64)
    values["segment200"] = np.arange(190, 200)
    for scene in ("scene0001_00", "scene0000_00"):
        write_scene(tmp_path / "train" / scene, values)
    sample = ScanNetDataset(data_root=tmp_path)[1]
    assert (sample.name, sample.scene["condition"]) == ("scene0001_00", "ScanNet")
    np.testing.assert_array_equal(sample.coord, values["coord"])
    np.testing.assert_array_equal(sample.point["color"], values["color"])
    assert {key: value.dtype for key, value in sample.point.items()} == {
        "color": np.float32, "normal": np.float32, "segment": np.int64, "instance": np.int64
    }  # fmt: skip
    np.testing.assert_array_equal(sample.point["segment"], values["segment20"])
    np.testing.assert_array_equal(ScanNet200Dataset(data_root=tmp_path)[0].point["segment"], values["segment200"])


def test_s3dis_rooms_are_named_by_area(tmp_path):
    values = arrays()
    values["segment"] = values["segment"][:, None]  # as Pointcept saves them
    for area in ("Area_5", "Area_2"):
        write_scene(tmp_path / area / "office_1", values)
    dataset = S3DISDataset(split=("Area_2", "Area_5"), data_root=tmp_path)
    assert [dataset[index].name for index in range(2)] == ["Area_2-office_1", "Area_5-office_1"]
    np.testing.assert_array_equal(dataset[0].point["segment"], values["segment"][:, 0])
    assert dataset.class_names == S3DIS_NAMES and len(S3DIS_NAMES) == 13


def test_structured3d_has_rooms_in_scenes(tmp_path):
    for scene, room in (("scene_00001", "room_7"), ("scene_00000", "room_12")):
        write_scene(tmp_path / "val" / scene / room, arrays(num_classes=25))
    dataset = Structured3DDataset(split="val", data_root=tmp_path)
    assert [dataset[index].name for index in range(2)] == ["scene_00000_room_12", "scene_00001_room_7"]
    assert len(dataset.class_names) == len(STRUCTURED3D_NAMES) == 25


def test_ponder_v2_clouds_are_read(tmp_path):
    values = arrays(num_classes=20)
    (tmp_path / "val").mkdir()
    content = {
        "coord": values["coord"],
        "color": values["color"].astype(np.float32),
        "normal": torch.from_numpy(values["normal"]),
        "semantic_gt20": values["segment"].astype(np.int64),
        "semantic_gt200": values["segment"].astype(np.int64) + 100,
        "instance_gt": values["instance"],
        "scene_id": "scene0000_00",
    }
    torch.save(content, tmp_path / "val/scene0000_00.pth")
    sample = ScanNetDataset(split="val", data_root=tmp_path)[0]
    assert sample.name == "scene0000_00"
    np.testing.assert_array_equal(sample.coord, values["coord"])
    np.testing.assert_array_equal(sample.point["normal"], values["normal"])
    np.testing.assert_array_equal(sample.point["instance"], values["instance"])
    np.testing.assert_array_equal(sample.point["segment"], values["segment"])
    other = ScanNet200Dataset(split="val", data_root=tmp_path)[0].point["segment"]
    np.testing.assert_array_equal(other, values["segment"].astype(int) + 100)
    torch.save({"semantic_gt": values["segment"][:, None] % 13, "coord": values["coord"]}, tmp_path / "val/room.pth")
    room = S3DISDataset(split="val", data_root=tmp_path)[0]
    np.testing.assert_array_equal(room.point["segment"], values["segment"] % 13)


class Planted:
    def __reduce__(self):
        return (os.mkdir, ("planted",))


def test_a_cloud_that_would_execute_something_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train").mkdir()
    torch.save({"coord": Planted()}, tmp_path / "train/scene.pth")
    with pytest.raises(
        ValueError, match=r"scene\.pth must hold tensors, NumPy arrays, .* only: it names posix\.mkdir\. Save"
    ):
        ScanNetDataset(data_root=tmp_path)[0]
    torch.save([1], tmp_path / "train/scene.pth")
    with pytest.raises(ValueError, match=r"scene\.pth must hold a dict with 'coord': got list"):
        ScanNetDataset(data_root=tmp_path)[0]
    assert not Path("planted").exists()


def test_limited_scenes_keep_the_order_of_the_split(tmp_path):
    for name in "cab":
        write_scene(tmp_path / "train" / name, arrays())
    (tmp_path / "limited.txt").write_text("c\n\na\n")
    dataset = ScanNetDataset(data_root=tmp_path, lr_file=tmp_path / "limited.txt")
    assert [scene.name for scene in dataset.scenes] == ["a", "c"]
    (tmp_path / "limited.txt").write_text("c\nd\n")
    with pytest.raises(ValueError, match=r"limited\.txt must be in the split: 1 of 2 are not, first 'd'"):
        ScanNetDataset(data_root=tmp_path, lr_file=tmp_path / "limited.txt")
    (tmp_path / "limited.txt").write_text("c\nc\n")
    with pytest.raises(ValueError, match=r"must name every scene once, one per line: got \['c'\]"):
        ScanNetDataset(data_root=tmp_path, lr_file=tmp_path / "limited.txt")
    with pytest.raises(FileNotFoundError, match=r"A list of scenes must be a text file: .*none\.txt does not exist"):
        ScanNetDataset(data_root=tmp_path, lr_file=tmp_path / "none.txt")


@pytest.mark.parametrize("kind", ["json", "numpy", "tensor"])
@pytest.mark.parametrize("reader", [ScanNetDataset, ScanNet200Dataset])
def test_limited_points_keep_the_labels_of_the_listed_points(tmp_path, kind, reader):
    """Of the listed ones, not of all others: with 200 classes PonderV2 has it the wrong way round."""
    values = {**arrays(), "segment20": np.arange(10), "segment200": np.arange(10)}
    write_scene(tmp_path / "train/scene0000_00", values)
    rows = np.array([7, 2])
    listed = tmp_path / ("points.json" if kind == "json" else "points.pth")
    if kind == "json":
        listed.write_text(json.dumps({"scene0000_00": rows.tolist(), "another": []}))
    else:
        torch.save({"scene0000_00": rows if kind == "numpy" else torch.from_numpy(rows)}, listed)
    sample = reader(data_root=tmp_path, la_file=listed)[0]
    assert sample.point["segment"].tolist() == [-1, -1, 2, -1, -1, -1, -1, 7, -1, -1]


def test_limited_points_that_do_not_suit_are_named(tmp_path):
    write_scene(tmp_path / "train/scene0000_00", {**arrays(), "segment20": np.arange(10)})
    listed = tmp_path / "points.json"
    listed.write_text(json.dumps({"scene0001_00": [1]}))
    with pytest.raises(ValueError, match=r"must list every scene of the split: .* lacks 'scene0000_00'"):
        ScanNetDataset(data_root=tmp_path, la_file=listed)
    listed.write_text(json.dumps({"scene0000_00": [1, 10]}))
    with pytest.raises(ValueError, match=r"has 10 points and the file lists rows 1\.\.10"):
        ScanNetDataset(data_root=tmp_path, la_file=listed)[0]


def kitti(root: Path, raw: np.ndarray | None, sequence: str = "08") -> np.ndarray:
    folder = root / "dataset/sequences" / sequence
    (folder / "velodyne").mkdir(parents=True)
    sweep = np.random.default_rng(0).normal(size=(6, 4)).astype("<f4")
    sweep.tofile(folder / "velodyne/000012.bin")
    if raw is not None:
        (folder / "labels").mkdir()
        raw.astype("<u4").tofile(folder / "labels/000012.label")
    return sweep


def test_semantic_kitti(tmp_path):
    raw = np.array([10, 252, 0, 81, 99, 44]) + (np.arange(6) << 16)  # the upper half is the instance
    sweep = kitti(tmp_path, raw)
    sample = SemanticKITTIDataset(split="val", data_root=tmp_path)[0]
    assert sample.name == "08_000012"
    np.testing.assert_array_equal(sample.coord, sweep[:, :3])
    np.testing.assert_array_equal(sample.point["strength"], sweep[:, 3:])
    assert sample.point["segment"].tolist() == [0, 0, -1, 18, -1, 9]


def test_semantic_kitti_without_labels(tmp_path):
    kitti(tmp_path, None, "11")
    assert "segment" not in SemanticKITTIDataset(split="11", data_root=tmp_path)[0].point
    kitti(tmp_path, None, "08")
    with pytest.raises(FileNotFoundError, match=r"must have labels: .*08/labels/000012\.label does not exist"):
        SemanticKITTIDataset(split="val", data_root=tmp_path)[0]


def test_broken_sweeps_are_named(tmp_path):
    kitti(tmp_path, np.array([10, 17, 17, 10, 10, 300]))
    with pytest.raises(
        ValueError, match=r"000012\.label must be in the label map, 0\.\.259: 3 of 6 points \(2 x 17, 1 x 300\)"
    ):
        SemanticKITTIDataset(split="08", data_root=tmp_path)[0]
    folder = tmp_path / "dataset/sequences/08"
    np.zeros(5, "<u4").tofile(folder / "labels/000012.label")
    with pytest.raises(ValueError, match=r"one label of 4 bytes per point: it has 20 bytes for 6 points"):
        SemanticKITTIDataset(split="08", data_root=tmp_path)[0]
    (folder / "velodyne/000012.bin").write_bytes(b"\0" * 30)
    with pytest.raises(ValueError, match=r"rows of 4 float32: its 30 bytes are no multiple of 16"):
        SemanticKITTIDataset(split="08", data_root=tmp_path)[0]
    (folder / "velodyne/000012.bin").unlink()
    with pytest.raises(ValueError, match=r"A sequence must hold sweeps: .*velodyne has no \.bin file"):
        SemanticKITTIDataset(split="val", data_root=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"Split 'train' needs sequence 00: .* does not exist"):
        SemanticKITTIDataset(data_root=tmp_path)
    with pytest.raises(ValueError, match=r"split must be train, val, test or the number of a sequence: got 'valid'"):
        SemanticKITTIDataset(split="valid", data_root=tmp_path)


def nuscenes(root: Path, raw: np.ndarray | None, kind: str) -> np.ndarray:
    sweep = np.random.default_rng(0).uniform(0, 255, (5, 5)).astype("<f4")
    (root / "raw/samples/LIDAR_TOP").mkdir(parents=True)
    (root / "info").mkdir()
    sweep.tofile(root / "raw/samples/LIDAR_TOP/a.pcd.bin")
    info = {"lidar_path": "samples/LIDAR_TOP/a.pcd.bin", "lidar_token": "8a1f", "sweeps": [], "cams": {}}
    if raw is not None:
        (root / "raw/lidarseg").mkdir()
        raw.astype("u1").tofile(root / "raw/lidarseg/8a1f_lidarseg.bin")
        info["gt_segment_path"] = "lidarseg/8a1f_lidarseg.bin"
    if kind == "json":
        (root / "info/nuscenes_infos_10sweeps_val.json").write_text(json.dumps([info]))
    else:
        info |= {"gt_boxes": np.zeros((2, 9)), "timestamp": np.float64(3.5), "gt_names": np.array(["car", "bus"])}
        (root / "info/nuscenes_infos_10sweeps_val.pkl").write_bytes(pickle.dumps([info]))
    return sweep


@pytest.mark.parametrize("kind", ["json", "pickle"])
def test_nuscenes(tmp_path, kind):
    sweep = nuscenes(tmp_path, np.array([17, 9, 0, 30, 31]), kind)
    sample = NuScenesDataset(split="val", data_root=tmp_path)[0]
    assert sample.name == "8a1f"
    np.testing.assert_array_equal(sample.coord, sweep[:, :3])
    np.testing.assert_allclose(sample.point["strength"], sweep[:, 3:4] / 255)
    assert sample.point["segment"].tolist() == [3, 0, -1, 15, -1]


def test_nuscenes_without_labels_or_with_a_bad_list(tmp_path, monkeypatch):
    nuscenes(tmp_path, None, "pickle")
    assert "segment" not in NuScenesDataset(split="val", data_root=tmp_path)[0].point
    path = tmp_path / "info/nuscenes_infos_10sweeps_val.pkl"
    monkeypatch.chdir(tmp_path)
    for content, message in (
        ([], r"val\.pkl must be a list of at least one sweep: got list"),
        ([{"lidar_path": "a"}], r"Entry 0 of .*val\.pkl must have lidar_token"),
        (Planted(), r"val\.pkl must hold lists, dicts, .* only: it names posix\.mkdir"),
    ):
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(ValueError, match=message):
            NuScenesDataset(split="val", data_root=tmp_path)
    assert not Path("planted").exists()
    with pytest.raises(
        FileNotFoundError, match=r"Split 'train' needs a list of sweeps: neither .*10sweeps_train\.pkl nor"
    ):
        NuScenesDataset(data_root=tmp_path)


def test_label_tables_agree_with_each_other():
    assert len(NUSCENES_NAMES) == 16 and set(NUSCENES_LEARNING_MAP.values()) == {-1, *range(16)}
    assert sorted(NUSCENES_LEARNING_MAP) == list(range(32))
    assert len(SEMANTIC_KITTI_NAMES) == 19 and set(SEMANTIC_KITTI_LEARNING_MAP.values()) == {-1, *range(19)}
    assert [SEMANTIC_KITTI_LEARNING_MAP[raw] for raw in SEMANTIC_KITTI_IDS] == list(range(19))
    assert len(SCANNET200_IDS) == len(set(SCANNET200_IDS)) == len(set(SCANNET200_NAMES)) == 200
    assert list(SCANNET200_IDS) == sorted(SCANNET200_IDS) and SCANNET200_NAMES[:3] == ("wall", "chair", "floor")


def test_labels_out_of_range_are_counted_and_named(tmp_path):
    segment = np.array([0, 255, 20, 255, -1, -2, 19, 0, 0, 0])
    write_scene(tmp_path / "train/attic", {**arrays(), "segment20": segment})
    found = re.escape("-1..19 (wall .. otherfurniture): 4 of 10 points (1 x -2, 1 x 20, 2 x 255) are not.")
    with pytest.raises(ValueError, match=rf"Labels of .*attic must be {found}"):
        ScanNetDataset(data_root=tmp_path)[0]
    with pytest.raises(ValueError, match=r"must be at least -1: 1 of 10 points \(1 x -2\) are not"):
        SceneDataset(split="train", data_root=tmp_path)[0]


def test_a_split_without_scenes_and_wrong_files_are_named(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match=r"A split must hold at least one scene: .*train holds none"):
        ScanNetDataset(data_root=tmp_path)
    write_scene(tmp_path / "train/attic", {"coord": np.array([[0, 0, np.nan], [1, 1, 1]], np.float32)})
    with pytest.raises(ValueError, match=r"attic.coord\.npy must be finite: 1 of 2 rows are not"):
        ScanNetDataset(data_root=tmp_path)[0]
    np.save(tmp_path / "train/attic/coord.npy", np.zeros((2, 3), np.float32))
    np.save(tmp_path / "train/attic/color.npy", np.zeros((3, 3), np.uint8))
    with pytest.raises(
        ValueError, match=r"color\.npy must have one row of 3 per point of coord\.npy: got \(3, 3\) for 2"
    ):
        ScanNetDataset(data_root=tmp_path)[0]


@needs_samples
def test_a_real_sweep_of_semantic_kitti():
    sample = SemanticKITTIDataset(split="00", data_root=Path(SAMPLES) / "semantickitti")[0]
    assert sample.name == "00_000000" and sample.num_points == 124668
    counts = np.bincount(sample.point["segment"] + 1, minlength=20)
    assert counts[0] == 2184 + 4 + 1471 + 1227 and counts[1] == 4234  # of no class; car
    assert counts[1 + 8] == 34228 + 1053  # road, with the lane markings
    assert 0 <= sample.point["strength"].min() and sample.point["strength"].max() <= 1


@needs_samples
def test_a_real_sweep_of_nuscenes(tmp_path):
    source = Path(SAMPLES) / "nuscenes/scene-0061_sample0"
    (tmp_path / "info").mkdir()
    (tmp_path / "raw").symlink_to(source)
    sweep = next((source / "samples/LIDAR_TOP").glob("*.bin"))
    info = {"lidar_path": f"samples/LIDAR_TOP/{sweep.name}", "lidar_token": "9d9bf11fb0e144c8b446d54a8a00184f"}
    (tmp_path / "info/nuscenes_infos_10sweeps_test.pkl").write_bytes(pickle.dumps([info]))
    sample = NuScenesDataset(split="test", data_root=tmp_path)[0]
    assert sample.num_points == 34688 and "segment" not in sample.point
    assert 40 < np.abs(sample.coord[:, :2]).max() < 110 and sample.point["strength"].max() <= 1


@needs_samples
def test_a_real_room_of_s3dis(tmp_path):
    values = np.load(Path(SAMPLES) / "s3dis/Area_X_demo_1.npy")
    room = {"coord": values[:, :3], "color": values[:, 3:6].astype(np.uint8), "segment": values[:, 6:].astype(np.int16)}
    write_scene(tmp_path / "Area_1/demo_1", room)
    sample = S3DISDataset(split="Area_1", data_root=tmp_path)[0]
    assert sample.num_points == 20784 and set(sample.point["segment"]) == {1, 2, 7, 8, 12}
