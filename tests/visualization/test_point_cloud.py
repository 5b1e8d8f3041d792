import numpy as np
import pytest
from plyfile import PlyData

from pointcept.visualization import Viewpoint, overview, render_point_cloud, write_point_cloud
from pointcept.visualization.ply import vertex_array

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def straight_ahead() -> Viewpoint:
    """A camera at the origin that looks along z; 100 pixels of focal length, 21 x 31 pixels."""
    return Viewpoint(np.array([[100.0, 0, 15], [0, 100, 10], [0, 0, 1]]), np.eye(4), (21, 31))


def test_points_land_on_their_pixels():
    # x = 0.1 m at 2 m: 100 * 0.05 = 5 pixels right of 15; y = -0.04 m at 1 m: 4 pixels above 10
    coord = np.array([[0.1, 0, 2], [0, -0.04, 1], [0, 0, -1.0]], np.float32)
    picture = render_point_cloud(coord, np.array([RED, GREEN, BLUE], np.uint8), straight_ahead(), radius=0.0)
    assert picture.shape == (21, 31, 3)
    assert tuple(picture[10, 20]) == RED
    assert tuple(picture[6, 15]) == GREEN
    assert (picture != 255).any(axis=-1).sum() == 2  # the point behind the camera is not drawn


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearer_point_hides_the_farther_one(order):
    coord = np.array([[0, 0, 1], [0, 0, 2]], np.float32)[list(order)]
    color = np.array([RED, GREEN], np.uint8)[list(order)]
    # half edges of 0.04 m: 4 pixels at 1 m and 2 pixels at 2 m
    picture = render_point_cloud(coord, color, straight_ahead(), radius=0.04)
    assert (picture == RED).all(axis=-1).sum() == 81
    assert (picture == GREEN).all(axis=-1).sum() == 0


def test_squares_are_cut_off_at_the_edge():
    coord = np.array([[-0.15, -0.10, 1]], np.float32)  # pixel (0, 0)
    picture = render_point_cloud(coord, np.array([RED], np.uint8), straight_ahead(), radius=0.02)
    assert (picture[:3, :3] == RED).all()
    assert (picture == WHITE).all(axis=-1).sum() == 21 * 31 - 9


def test_an_overview_sees_every_point_and_is_upright():
    rng = np.random.default_rng(0)
    coord = rng.uniform([1e3, -5, 0], [1e3 + 4, 1, 2.5], (500, 3)).astype(np.float32)
    for azimuth in (0.0, 100.0, 225.0):
        view = overview(coord, azimuth_deg=azimuth)
        camera = coord @ view.extrinsic[:3, :3].T + view.extrinsic[:3, 3]
        assert camera[:, 2].min() > 0
        pixels = camera[:, :2] / camera[:, 2:] * view.intrinsic[0, 0] + view.intrinsic[:2, 2]
        assert (pixels >= 0).all() and (pixels < view.size_px[::-1]).all()
        assert np.linalg.det(view.extrinsic[:3, :3]) == pytest.approx(1)
        np.testing.assert_allclose(view.extrinsic[:3, :3] @ view.extrinsic[:3, :3].T, np.eye(3), atol=1e-12)
        assert view.extrinsic[1, 2] < 0  # world up is image up (y down)


def test_an_empty_cloud_has_no_overview():
    with pytest.raises(ValueError, match="at least one point"):
        overview(np.zeros((0, 3), np.float32))
    picture = render_point_cloud(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), straight_ahead())
    assert (picture == 255).all()


def test_ply_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    coord, normal = rng.normal(size=(2, 7, 3)).astype(np.float32)
    color = rng.integers(0, 256, (7, 3), dtype=np.uint8)
    write_point_cloud(tmp_path / "cloud.ply", coord, color, normal)
    vertex = PlyData.read(tmp_path / "cloud.ply")["vertex"]
    for fields, array in ((("x", "y", "z"), coord), (("nx", "ny", "nz"), normal), (("red", "green", "blue"), color)):
        np.testing.assert_array_equal(np.stack([vertex[field] for field in fields], 1), array)
    write_point_cloud(tmp_path / "bare.ply", coord)
    assert PlyData.read(tmp_path / "bare.ply")["vertex"].data.dtype.names == ("x", "y", "z")


def test_colours_must_be_bytes():
    with pytest.raises(ValueError, match=r"color must be uint8, 0\.\.255: got float32"):
        vertex_array(np.zeros((2, 3)), np.zeros((2, 3), np.float32))
