"""How well a fused cloud predicts the depth of frames that it was not made from."""

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from pointcept.datasets.preprocessing.images import depth_edges
from pointcept.datasets.preprocessing.registration import nearest_depth

# Points this share behind the nearest one on their ray are hidden.
HIDDEN_SHARE = 0.05


def depth_errors(
    coord: Float[np.ndarray, "N 3"],
    normal: Float[np.ndarray, "N 3"],
    spacing_m: float,
    depth: Float[np.ndarray, "H W"],
    intrinsic: Float[np.ndarray, "3 3"],
    camera_to_world: Float[np.ndarray, "4 4"],
) -> Float[np.ndarray, " M"]:
    """Cloud depth minus measured depth, metres, of the cloud points that a frame sees.

    Points that face away, that a nearer point hides, or that fall on a depth discontinuity or on a pixel without
    depth do not count.

    Args:
        coord: Cloud, metres, world frame.
        normal: Its unit normals.
        spacing_m: Distance of neighbouring points.
        depth: z-depth of the frame, metres, 0 = missing.
        intrinsic: Pixels.
        camera_to_world: Pose, metres.
    """
    camera_from_world = np.linalg.inv(camera_to_world)
    in_camera = coord @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
    faces_camera = ((coord - camera_to_world[:3, 3]) * normal).sum(axis=1) < 0
    in_camera = in_camera[(in_camera[:, 2] > 1e-3) & faces_camera]
    z = in_camera[:, 2]
    pixel = (in_camera @ intrinsic.T)[:, :2] / z[:, None]
    height, width = depth.shape
    inside = (pixel >= -0.5).all(axis=1) & (pixel[:, 0] < width - 0.5) & (pixel[:, 1] < height - 0.5)
    pixel, z = pixel[inside], z[inside]
    if len(z) == 0:
        return np.zeros(0)
    cell_px = max(1.0, 1.5 * spacing_m * intrinsic[0, 0] / float(np.median(z)))
    buffer = nearest_depth(pixel, z, depth.shape, cell_px)
    cell = np.floor((pixel + 0.5) / cell_px).astype(np.int64)
    column, row = np.rint(pixel).astype(np.int64).T
    near_edge = ndimage.binary_dilation(depth_edges(depth), iterations=2)
    visible = z <= (1 + HIDDEN_SHARE) * buffer[cell[:, 1], cell[:, 0]]
    visible &= (depth[row, column] > 0) & ~near_edge[row, column]
    return z[visible] - depth[row, column][visible]
