import numpy as np
import pytest

from pointcept.datasets.transforms import RandomViewColor
from pointcept.structures import PointSample, Views


def make_views(values):
    values = np.asarray(values, np.uint8)
    image = np.tile(values[:, None, None], (1, 1, 3))
    return Views([image], [np.zeros(image.shape[:2], np.float32)], np.eye(3)[None], np.eye(4)[None])


def make_sample():
    point = {"color": np.full((1, 3), 7, np.float32)}
    views = {"views": make_views([0, 100, 255]), "input_views": make_views([100, 200])}
    return PointSample(coord=np.zeros((1, 3), np.float32), point=point, **views)


def test_views_to_encode_and_to_render_change_alike_and_the_cloud_stays():
    sample = make_sample()
    changed = RandomViewColor(p=1.0)(sample, np.random.default_rng(0))
    rendered, encoded = changed.views.image[0][:, 0], changed.input_views.image[0][:, 0]
    assert rendered.dtype == np.uint8 and not np.array_equal(rendered[1], [100, 100, 100])
    assert np.array_equal(rendered[1], encoded[0])
    assert changed.point["color"].tolist() == [[7, 7, 7]]
    assert sample.views.image[0][1, 0].tolist() == [100, 100, 100]  # the input is left alone


def test_a_gain_scales_and_contrast_leaves_mid_grey():
    class Draws(np.random.Generator):
        """Gives the largest change every time."""

        def random(self):
            return 0.0

        def uniform(self, low, high, size=None):
            return high if size is None else np.full(size, high)

    brighter = RandomViewColor(p=1.0, brightness=0.5, contrast=0, tint=0)(make_sample(), Draws(np.random.PCG64()))
    assert brighter.views.image[0][:, 0, 0].tolist() == [0, 150, 255]
    harder = RandomViewColor(p=1.0, brightness=0, contrast=1.0, tint=0)(make_sample(), Draws(np.random.PCG64()))
    assert harder.views.image[0][:, 0, 0].tolist() == [0, 72, 255]  # 127.5 + 2 (100 - 127.5) = 72.5, to even


def test_nothing_happens_without_views_or_luck():
    sample = make_sample()
    assert RandomViewColor(p=0.0)(sample, np.random.default_rng(0)) is sample
    alone = PointSample(coord=np.zeros((1, 3), np.float32))
    assert RandomViewColor(p=1.0)(alone, np.random.default_rng(0)).views is None
    with pytest.raises(ValueError, match=r"tint must lie in 0..1: got 2"):
        RandomViewColor(tint=2)
