import numpy as np
import pytest

from pointcept.datasets import SceneDataset
from pointcept.datasets.labels import (
    NYU40_NAMES,
    SCANNET20_NAMES,
    SCANNET20_NYU40_IDS,
    SCANNET20_PALETTE,
    label_names,
    label_set,
    scannet20_colors,
    scannet20_from_nyu40,
)
from pointcept.datasets.transforms import UnifyLabels
from pointcept.datasets.unified_labels import INDOOR36_INDICES, INDOOR36_NAMES, unified_indices
from pointcept.structures import PointSample, Views


def test_the_twenty_classes_are_nyu40_classes_of_the_same_name():
    assert len(SCANNET20_NAMES) == len(SCANNET20_PALETTE) == len(set(SCANNET20_PALETTE)) == 20
    assert len(NYU40_NAMES) == 41
    assert tuple(NYU40_NAMES[k] for k in SCANNET20_NYU40_IDS) == SCANNET20_NAMES


def test_nyu40_ids_map_to_classes_and_the_rest_is_ignored():
    label = np.array([[0, 1, 12], [13, 14, 39], [40, 255, 36]], dtype=np.uint8)
    np.testing.assert_array_equal(scannet20_from_nyu40(label), [[-1, 0, 11], [-1, 12, 19], [-1, -1, 18]])


def test_colors_follow_the_palette_and_ignored_is_black():
    np.testing.assert_array_equal(
        scannet20_colors(np.array([0, 19, -1])), [SCANNET20_PALETTE[0], SCANNET20_PALETTE[19], (0, 0, 0)]
    )
    with pytest.raises(ValueError, match=r"must lie in -1..19: got 3..20"):
        scannet20_colors(np.array([3, 20]))


LONGER_NAMES = {
    "otherfurniture": "other furniture",
    "otherstructure": "other structure",
    "otherprop": "other property",
}


@pytest.mark.parametrize(("name", "count"), [("scannet20", 20), ("s3dis", 13), ("structured3d", 25)])
def test_the_unified_list_has_every_class_under_its_own_name(name, count):
    """PonderV2's sorted list for S3DIS fails this: its label 0, the ceiling, stands at "wall"."""
    names = label_set(name)
    assert len(names) == count and len(set(INDOOR36_INDICES[name])) == count
    assert [INDOOR36_NAMES[index] for index in unified_indices(name)] == [LONGER_NAMES.get(n, n) for n in names]


def test_the_unified_list_has_36_different_names_and_most_are_used():
    assert len(INDOOR36_NAMES) == len(set(INDOOR36_NAMES)) == 36
    unused = set(range(36)) - {index for indices in INDOOR36_INDICES.values() for index in indices}
    assert {INDOOR36_NAMES[index] for index in unused} == {"garbagebin"}


def test_unify_labels_maps_points_and_views_and_keeps_unlabelled():
    views = Views(
        image=[np.zeros((1, 3, 3), np.uint8)],
        depth=[np.ones((1, 3), np.float32)],
        intrinsic=np.eye(3)[None],
        extrinsic=np.eye(4)[None],
        segment=[np.array([[0, -1, 12]])],
    )
    sample = PointSample(
        coord=np.zeros((4, 3), np.float32), point={"segment": np.array([0, 2, -1, 12])}, views=views, input_views=views
    )
    unified = UnifyLabels("s3dis")(sample, np.random.default_rng(0))
    assert [INDOOR36_NAMES[k] if k >= 0 else None for k in unified.point["segment"]] == [
        "ceiling", "wall", None, "clutter",
    ]  # fmt: skip
    np.testing.assert_array_equal(unified.views.segment[0], [[19, -1, 32]])
    np.testing.assert_array_equal(unified.input_views.segment[0], [[19, -1, 32]])
    np.testing.assert_array_equal(sample.point["segment"], [0, 2, -1, 12])
    with pytest.raises(ValueError, match=r"Labels of s3dis must lie in -1..12: scene '' has -1..32.*UnifyLabels once"):
        UnifyLabels("s3dis")(unified, np.random.default_rng(0))
    with pytest.raises(ValueError, match="source must be one of scannet20, s3dis, structured3d: got 's3d'"):
        UnifyLabels("s3d")


def test_names_of_labels_follow_file_and_transform(tmp_path):
    (tmp_path / "train/room").mkdir(parents=True)
    plain = {"split": "train", "data_root": tmp_path}
    assert label_names(SceneDataset(**plain)) == SCANNET20_NAMES
    assert label_names(SceneDataset(**plain, segment_key="segment")) is None
    assert label_names(SceneDataset(**plain, transform=[UnifyLabels("scannet20")])) == INDOOR36_NAMES
    assert label_names(object()) is None
