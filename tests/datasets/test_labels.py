import numpy as np
import pytest

from pointcept.datasets.labels import (
    NYU40_NAMES,
    SCANNET20_NAMES,
    SCANNET20_NYU40_IDS,
    SCANNET20_PALETTE,
    scannet20_colors,
    scannet20_from_nyu40,
)


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
