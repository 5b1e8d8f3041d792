import numpy as np
import pytest

from pointcept.datasets.transforms import Collect, FillMissing, PointClip, ToTensor
from pointcept.structures import PointSample

RNG = np.random.default_rng(0)


def sample() -> PointSample:
    coord = np.array([[1, 2, 3], [-100, 0, 50]], np.float32)
    return PointSample(coord=coord, point={"strength": np.array([[0.5], [1.0]], np.float32)}, scene={"name": "street"})


def test_features_are_joined_in_the_order_given():
    result = Collect(("strength", "coord"), keys=("name",))(sample(), RNG)
    np.testing.assert_array_equal(result.point["feat"], [[0.5, 1, 2, 3], [1, -100, 0, 50]])
    assert result.point["feat"].dtype == np.float32 and set(result.point) == {"feat"}


def test_missing_features_get_the_declared_value_and_others_stay():
    filled = FillMissing("normal", (0, 0, 1))(FillMissing("strength", (7,))(sample(), RNG), RNG)
    np.testing.assert_array_equal(filled.point["normal"], [[0, 0, 1], [0, 0, 1]])
    np.testing.assert_array_equal(filled.point["strength"], [[0.5], [1.0]])
    with pytest.raises(ValueError, match=r"one number per channel of 'color': got none"):
        FillMissing("color", ())


def test_to_tensor_leaves_the_work_to_collation():
    original = sample()
    assert ToTensor()(original, RNG) is original


def test_points_are_clipped_to_the_box():
    clipped = PointClip((-51.2, -51.2, -4, 51.2, 51.2, 2.4))(sample(), RNG)
    np.testing.assert_allclose(clipped.coord, [[1, 2, 2.4], [-51.2, 0, 2.4]], rtol=1e-6)
    assert clipped.coord.dtype == np.float32
    with pytest.raises(ValueError, match=r"point_cloud_range must be \(x_min"):
        PointClip((0, 0, 0, -1, 1, 1))
