import numpy as np
import pytest
import torch

from pointcept.structures import CameraBatch, PointBatch, SceneBatch
from pointcept.visualization import Surface
from pointcept.visualization.mesh import keep_vertices
from pointcept.visualization.trimming import observed, visible


def cameras() -> CameraBatch:
    """Scene 1 of two: a camera at (0, 0, 1) that looks along +z at a wall 2 m away, 45 degrees to each side.

    The left column of the image, and so the direction -x, was not measured. A second view is padding.
    """
    depth = torch.zeros(2, 2, 3, 3)
    depth[1, 0] = 2.0
    depth[1, 0, :, 0] = 0.0
    extrinsic = torch.eye(4).repeat(2, 2, 1, 1)
    extrinsic[:, :, 2, 3] = -1.0
    size = torch.tensor([[[3, 3], [3, 3]], [[3, 3], [0, 0]]])
    return CameraBatch(
        image=torch.zeros(2, 2, 3, 3, 3),
        depth=depth,
        intrinsic=torch.tensor([[1.0, 0, 1], [0, 1, 1], [0, 0, 1]]).expand(2, 2, 3, 3),
        extrinsic=extrinsic,
        size_px=size,
    )


PLACES = torch.tensor(
    [
        [0.0, 0, 2.9],  # free space before the wall
        [0, 0, 3.2],  # behind it
        [0, 0, 3.05],  # little behind it
        [2.05, 0, 3.05],  # the same, 0.07 m along the oblique ray
        [2.09, 0, 3.09],  # 0.127 m along the ray
        [-1.9, 0, 2.9],  # no depth there
        [9, 0, 2.9],  # beside the image
        [0, 0, 0.5],  # behind the camera
    ]
)
SEEN = [True, False, True, True, False, False, False, False]


def test_what_a_view_sees_by_hand():
    assert visible(PLACES, cameras(), 1, margin_m=0.1).tolist() == SEEN
    assert not visible(PLACES, cameras(), 0, margin_m=0.1).any()


@pytest.mark.parametrize("with_views", [True, False])
def test_points_of_the_own_scene_count_as_observations(with_views):
    points = PointBatch(
        coord=torch.tensor([[9.0, 0, 2.9], [0, 0, 0.55], [0, 0, 3.25]]),
        grid_coord=torch.zeros(3, 3, dtype=torch.int64),
        feat=torch.zeros(3, 1),
        offset=torch.tensor([1, 3]),
    )
    batch = SceneBatch(torch.zeros(2, dtype=torch.int64), ("a", "b"), points, cameras() if with_views else None)
    near = [False, True, False, False, False, False, False, True]  # 0.05 m from a point; scene 0's does not count
    expected = [a or (with_views and b) for a, b in zip(near, SEEN, strict=True)]
    assert observed(PLACES.numpy(), batch, 1, margin_m=0.1).tolist() == expected


def test_triangles_go_with_their_vertices():
    vertices = np.arange(15, dtype=np.float32).reshape(5, 3)
    faces = np.array([[0, 1, 2], [2, 3, 4], [1, 2, 4]], np.int32)
    kept = keep_vertices(Surface(vertices, faces, -vertices), np.array([True, True, True, False, True]))
    np.testing.assert_array_equal(kept.vertices, vertices[[0, 1, 2, 4]])
    np.testing.assert_array_equal(kept.normals, -kept.vertices)
    np.testing.assert_array_equal(kept.faces, [[0, 1, 2], [1, 2, 3]])
    alone = keep_vertices(Surface(vertices, faces, -vertices), np.array([False, True, True, True, False]))
    assert alone.vertices.shape == alone.faces.shape == (0, 3)
