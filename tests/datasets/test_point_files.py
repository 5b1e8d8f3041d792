"""Clouds of a user's own as a data set: what is declared of the files, and what is said of wrong ones."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from pointcept.datasets import PointFileDataset
from pointcept.datasets.cloud_files import read_cloud_file
from pointcept.datasets.transforms import Collect, FillMissing, GridSample, NormalizeColor

COORD = np.array([[0.5, 1.0, 2.0], [1.5, -1.0, 0.25], [3.0, 0.0, 1.0]], dtype=np.float32)
COLOR = np.array([[255, 0, 10], [1, 2, 3], [100, 150, 200]], dtype=np.float32)
LABEL = np.array([2, 0, 1])


def matrix() -> np.ndarray:
    return np.concatenate([COORD, COLOR, LABEL[:, None]], axis=1)


def folder(root: Path, **files: np.ndarray) -> Path:
    (root / "train").mkdir()
    for name, array in files.items():
        np.save(root / "train" / f"{name}.npy", array)
    return root


def las(path: Path, scale: int = 257) -> None:
    laspy = pytest.importorskip("laspy", reason="laspy is in the las extra")
    header = laspy.LasHeader(point_format=3, version="1.2")
    header.offsets, header.scales = (500000.0, 5700000.0, 0.0), (0.001, 0.001, 0.001)
    cloud = laspy.LasData(header)
    cloud.x, cloud.y, cloud.z = (COORD + np.array([500000, 5700000, 0])).T
    cloud.red, cloud.green, cloud.blue = (COLOR.astype(np.uint16) * scale).T
    cloud.intensity, cloud.classification = np.array([7, 8, 9]), LABEL
    cloud.write(path)


@pytest.mark.parametrize("name", ["cloud.las", "cloud.laz"])
def test_las_files_keep_their_millimetres(tmp_path, name):
    las(tmp_path / name)
    sample = read_cloud_file(tmp_path / name)
    assert sample.coord.dtype == np.float64
    np.testing.assert_allclose(sample.coord - (500000, 5700000, 0), COORD, atol=1e-6)
    np.testing.assert_allclose(sample.point["color"], COLOR, rtol=1e-6)
    np.testing.assert_array_equal(sample.point["segment"], LABEL)
    np.testing.assert_array_equal(sample.point["strength"], [[7], [8], [9]])


def test_eight_bit_colours_in_las_are_taken_as_they_are(tmp_path):
    las(tmp_path / "cloud.las", scale=1)
    np.testing.assert_array_equal(read_cloud_file(tmp_path / "cloud.las").point["color"], COLOR)
    np.testing.assert_allclose(read_cloud_file(tmp_path / "cloud.las", color_max=65535).point["color"], COLOR / 257)
    with pytest.raises(ValueError, match=r"Colours of .*cloud\.las must lie in 0\.\.1: got 0\.\.255"):
        read_cloud_file(tmp_path / "cloud.las", color_max=1)


def test_a_damaged_las_file_is_named(tmp_path):
    pytest.importorskip("laspy", reason="laspy is in the las extra")
    (tmp_path / "cloud.las").write_bytes(b"no cloud at all, but long enough to be read as a header" * 10)
    with pytest.raises(ValueError, match=r"cloud\.las must be a readable cloud: "):
        read_cloud_file(tmp_path / "cloud.las")


def test_a_header_names_the_columns_of_a_text(tmp_path):
    rows = np.concatenate([LABEL[:, None], COORD, [[9], [9], [9]]], axis=1)
    np.savetxt(tmp_path / "cloud.csv", rows, delimiter=",", comments="", header="Classification,X,Y,Z,scan angle")
    sample = read_cloud_file(tmp_path / "cloud.csv")
    np.testing.assert_allclose(sample.coord, COORD)
    np.testing.assert_array_equal(sample.point["segment"], LABEL)
    assert set(sample.point) == {"segment"}


def test_clouds_are_listed_by_name_and_labels_are_none(tmp_path):
    root = folder(tmp_path, b=matrix(), a=matrix(), b_labels=LABEL, a_labels=LABEL)
    (root / "train/notes.md").write_text("no cloud")
    (root / "train/.hidden.npy").write_text("")
    dataset = PointFileDataset(split="train", data_root=root, label_file="{name}_labels.npy")
    assert [dataset[index].name for index in range(len(dataset))] == ["train-a", "train-b"]
    np.testing.assert_array_equal(dataset[0].point["segment"], LABEL)


@pytest.mark.parametrize("name", ["split.txt", "split.json"])
def test_a_split_may_be_a_list(tmp_path, name):
    root = folder(tmp_path, b=matrix(), a=matrix())
    names = ["train/b.npy", "train/a.npy"]
    (root / name).write_text(json.dumps(names) if name.endswith("json") else "\n".join(names))
    dataset = PointFileDataset(split=name, data_root=root)
    assert [cloud.name for cloud in dataset.scenes] == ["b.npy", "a.npy"]
    (root / name).write_text('["train/c.npy"]' if name.endswith("json") else "train/c.npy")
    with pytest.raises(FileNotFoundError, match=r"must be a cloud below .*: 1 of 1 do not exist, first .*c\.npy"):
        PointFileDataset(split=name, data_root=root)


def test_declared_units_axes_and_labels(tmp_path):
    y_up = COORD[:, [0, 2, 1]] * (1000, 1000, -1000)  # x, then up, then towards the viewer
    root = folder(tmp_path, a=np.concatenate([y_up, COLOR / 255], axis=1))
    (root / "labels").mkdir()
    np.savetxt(root / "labels/a.txt", [30, 10, 99], fmt="%d")
    dataset = PointFileDataset(
        split="train",
        data_root=root,
        label_file="../labels/{name}.txt",
        label_map={10: 0, 20: 1, 30: 2, 99: -1},
        class_names=("floor", "wall", "chair"),
        metres_per_unit=0.001,
        up="y",
    )
    sample = dataset[0]
    np.testing.assert_allclose(sample.coord, COORD, rtol=1e-5)
    assert sample.coord.dtype == np.float32
    np.testing.assert_allclose(sample.point["color"], COLOR, rtol=1e-5)
    assert sample.point["segment"].tolist() == [2, 0, -1]


@pytest.mark.parametrize(("up", "axis"), [("x", 0), ("y", 1), ("z", 2)])
def test_the_axis_that_points_up_becomes_z_without_mirroring(tmp_path, up, axis):
    corner = np.eye(3)
    root = folder(tmp_path, a=np.concatenate([corner, np.eye(3)], axis=1))
    dataset = PointFileDataset(split="train", data_root=root, up=up, columns=("x", "y", "z", "nx", "ny", "nz"))
    turned = dataset[0]
    assert turned.coord[axis].tolist() == [0, 0, 1]
    assert np.linalg.det(turned.coord) == pytest.approx(1)
    np.testing.assert_array_equal(turned.point["normal"], turned.coord)


def test_clouds_without_colour_and_normals(tmp_path):
    root = folder(tmp_path, a=COORD)
    transforms = [
        FillMissing("color", (127.5,) * 3),
        FillMissing("normal", (0, 0, 0)),
        GridSample(0.1),
        NormalizeColor(),
    ]
    dataset = PointFileDataset(split="train", data_root=root, transform=[*transforms, Collect(("color", "normal"))])
    np.testing.assert_array_equal(dataset[0].point["feat"], np.zeros((3, 6)))
    bare = PointFileDataset(split="train", data_root=root, transform=[NormalizeColor()])
    with pytest.raises(ValueError, match=r"NormalizeColor needs point data 'color': scene 'train-a' has \[\]"):
        bare[0]
    bare = PointFileDataset(split="train", data_root=root, transform=[Collect(("normal",))])
    with pytest.raises(ValueError, match=r"Collect needs \['normal'\] in every sample: scene 'train-a'"):
        bare[0]


def test_wrong_files_are_named(tmp_path):
    root = folder(tmp_path, a=matrix())
    dataset = PointFileDataset(split="train", data_root=root, class_names=("floor", "wall"))
    found = re.escape("-1..1 (floor .. wall): 1 of 3 points (1 x 2) are not. Map")
    with pytest.raises(ValueError, match=rf"Labels of .*a\.npy must be {found}"):
        dataset[0]
    dataset = PointFileDataset(split="train", data_root=root, label_map={0: 0, 1: 1})
    with pytest.raises(
        ValueError, match=r"Raw labels of .*a\.npy must be in the label map, 0\.\.1: 1 of 3 points \(1 x 2\)"
    ):
        dataset[0]
    dataset = PointFileDataset(split="train", data_root=root, label_file="../labels/{name}.npy")
    with pytest.raises(FileNotFoundError, match=r"Every cloud must have labels: .*labels/a\.npy does not exist"):
        dataset[0]
    (root / "labels").mkdir()
    np.save(root / "labels/a.npy", np.zeros(4))
    with pytest.raises(ValueError, match=r"labels/a\.npy must hold one whole number per point: got shape \(4,\) for 3"):
        dataset[0]
    np.save(root / "train/a.npy", np.where(matrix() == 3.0, np.nan, matrix()))
    with pytest.raises(ValueError, match=r"a\.npy must be finite: it is not, 1 in x"):
        PointFileDataset(split="train", data_root=root)[0]


def test_wrong_splits_and_arguments_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ValueError, match=r"A split must hold at least one cloud: .*empty holds none\. It needs files that"
    ):
        PointFileDataset(split="empty", data_root=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"split must be a folder or a list in data_root: .*val does not exist"):
        PointFileDataset(split="val", data_root=tmp_path)
    root = folder(tmp_path, a=matrix())
    np.savetxt(root / "train/a.txt", matrix())
    with pytest.raises(ValueError, match=r"must have different names: .*train has a more than once"):
        PointFileDataset(split="train", data_root=root)
    with pytest.raises(ValueError, match=r"metres_per_unit must be positive and up one of x, y, z: got 0 and 'z'"):
        PointFileDataset(split="train", data_root=root, metres_per_unit=0)
    with pytest.raises(
        ValueError, match=r"label_file must say with \{name\} which cloud it belongs to: got 'labels\.npy'"
    ):
        PointFileDataset(split="train", data_root=root, label_file="labels.npy")
