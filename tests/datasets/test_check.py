"""The check of data: what it measures is right, and every planted mistake is found and named."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pointcept.datasets import PointFileDataset
from pointcept.datasets.check import CloudFacts, SplitFacts, find_problems, measure_split
from pointcept.datasets.check.__main__ import main
from pointcept.datasets.check.measure import spacing_of, voxel_size_for
from pointcept.datasets.check.report import class_colors
from pointcept.datasets.transforms import Collect, FillMissing, GridSample

NAMES = ("floor", "wall", "chair")


def room(seed: int = 0, step_m: float = 0.1) -> np.ndarray:
    """Floor and a wall on a lattice: x y z, colour, label, normal."""
    x, y = (axis.reshape(-1) for axis in np.meshgrid(np.arange(0, 4, step_m), np.arange(0, 3, step_m)))
    floor = np.stack([x, y, np.zeros_like(x)], axis=1)
    x, z = (axis.reshape(-1) for axis in np.meshgrid(np.arange(0, 4, step_m), np.arange(step_m, 1.0, step_m)))
    wall = np.stack([x, np.zeros_like(x), z], axis=1)
    coord = np.concatenate([floor, wall]) + np.array([seed, 0, 0])
    color = np.random.default_rng(seed).integers(0, 256, (len(coord), 3))
    label = np.repeat([0, 1], [len(floor), len(wall)])[:, None]
    normal = np.repeat([[0, 0, 1], [0, 1, 0]], [len(floor), len(wall)], axis=0)
    return np.concatenate([coord, color, label, normal], axis=1)


COLUMNS = ("x", "y", "z", "red", "green", "blue", "label", "nx", "ny", "nz")


def write(root: Path, **clouds: np.ndarray) -> Path:
    for name, array in clouds.items():
        split, _, stem = name.partition("_")
        (root / split).mkdir(exist_ok=True, parents=True)
        np.save(root / split / f"{stem}.npy", array)
    return root


def measured(root: Path, split: str = "train", **arguments) -> SplitFacts:
    arguments = {"columns": COLUMNS, "class_names": NAMES, **arguments}
    dataset = PointFileDataset(split=split, data_root=root, **arguments)
    return measure_split(split, dataset, dataset.scenes)


def texts(*splits: SplitFacts, num_classes: int | None = None) -> str:
    return "\n".join(f"{f.level} {f.split}: {f.text}" for f in find_problems(splits, num_classes))


def test_a_good_data_set_is_measured_and_nothing_is_wrong(tmp_path):
    write(tmp_path, train_a=room(0), train_b=room(1), val_c=room(2))
    transforms = [GridSample(0.2), Collect(("color", "normal"))]
    train, val = measured(tmp_path, transform=transforms), measured(tmp_path, "val", transform=transforms)
    cloud = train.clouds[0]
    assert (cloud.name, cloud.num_points) == ("train-a", 1560)
    np.testing.assert_allclose(cloud.extent_m, (3.9, 2.9, 0.9), atol=1e-6)
    assert cloud.spacing_m == pytest.approx(0.1, abs=1e-6)
    grid = np.floor(room()[:, :3].astype(np.float32).astype(np.float64) / 0.2)
    assert cloud.num_voxels == len(np.unique(grid, axis=0)) and train.grid_size == 0.2
    assert train.labels == Counter({0: 2400, 1: 720}) and cloud.normal_length == (1, 1)
    np.testing.assert_allclose(cloud.upright, (0, 360 / 1560, 1200 / 1560), rtol=1e-6)
    assert texts(train, val, num_classes=3) == ""


def test_spacing_and_voxel_size():
    lattice = np.stack(np.meshgrid(*[np.arange(12) * 0.03] * 3), axis=-1).reshape(-1, 3)
    assert spacing_of(lattice) == pytest.approx(0.03)
    assert spacing_of(lattice[:1]) == 0
    line = np.zeros((400_001, 3))
    line[:, 0] = np.arange(400_001)
    assert spacing_of(line) == 1  # of a part of it
    assert [voxel_size_for(spacing) for spacing in (0.0133, 0.03, 0.1, 1.0, 0.0)] == [0.02, 0.05, 0.15, 1.5, 0.02]


def test_unreadable_clouds_are_errors_and_the_others_still_count(tmp_path):
    broken = room(1)
    broken[5, 2] = np.inf
    write(tmp_path, train_a=room(0), train_b=broken)
    facts = measured(tmp_path)
    assert [cloud.name for cloud in facts.readable] == ["train-a"]
    assert "error train: Cloud train-b cannot be read. " in texts(
        facts
    ) and "must be finite: it is not, 1 in z" in texts(facts)


def test_labels_out_of_range_are_counted_and_named(tmp_path):
    wrong = room(1)
    wrong[:5, 6], wrong[5:7, 6] = 7, -2
    write(tmp_path, train_a=room(0), train_b=wrong)
    found = texts(measured(tmp_path))
    assert "Labels must lie in -1..2: 7 of 3120 points have -2 (2 points), 7 (5 points), in train-b." in found
    unknown = texts(measured(tmp_path, class_names=None), num_classes=8)
    assert "Labels must lie in -1..7: 2 of 3120 points have -2 (2 points), in train-b." in unknown


def test_a_class_list_of_another_length_is_an_error(tmp_path):
    write(tmp_path, train_a=room(0))
    assert "error train: The data set has 3 classes and the model has 20." in texts(measured(tmp_path), num_classes=20)


def test_millimetres_and_a_y_axis_that_points_up_are_suspected(tmp_path):
    millimetres = room(0)
    millimetres[:, :3] *= 1000
    write(tmp_path, train_a=millimetres)
    found = texts(measured(tmp_path))
    assert "error train: Points are 100 m apart (median) and clouds up to 3900 m large" in found
    assert "Set metres_per_unit=0.001" in found and texts(measured(tmp_path, metres_per_unit=0.001)) == ""
    y_up = room(0)[:, [0, 2, 1, 3, 4, 5, 6, 7, 9, 8]]
    write(tmp_path, val_a=y_up)
    assert "warning val: y looks like the axis that points up in val-a" in texts(measured(tmp_path, "val"))
    bare = dict(columns=("x", "y", "z", *["_"] * 7))
    assert "y looks like" in texts(measured(tmp_path, "val", **bare))
    assert "y looks like" not in texts(measured(tmp_path, "val", up="y"))


def test_coordinates_of_a_map_are_pointed_out(tmp_path):
    mapped = room(0)
    mapped[:, :3] += (500000, 5700000, 0)
    write(tmp_path, train_a=mapped)
    assert "train-a are more than 100 km from the origin" in texts(measured(tmp_path))


def test_voxels_that_do_not_suit_the_points(tmp_path):
    write(tmp_path, train_a=room(0))
    coarse = texts(measured(tmp_path, transform=[GridSample(2.0)]))
    assert "grid_size=2 keeps 0.3 % of the points, which are 0.1 m apart. 0.15 would keep" in coarse
    fine = texts(measured(tmp_path, transform=[GridSample(0.02)]))
    assert "grid_size=0.02 is far finer than the points, which are 0.1 m apart" in fine and "Try 0.15" in fine
    write(tmp_path, val_a=np.repeat(room(0), 2, axis=0))
    assert "Most points have another at the same place" in texts(measured(tmp_path, "val"))


def test_missing_features_are_errors_unless_they_are_filled(tmp_path):
    write(tmp_path, train_a=room(0))
    bare = dict(columns=("x", "y", "z", "red", "green", "blue", "label", "_", "_", "_"))
    transforms = [Collect(("color", "normal"))]
    assert "The transforms need normal, which 1 of 1 clouds lack: train-a." in texts(
        measured(tmp_path, transform=transforms, **bare)
    )
    filled = [FillMissing("normal", (0, 0, 0)), *transforms]
    assert texts(measured(tmp_path, transform=filled, **bare)) == ""


def facts(**values) -> SplitFacts:
    cloud = CloudFacts(
        **{"name": "a", "num_points": 9, "extent_m": (4.0, 3.0, 1.0), "spacing_m": 0.1, "num_voxels": 5, **values}
    )
    return SplitFacts("train", (cloud,), 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"color": (0.0, 1.0)}, "Colours lie in 0..1, not in 0..255. Set color_max=1"),
        ({"color": (0.0, 65535.0)}, "Colours must lie in 0..255: got 0..65535. Set color_max"),
        ({"color": (0.0, 0.0)}, "All colours are 0. Check the columns"),
        ({"normal_length": (0.0, 1.0)}, "Normals must have length 1: theirs is 0..1"),
        ({"labels": Counter({-1: 95, 0: 5}), "keys": ("segment",)}, "95.0 % of the points have no class (-1)"),
    ],
)
def test_suspicious_values(values, message):
    assert message in texts(facts(**values))


def test_clouds_in_two_splits_are_errors(tmp_path):
    write(tmp_path, train_a=room(0), train_b=room(1), train_c=room(1), val_d=room(0), test_d=room(0))
    found = texts(*(measured(tmp_path, split) for split in ("train", "val", "test")))
    assert "error train, val: 1 clouds are in both splits, such as train-a and val-d" in found
    assert "warning train: 1 clouds are there twice, such as train-b and train-c" in found
    assert "val, test" not in found  # benchmarks without public test labels do so on purpose


def test_classes_that_only_validation_has(tmp_path):
    other = room(1)
    other[:9, 6] = 2
    write(tmp_path, train_a=room(0), val_b=other)
    assert "warning train, val: Classes that train does not have are in val: chair." in texts(
        measured(tmp_path), measured(tmp_path, "val")
    )


def test_some_clouds_without_labels(tmp_path):
    write(tmp_path, train_a=room(0), train_b=room(1)[:, :6])
    dataset = PointFileDataset(split="train", data_root=tmp_path, class_names=NAMES)
    np.save(dataset.scenes[0], room(0)[:, :7])
    assert "error train: Some clouds have labels and train-b have none" in texts(measured(tmp_path, columns=None))


def config(root: Path, data: str, model: str = "dict(num_classes=3)") -> str:
    path = root / "own.py"
    source = f'dict(type="PointFileDataset", data_root={str(root)!r}, columns={COLUMNS}, class_names={NAMES}, split='
    path.write_text(f"model = {model}\noptimizer = dict()\ndata = {data}\n".replace("SPLIT(", source))
    return str(path)


def test_the_command_prints_tables_and_writes_pictures(tmp_path, capsys):
    write(tmp_path, train_a=room(0), train_b=room(1), val_c=room(2))
    path = config(tmp_path, 'dict(train=SPLIT("train"), val=SPLIT("val"))')
    arguments = [path, "--json", str(tmp_path / "check.json"), "--pictures", str(tmp_path / "pictures")]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for line in (
        "clouds 2 1",
        "points 3,120 1,560",
        "extent x y z (median) 3.9 x 2.9 x 0.9 m 3.9 x 2.9 x 0.9 m",
        "spacing (median) 0.1 m 0.1 m",
        "suggested voxel size 0.15 m 0.15 m",
        "1 wall 720 23.08 % 2 #########",
        "2 chair 0 0.00 % 0",
        "Nothing looks wrong.",
    ):
        assert line in lines, out
    plain = json.loads((tmp_path / "check.json").read_text())
    assert plain["splits"][0]["clouds"][1]["labels"] == {"0": 1200, "1": 360} and plain["findings"] == []
    picture = np.asarray(Image.open(tmp_path / "pictures/train-train-a.png"))
    assert picture.shape[1] == 960 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 100
    assert main([path, "--limit", "1", "--splits", "train"]) == 0
    assert "1 of 2" in capsys.readouterr().out


def test_the_command_fails_on_errors_and_says_which(tmp_path, capsys):
    write(tmp_path, train_a=room(0), val_b=room(0))
    (tmp_path / "none").mkdir()
    path = config(tmp_path, 'dict(train=SPLIT("train"), val=SPLIT("val"), test=SPLIT("none"))')
    assert main([path]) == 1
    out = capsys.readouterr().out
    assert "ERROR   test: A split must hold at least one cloud: " in out and "ERROR   train, val: 1 clouds" in out
    assert out.endswith("2 errors, 0 warnings.\n")
    assert main([path, "--splits", "nowhere"]) == 1
    assert "must have the splits to check: nowhere is not in ['test', 'train', 'val']" in capsys.readouterr().err
    assert main([str(tmp_path / "gone.py")]) == 1
    assert "gone.py" in capsys.readouterr().err


def test_joined_data_sets_are_checked_one_by_one(tmp_path, capsys):
    write(tmp_path, train_a=room(0), more_b=room(1))
    path = config(tmp_path, 'dict(train=dict(type="ConcatDataset", datasets=[SPLIT("train"), SPLIT("more")]))')
    assert main([path]) == 0
    assert "train[0]" in capsys.readouterr().out


def test_every_class_has_a_colour_of_its_own():
    colors = class_colors(np.arange(-1, 40))
    assert len(np.unique(colors, axis=0)) == 41 and colors[0].tolist() == [150, 150, 150]
