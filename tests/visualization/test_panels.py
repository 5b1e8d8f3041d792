import numpy as np
import pytest
import torch

from pointcept.structures import CameraBatch, SceneBatch
from pointcept.visualization import normals_from_depth, rendering_panels
from pointcept.visualization.colormaps import MISSING_COLOR, depth_to_color, normal_to_color, value_to_color
from pointcept.visualization.panels import CAPTION_HEIGHT, GAP

INTRINSIC = np.array([[50.0, 0, 19.5], [0, 60, 14.5], [0, 0, 1]])


def plane_depth(normal: np.ndarray, distance: float, height: int = 30, width: int = 40) -> np.ndarray:
    """z-depth of the plane normal . p = -distance: z = -distance / (normal . ray) for rays with z = 1."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    rays = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ np.linalg.inv(INTRINSIC).T
    return -distance / (rays @ normal)


@pytest.mark.parametrize("normal", [(0, 0, -1), (0.3, 0.2, -0.9), (-0.5, -0.6, -0.5)])
def test_normals_of_a_tilted_plane_are_the_planes(normal):
    normal = np.array(normal) / np.linalg.norm(normal)
    depth = plane_depth(normal, 2.0)
    assert (depth > 0).all()
    np.testing.assert_allclose(normals_from_depth(depth, INTRINSIC), np.broadcast_to(normal, (30, 40, 3)), atol=1e-9)


def test_missing_depth_has_no_normal_and_spoils_no_neighbour():
    normal = np.array([0.3, 0.2, -0.9]) / np.linalg.norm([0.3, 0.2, -0.9])
    depth = plane_depth(normal, 2.0)
    depth[10, 12] = 0
    depth[:, 30:] = 0
    depth[5, 35] = 1.0  # alone: no neighbour to make a tangent with
    normals = normals_from_depth(depth, INTRINSIC)
    told = np.broadcast_to(normal, (30, 30, 3)).copy()
    told[10, 12] = 0
    np.testing.assert_allclose(normals[:, :30], told, atol=1e-9)
    assert (normals[:, 30:] == 0).all()


def test_the_colour_map_runs_from_blue_to_red_and_marks_what_is_missing():
    colors = depth_to_color(np.array([[0.0, 1.0, 3.0, 0.5, 9.0]]), 1.0, 3.0)[0]
    assert tuple(colors[0]) == MISSING_COLOR
    assert tuple(colors[1]) == tuple(colors[3]) == (48, 24, 90)
    assert tuple(colors[2]) == tuple(colors[4]) == (158, 18, 4)
    # 16 anchors: 0.5 lies half way between the eighth (94, 250, 104) and the ninth (150, 254, 66)
    assert tuple(value_to_color(np.array(0.5), 0.0, 1.0)) == (122, 252, 85)
    ramp = value_to_color(np.linspace(0, 1, 200), 0.0, 1.0).astype(int)
    assert np.abs(ramp - MISSING_COLOR).max(axis=-1).min() > 15
    assert len(np.unique(ramp, axis=0)) == 200


def test_a_range_without_extent_is_one_colour():
    assert (value_to_color(np.full((2, 2), 3.0), 3.0, 3.0) == (48, 24, 90)).all()


def test_normal_colours_by_hand():
    normal = np.array([[[0, 0, -1.0], [1, 0, 0], [0, -1, 0], [0, 0, 0]]])
    colors = normal_to_color(normal)[0].tolist()
    # towards the camera: (0.5, 0.5, 1); to the right: red; up (y points down): green; none: grey
    assert colors == [[128, 128, 255], [255, 128, 128], [128, 255, 128], list(MISSING_COLOR)]


def make_batch(sizes, height=12, width=16):
    size_px = torch.tensor([sizes])
    views = len(sizes)
    cameras = CameraBatch(
        image=torch.zeros(1, views, 3, height, width),
        depth=torch.zeros(1, views, height, width),
        intrinsic=torch.eye(3).expand(1, views, 3, 3).clone(),
        extrinsic=torch.eye(4).expand(1, views, 4, 4).clone(),
        size_px=size_px,
    )
    return SceneBatch(torch.zeros(1, dtype=torch.int64), ("attic",), cameras=cameras)


def tile(panel: np.ndarray, row: int, column: int, height: int, width: int) -> np.ndarray:
    top = GAP + row * (height + CAPTION_HEIGHT + GAP) + CAPTION_HEIGHT
    left = GAP + column * (width + GAP)
    return panel[top : top + height, left : left + width]


def test_panels_have_the_expected_tiles():
    batch = make_batch([(12, 16), (0, 0), (6, 8)])
    cameras = batch.cameras
    cameras.image[0, 0, 0] = 1.0  # red
    cameras.depth[0, 0, :, 4:] = 2.0
    cameras.depth[0, 0, :, 8:] = 4.0
    output = {
        "color": torch.zeros_like(cameras.image),
        "depth": torch.full_like(cameras.depth, 3.0),
        "normal": torch.zeros_like(cameras.image),
        "opacity": torch.ones_like(cameras.depth),
    }
    output["color"][0, 0, 1] = 1.0  # green
    output["normal"][0, 0, 2] = -1.0  # towards the camera
    (name, panel), (other_name, other) = rendering_panels(output, batch)
    assert (name, other_name) == ("attic-view0", "attic-view2")

    # 16 pixels of width are enlarged 15 times to 240; 8 pixels 30 times
    height, width = 12 * 15, 240
    assert panel.dtype == np.uint8
    assert panel.shape == (GAP + 2 * (height + CAPTION_HEIGHT + GAP), GAP + 4 * (width + GAP), 3)
    assert other.shape == panel.shape

    assert (tile(panel, 0, 0, height, width) == (255, 0, 0)).all()
    assert (tile(panel, 1, 0, height, width) == (0, 255, 0)).all()
    measured = tile(panel, 0, 1, height, width)
    assert (measured[:, : 4 * 15] == MISSING_COLOR).all()
    assert (measured[:, 4 * 15 : 8 * 15] == (48, 24, 90)).all()  # the nearest measured depth
    assert (measured[:, 8 * 15 :] == (158, 18, 4)).all()  # the farthest
    assert (tile(panel, 1, 1, height, width) == (122, 252, 85)).all()  # half way on the same scale
    assert (tile(panel, 0, 2, height, width)[:, : 4 * 15] == MISSING_COLOR).all()
    assert (tile(panel, 1, 2, height, width) == (128, 128, 255)).all()
    assert (tile(panel, 1, 3, height, width) == 255).all()


def test_panels_without_normals_opacity_or_any_depth():
    batch = make_batch([(12, 300)], 12, 300)
    output = {"color": batch.cameras.image.half(), "depth": torch.zeros(1, 1, 12, 300)}
    ((_, panel),) = rendering_panels(output, batch)
    assert (tile(panel, 0, 1, 12, 300) == MISSING_COLOR).all()
    assert (tile(panel, 1, 2, 12, 300) == MISSING_COLOR).all()
    assert (tile(panel, 1, 3, 12, 300) == MISSING_COLOR).all()


def test_the_depth_scale_is_never_narrower_than_a_tenth():
    batch = make_batch([(12, 240)], 12, 240)
    batch.cameras.depth[:] = 2.0
    output = {"color": batch.cameras.image, "depth": torch.full((1, 1, 12, 240), 2.1)}
    ((_, panel),) = rendering_panels(output, batch)
    assert (tile(panel, 0, 1, 12, 240) == (122, 252, 85)).all()  # 2.0 in the middle of 1.9..2.1
    assert (tile(panel, 1, 1, 12, 240) == (158, 18, 4)).all()


def test_panels_need_cameras():
    with pytest.raises(ValueError, match="the batch has no cameras"):
        rendering_panels({}, SceneBatch(torch.zeros(1, dtype=torch.int64), ("room",)))
