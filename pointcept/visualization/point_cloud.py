"""Point clouds on disk, and simple pictures of them."""

import os
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from pointcept.visualization.ply import vertex_array, write_ply


class Viewpoint(NamedTuple):
    """A pinhole camera.

    Attributes:
        intrinsic: Pixels, the centre of the first pixel at (0, 0).
        extrinsic: camera_from_world (x right, y down, z forward), metres.
        size_px: Height and width of the picture.
    """

    intrinsic: Float[np.ndarray, "3 3"]
    extrinsic: Float[np.ndarray, "4 4"]
    size_px: tuple[int, int]


def write_point_cloud(
    path: str | os.PathLike,
    coord: Float[np.ndarray, "_N 3"],
    color: UInt8[np.ndarray, "_N 3"] | None = None,
    normal: Float[np.ndarray, "_N 3"] | None = None,
) -> None:
    """Write points as a binary PLY file; an interrupted run leaves the old file whole.

    Args:
        path: Where to write; folders are made as needed.
        coord: Position, metres.
        color: RGB, 0..255; or None.
        normal: Unit vectors; or None.
    Raises:
        ValueError: a shape is wrong.
    """
    write_ply(path, {"vertex": vertex_array(coord, color, normal)})


def overview(
    coord: Float[np.ndarray, "N 3"],
    size_px: tuple[int, int] = (480, 640),
    azimuth_deg: float = 225.0,
    elevation_deg: float = 40.0,
    field_of_view_deg: float = 50.0,
) -> Viewpoint:
    """A camera outside a cloud from which all of it can be seen.

    Args:
        coord: Position, metres, z up.
        size_px: Height and width of the picture.
        azimuth_deg: Direction from the cloud to the camera, counter-clockwise from x seen from above.
        elevation_deg: Height of the camera above the horizon, below 90.
        field_of_view_deg: Opening angle over the picture's shorter side.
    Raises:
        ValueError: the cloud is empty.
    """
    if len(coord) == 0:
        raise ValueError("A picture needs at least one point: got an empty cloud.")
    center = (coord.min(axis=0).astype(np.float64) + coord.max(axis=0)) / 2
    azimuth, elevation = np.deg2rad(azimuth_deg), np.deg2rad(elevation_deg)
    backward = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    rotation = np.stack([right, np.cross(-backward, right), -backward])

    height, width = size_px
    focal_px = min(height, width) / 2 / np.tan(np.deg2rad(field_of_view_deg) / 2)
    half_extent = 0.95 * np.array([width, height]) / 2 / focal_px  # of what is seen at a depth of 1, less a margin
    turned = (coord - center) @ rotation.T
    depth = max(float((np.abs(turned[:, :2]) / half_extent - turned[:, 2:]).max()), 0.1)
    camera_from_world = np.eye(4)
    camera_from_world[:3, :3] = rotation
    camera_from_world[:3, 3] = np.array([0, 0, depth]) - rotation @ center
    intrinsic = np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1]])
    return Viewpoint(intrinsic, camera_from_world, (height, width))


def render_point_cloud(
    coord: Float[np.ndarray, "N 3"],
    color: UInt8[np.ndarray, "N 3"],
    viewpoint: Viewpoint | None = None,
    *,
    radius: float = 0.02,
    background: tuple[int, int, int] = (255, 255, 255),
) -> UInt8[np.ndarray, "_H _W 3"]:
    """A picture of a cloud: every point is a square, and nearer squares hide farther ones.

    Args:
        coord: Position, metres, world frame.
        color: RGB, 0..255.
        viewpoint: The camera; None takes an ``overview``.
        radius: Half the edge of a square, metres; at most 8 pixels are drawn to each side.
        background: Colour where there is no point.
    """
    viewpoint = overview(coord) if viewpoint is None else viewpoint
    height, width = viewpoint.size_px
    camera = coord.astype(np.float64) @ viewpoint.extrinsic[:3, :3].T + viewpoint.extrinsic[:3, 3]
    in_front = camera[:, 2] > 1e-6
    camera, color = camera[in_front], color[in_front]
    depth = camera[:, 2]
    center_px = (camera @ viewpoint.intrinsic.T)[:, :2] / depth[:, None]
    reach_px = np.clip(np.round(viewpoint.intrinsic[0, 0] * radius / depth), 0, 8).astype(np.int64)
    near = np.abs(center_px).max(axis=1) < 2 * max(height, width)  # others cannot be seen, and may overflow integers
    center_px, reach_px, depth, color = (
        np.round(center_px[near]).astype(np.int64),
        reach_px[near],
        depth[near],
        color[near],
    )

    nearest = np.full(height * width, np.inf)
    picture = np.tile(np.array(background, dtype=np.uint8), (height * width, 1))
    for offset in _square(int(reach_px.max(initial=0))):
        drawn = np.abs(offset).max() <= reach_px
        x, y = (center_px[drawn] + offset).T
        visible = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        pixel, pixel_depth = (y * width + x)[visible], depth[drawn][visible]
        np.minimum.at(nearest, pixel, pixel_depth)
        wins = pixel_depth <= nearest[pixel]
        picture[pixel[wins]] = color[drawn][visible][wins]
    return picture.reshape(height, width, 3)


def _square(reach: int) -> Int[np.ndarray, "_K 2"]:
    """All integer offsets of at most ``reach`` along x and y."""
    steps = np.arange(-reach, reach + 1)
    return np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
