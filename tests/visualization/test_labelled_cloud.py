"""Labelled clouds: their colours, what the files hold, and the picture with its legend."""

import numpy as np
import pytest
from plyfile import PlyData

from pointcept.datasets.labels import SCANNET20_NAMES, SCANNET20_PALETTE
from pointcept.visualization.labelled_cloud import LabelledCloud, class_palette


def cloud(names=("floor", "chair"), count: int = 200) -> LabelledCloud:
    rng = np.random.default_rng(0)
    label = rng.integers(0, len(names), count)
    return LabelledCloud(rng.uniform(0, 3, (count, 3)), label, rng.uniform(0, 1, count).astype(np.float32), names)


def test_known_classes_have_the_benchmarks_colours_and_others_differ():
    np.testing.assert_array_equal(class_palette(SCANNET20_NAMES), SCANNET20_PALETTE)
    palette = class_palette([str(number) for number in range(60)]).astype(int)
    distance = np.abs(palette[:, None] - palette[None]).max(axis=-1)
    assert distance[~np.eye(60, dtype=bool)].min() >= 8


def test_files_hold_points_classes_colours_and_probabilities(tmp_path):
    labelled = cloud()
    labelled.write(tmp_path / "new" / "a.ply")
    labelled.write(tmp_path / "a.npz")
    vertices = PlyData.read(tmp_path / "new" / "a.ply")["vertex"].data
    np.testing.assert_array_equal(np.stack([vertices[axis] for axis in "xyz"], axis=1), labelled.coord)
    color = np.stack([vertices[name] for name in ("red", "green", "blue")], axis=1)
    np.testing.assert_array_equal(color, class_palette(labelled.class_names)[labelled.label])
    np.testing.assert_array_equal(vertices["label"], labelled.label)
    np.testing.assert_array_equal(vertices["probability"], labelled.probability)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["coord"], labelled.coord)
        np.testing.assert_array_equal(arrays["label"], labelled.label)
        assert arrays["class_names"].tolist() == ["floor", "chair"]
    with pytest.raises(ValueError, match=r"must be written as \.ply or \.npz: got .*a\.obj"):
        labelled.write(tmp_path / "a.obj")


def test_the_picture_shows_classes_and_hides_the_ceiling():
    names = ("floor", "ceiling")
    labelled = cloud(names)
    palette = class_palette(names)
    scene, legend = np.split(labelled.picture(), [640], axis=1)
    assert scene.shape == (480, 640, 3)

    def has(picture, color):
        return (picture == color).all(axis=-1).any()

    assert has(scene, palette[0]) and not has(scene, palette[1])
    assert has(legend, palette[0]) and has(legend, palette[1])
    only = LabelledCloud(labelled.coord, np.ones_like(labelled.label), labelled.probability, names)
    assert has(only.picture()[:, :640], palette[1])
