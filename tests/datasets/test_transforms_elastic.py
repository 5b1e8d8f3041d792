"""Elastic distortion against a slow twin written with SciPy's own convolution and interpolation."""

import numpy as np
import pytest
import scipy.ndimage
from scipy.interpolate import RegularGridInterpolator

from pointcept.datasets.transforms import ElasticDistortion
from pointcept.datasets.transforms.elastic import smoothed, trilinear
from pointcept.structures import PointSample

PARAMS = ((0.2, 0.4), (0.8, 1.6))


def room(num_points: int = 2000, seed: int = 0) -> PointSample:
    rng = np.random.default_rng(seed)
    coord = (rng.uniform(0, 1, (num_points, 3)) * (4, 3, 2) - (1, 7, 0)).astype(np.float32)
    return PointSample(coord=coord, point={"normal": np.ones((num_points, 3), np.float32)}, scene={"name": "room"})


def slow_distortion(coord: np.ndarray, granularity: float, magnitude: float, rng: np.random.Generator) -> np.ndarray:
    low = coord.min(axis=0)
    shape = ((coord - low).max(axis=0) // granularity).astype(int) + 3
    noise = rng.standard_normal((*shape, 3), dtype=np.float32).astype(np.float64)
    for _ in range(2):
        for kernel_shape in ((3, 1, 1, 1), (1, 3, 1, 1), (1, 1, 3, 1)):
            noise = scipy.ndimage.convolve(noise, np.full(kernel_shape, 1 / 3), mode="constant", cval=0)
    axes = [
        np.linspace(start, start + granularity * (count - 1), count) for start, count in zip(low - granularity, shape)
    ]
    return coord + RegularGridInterpolator(axes, noise, bounds_error=True)(coord) * magnitude


def test_distortion_is_that_of_the_slow_twin():
    sample = room()
    result = ElasticDistortion(PARAMS, p=1.0)(sample, np.random.default_rng(5))
    twin_rng = np.random.default_rng(5)
    twin_rng.random()  # whether anything is done
    expected = sample.coord.astype(np.float64)
    for granularity, magnitude in PARAMS:
        expected = slow_distortion(expected, granularity, magnitude, twin_rng)
    assert np.abs(expected - sample.coord).mean() > 0.05
    np.testing.assert_allclose(result.coord, expected, atol=2e-5)
    assert result.coord.dtype == np.float32
    np.testing.assert_array_equal(sample.coord, room().coord)


def test_trilinear_reads_a_linear_function_exactly():
    x, y, z = np.meshgrid(np.arange(5.0), np.arange(4.0), np.arange(6.0), indexing="ij")
    values = np.stack([2 * x - y, z + 0.5, x + y + z], axis=-1).astype(np.float32)
    position = np.random.default_rng(0).uniform(0, 1, (100, 3)) * (2, 1.5, 2.5)  # nodes are 0.5 m apart
    u, v, w = (position / 0.5).T
    np.testing.assert_allclose(
        trilinear(values, position, 0.5), np.stack([2 * u - v, w + 0.5, u + v + w], 1), rtol=1e-5
    )


def test_smoothing_by_hand():
    impulse = np.zeros((7, 7, 7, 3), np.float32)
    impulse[3, 3, 3] = 9**3
    taps = np.array([0, 1, 2, 3, 2, 1, 0])
    expected = taps[:, None, None] * taps[:, None] * taps
    np.testing.assert_allclose(smoothed(impulse)[..., 1], expected, rtol=1e-5, atol=1e-3)


def test_neighbours_move_together():
    coord = np.array([[0, 0, 0], [0.001, 0, 0], [2, 2, 2]], np.float32)
    moved = ElasticDistortion(p=1.0)(PointSample(coord=coord), np.random.default_rng(0)).coord - coord
    assert np.abs(moved[0] - moved[1]).max() < 0.02 < np.abs(moved[0] - moved[2]).max()


@pytest.mark.parametrize("num_points", [0, 1])
def test_empty_cloud_and_one_point_pass(num_points):
    sample = PointSample(coord=np.zeros((num_points, 3), np.float32))
    assert ElasticDistortion(p=1.0)(sample, np.random.default_rng(0)).num_points == num_points


def test_it_is_applied_as_often_as_asked():
    sample = room(5)
    changed = [ElasticDistortion(p=0.25)(sample, np.random.default_rng(seed)) is not sample for seed in range(400)]
    assert 0.18 < np.mean(changed) < 0.32


def test_wrong_arguments_and_clouds_are_named():
    with pytest.raises(ValueError, match=r"pairs of a positive granularity and a magnitude .*: got \[\[0, 1\]\]"):
        ElasticDistortion([[0, 1]])
    far = PointSample(coord=np.array([[0, 0, 0], [5e3, 5e3, 5e3]], np.float32), scene={"name": "campus"})
    with pytest.raises(ValueError, match=r"scene 'campus' is \[5000\.0, .* m large and they are 0\.2 m apart"):
        ElasticDistortion(p=1.0)(far, np.random.default_rng(0))
