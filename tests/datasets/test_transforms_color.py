import numpy as np
import pytest

from pointcept.datasets.transforms import (
    ChromaticAutoContrast,
    ChromaticJitter,
    ChromaticTranslation,
    Collect,
    NormalizeColor,
    RandomColorDrop,
)
from pointcept.structures import PointSample


def make_sample(color):
    color = np.asarray(color, np.float32).reshape(-1, 3)
    return PointSample(coord=np.zeros((len(color), 3), np.float32), point={"color": color}, scene={"name": "room"})


COLOR = [
    NormalizeColor(),
    ChromaticAutoContrast(p=1),
    ChromaticTranslation(p=1),
    ChromaticJitter(p=1),
    RandomColorDrop(p=1),
]


@pytest.mark.parametrize("transform", COLOR, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("num_points", [0, 1, 50])
def test_any_size_stays_float32_and_the_input_is_kept(transform, num_points):
    sample = make_sample(np.random.default_rng(0).uniform(0, 255, (num_points, 3)))
    before = sample.point["color"].copy()
    result = transform(sample, np.random.default_rng(1)).point["color"]
    assert result.dtype == np.float32 and result.shape == before.shape and np.isfinite(result).all()
    np.testing.assert_array_equal(sample.point["color"], before)
    np.testing.assert_array_equal(transform(sample, np.random.default_rng(1)).point["color"], result)


@pytest.mark.parametrize("transform", COLOR, ids=lambda t: type(t).__name__)
def test_missing_color_is_named(transform):
    sample = PointSample(coord=np.zeros((1, 3), np.float32), scene={"name": "room"})
    with pytest.raises(
        ValueError, match=rf"{type(transform).__name__} needs point data 'color': scene 'room' has \[\]"
    ):
        transform(sample, np.random.default_rng(0))


def test_normalize_by_hand():
    sample = make_sample([[0, 127.5, 255]])
    rng = np.random.default_rng(0)
    np.testing.assert_allclose(NormalizeColor()(sample, rng).point["color"], [[-1, 0, 1]])
    np.testing.assert_allclose(NormalizeColor(symmetric=False)(sample, rng).point["color"], [[0, 0.5, 1]])


def test_auto_contrast_by_hand():
    # Channels: 50..100 stretched to 0..255, one constant (kept), 0..255 (unchanged).
    sample = make_sample([[50, 7, 0], [100, 7, 255], [75, 7, 51]])
    full = ChromaticAutoContrast(p=1, blend_factor=1)(sample, np.random.default_rng(0)).point["color"]
    np.testing.assert_allclose(full, [[0, 7, 0], [255, 7, 255], [127.5, 7, 51]], rtol=1e-5)
    half = ChromaticAutoContrast(p=1, blend_factor=0.5)(sample, np.random.default_rng(0)).point["color"]
    np.testing.assert_allclose(half, (full + sample.point["color"]) / 2, rtol=1e-5)


def test_translation_is_one_color_for_all_within_its_ratio_and_clipped():
    sample = make_sample([[100, 100, 100], [150, 150, 150], [255, 255, 255], [0, 0, 0]])
    shifts = []
    for seed in range(50):
        color = ChromaticTranslation(p=1, ratio=0.05)(sample, np.random.default_rng(seed)).point["color"]
        np.testing.assert_allclose(color[0] - 100, color[1] - 150, atol=1e-4)
        assert color.min() >= 0 and color.max() <= 255
        shifts.append(color[0] - 100)
    assert 0.8 * 12.75 < np.abs(shifts).max() <= 12.75


def test_jitter_has_its_standard_deviation_per_point():
    sample = make_sample(np.full((5000, 3), 128))
    noise = ChromaticJitter(p=1, std=0.01)(sample, np.random.default_rng(0)).point["color"] - 128
    np.testing.assert_allclose(noise.std(axis=0), 2.55, rtol=0.05)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.15)


def test_color_drop_scales_all_colors_as_often_as_it_says():
    sample = make_sample([[10, 20, 30], [0, 100, 200]])
    dim = RandomColorDrop(p=1, color_augment=0.5)(sample, np.random.default_rng(0)).point["color"]
    np.testing.assert_allclose(dim, [[5, 10, 15], [0, 50, 100]])
    drop, rng = RandomColorDrop(p=0.3), np.random.default_rng(0)
    dropped = sum(not drop(sample, rng).point["color"].any() for _ in range(500))
    assert 120 < dropped < 180  # 150 are expected, with a standard deviation of 10


def test_probability_zero_returns_the_sample_itself():
    sample = make_sample([[1, 2, 3]])
    for kind in (ChromaticAutoContrast, ChromaticTranslation, ChromaticJitter, RandomColorDrop):
        transform = kind(p=0)
        assert transform(sample, np.random.default_rng(0)) is sample


def collectable():
    sample = make_sample([[1, 2, 3], [4, 5, 6]])
    normal = np.array([[0, 0, 1], [0, 1, 0]], np.float32)
    return sample.with_point(normal=normal, segment=np.array([7, -1]))


def test_collect_joins_features_in_order():
    sample = collectable()
    result = Collect()(sample, np.random.default_rng(0))
    np.testing.assert_array_equal(result.point["feat"], [[1, 2, 3, 0, 0, 1], [4, 5, 6, 0, 1, 0]])
    assert result.point["feat"].dtype == np.float32
    assert set(result.point) == {"color", "normal", "segment", "feat"}
    with_labels = Collect(feat_keys=("coord", "segment"))(sample, np.random.default_rng(0)).point["feat"]
    np.testing.assert_array_equal(with_labels, [[0, 0, 0, 7], [0, 0, 0, -1]])


def test_collect_drops_what_keys_does_not_name():
    result = Collect(keys=("coord", "segment", "name"))(collectable(), np.random.default_rng(0))
    assert set(result.point) == {"segment", "feat"}


def test_collect_names_what_is_absent():
    message = r"Collect needs \['strength', 'instance'\] in every sample: scene 'room' has \['color', 'coord'"
    with pytest.raises(ValueError, match=message):
        Collect(feat_keys=("color", "strength"), keys=("instance", "name"))(collectable(), np.random.default_rng(0))
    with pytest.raises(ValueError, match="feat_keys must name at least one"):
        Collect(feat_keys=())
