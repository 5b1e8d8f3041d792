import dataclasses

import numpy as np
import pytest

from pointcept.datasets import collate
from pointcept.datasets.transforms import RandomViewColor, RandomViewCrop, RandomViewFlip
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


def make_wall(rng):
    """A view of a slanted wall whose colours, depths and labels follow from the position of what a pixel shows."""
    height, width = 12, 16
    intrinsic = np.array([[14.0, 0.3, 6.0], [0, 13.0, 7.0], [0, 0, 1]])
    row, column = np.mgrid[:height, :width]
    ray = np.stack([column, row, np.ones_like(row)], -1) @ np.linalg.inv(intrinsic).T
    depth = (2.0 / (1 + 0.2 * ray[..., 0] - 0.1 * ray[..., 1])).astype(np.float32)
    extrinsic = np.eye(4)
    extrinsic[:3, :3] = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    extrinsic[:3, 3] = rng.standard_normal(3)
    image = np.stack([row * 20, column * 15, row + column], -1).astype(np.uint8)
    views = Views([image], [depth], intrinsic[None], extrinsic[None], [(row // 3).astype(np.int64)], ("wall",))
    return PointSample(coord=np.zeros((0, 3), np.float32), views=views, input_views=views)


def shown_points(views):
    """World position of what each pixel shows."""
    height, width = views.depth[0].shape
    row, column = np.mgrid[:height, :width]
    ray = np.stack([column, row, np.ones_like(row)], -1) @ np.linalg.inv(views.intrinsic[0]).T
    camera = np.concatenate([ray * views.depth[0][..., None], np.ones((height, width, 1))], -1)
    return (camera @ np.linalg.inv(views.extrinsic[0]).T)[..., :3]


def test_a_mirrored_view_shows_the_same_points_of_the_same_world():
    rng = np.random.default_rng(1)
    sample = make_wall(rng)
    mirrored = RandomViewFlip(p=1.0)(sample, rng)
    np.testing.assert_allclose(shown_points(mirrored.views), shown_points(sample.views)[:, ::-1], atol=1e-5)
    assert np.array_equal(mirrored.views.image[0], sample.views.image[0][:, ::-1])
    assert np.array_equal(mirrored.views.segment[0], sample.views.segment[0][:, ::-1])
    assert np.linalg.det(mirrored.input_views.extrinsic[0]) == pytest.approx(-np.linalg.det(sample.views.extrinsic[0]))
    collate([mirrored])  # a reflected camera is usable
    twice = RandomViewFlip(p=1.0)(mirrored, rng)
    np.testing.assert_allclose(twice.views.intrinsic, sample.views.intrinsic)
    assert RandomViewFlip(p=0.0)(sample, rng) is sample


def test_a_crop_shows_the_same_wall_from_the_same_place():
    rng = np.random.default_rng(2)
    sample = make_wall(rng)
    cut = RandomViewCrop(scale=(0.5, 0.5))(sample, rng)
    assert cut.views.image[0].shape == (12, 16, 3) and cut.views.segment[0].shape == (12, 16)
    np.testing.assert_allclose(cut.views.extrinsic, sample.views.extrinsic)
    assert cut.views.intrinsic[0, 0, 0] == pytest.approx(28.0)
    # The depth is that of the nearest pixel: half a pixel of the enlarged view, a quarter of the old one, beside it.
    wall = np.linalg.lstsq(shown_points(sample.views).reshape(-1, 3), np.ones(192), rcond=None)[0]
    assert np.abs(shown_points(cut.views) @ wall - 1).max() / np.linalg.norm(wall) < 0.02
    # A pixel of the view is the mean of four of the enlarged one, whose centre it keeps.
    columns = (cut.views.image[0][6, :, 1] / 15).astype(float)
    offset = (sample.views.intrinsic[0, 0, 2] - (cut.views.intrinsic[0, 0, 2] + 0.5) / 2 + 0.5).round()
    np.testing.assert_allclose(columns[2:-2], ((np.arange(16) + 0.5) / 2 - 0.5 + offset)[2:-2], atol=0.1)


def test_a_crop_of_the_whole_view_changes_nothing_and_wrong_ranges_are_named():
    rng = np.random.default_rng(3)
    sample = make_wall(rng)
    whole = RandomViewCrop(scale=(1, 1))(sample, rng)
    assert np.array_equal(whole.views.image[0], sample.views.image[0])
    np.testing.assert_allclose(whole.views.intrinsic, sample.views.intrinsic)
    for scale in ((0.8, 0.5), (0, 1), (0.5, 1.5)):
        with pytest.raises(ValueError, match=r"scale must be \(low, high\) with 0 < low <= high <= 1"):
            RandomViewCrop(scale=scale)


def test_feature_maps_are_mirrored_and_not_cut():
    rng = np.random.default_rng(4)
    sample = make_wall(rng)
    maps = [rng.standard_normal((5, 3, 4), dtype=np.float32)]
    sample = dataclasses.replace(sample, views=dataclasses.replace(sample.views, feature=maps))
    assert np.array_equal(RandomViewFlip(p=1.0)(sample, rng).views.feature[0], maps[0][:, :, ::-1])
    with pytest.raises(ValueError, match="RandomViewCrop needs views without feature maps"):
        RandomViewCrop()(sample, rng)


def test_labels_of_another_size_than_the_image_are_refused():
    with pytest.raises(ValueError, match=r"Labels of a view must have the size of its image: got labels \[\(4, 5\)\]"):
        Views(
            [np.zeros((4, 6, 3), np.uint8)],
            [np.zeros((4, 6), np.float32)],
            np.eye(3)[None],
            np.eye(4)[None],
            [np.zeros((4, 5), np.int64)],
        )
