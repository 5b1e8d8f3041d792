"""One picture of a converted scene: frames, their depth, and the cloud from above and from the side."""

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from pointcept.datasets.preprocessing.images import resize_color, resize_depth

TILE_PX = 160
VIEW_PX = 480
CAMERA_COLOR = (255, 60, 40)
HELD_OUT_COLOR = (40, 120, 255)
BACKGROUND = 24


def frame_tile(
    color: UInt8[np.ndarray, "H W 3"], depth: Float[np.ndarray, "H W"], *, held_out: bool
) -> UInt8[np.ndarray, "H2 W2 3"]:
    """Colour above depth (bright = near, dark red = missing), with a blue mark on held-out frames."""
    size = (TILE_PX * color.shape[0] // color.shape[1], TILE_PX)
    small_color, small_depth = resize_color(color, size).copy(), resize_depth(depth, size)
    measured = small_depth > 0
    nearest = small_depth[measured].min(initial=np.inf)
    grey = np.where(measured, 255 * nearest / np.where(measured, small_depth, 1), 0)
    shown = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)
    shown[~measured] = (70, 0, 0)
    if held_out:
        small_color[:6] = HELD_OUT_COLOR
    return np.concatenate([small_color, shown])


def cloud_view(
    horizontal: Float[np.ndarray, " N"],
    vertical: Float[np.ndarray, " N"],
    order: Float[np.ndarray, " N"],
    color: UInt8[np.ndarray, "N 3"],
    cameras: list[tuple[Float[np.ndarray, "_V 2"], tuple[int, int, int]]],
    point_size_m: float,
) -> UInt8[np.ndarray, "P P 3"]:
    """Orthographic picture of points; those with a larger ``order`` hide others.

    Args:
        horizontal: Coordinate to the right, metres.
        vertical: Coordinate upwards, metres.
        order: Drawing order.
        color: RGB.
        cameras: Positions to mark, as (right, up), with their colour.
        point_size_m: Edge of the square drawn for each point.
    """
    shown = np.concatenate([np.stack([horizontal, vertical], axis=-1), *(positions for positions, _ in cameras)])
    low, high = shown.min(axis=0) - point_size_m, shown.max(axis=0) + point_size_m
    metre_px = (VIEW_PX - 1) / (high - low).max()
    picture = np.full((VIEW_PX, VIEW_PX, 3), BACKGROUND, dtype=np.uint8)
    drawn = np.argsort(order, kind="stable")

    def draw(position: np.ndarray, value: np.ndarray, radius: int) -> None:
        pixel = np.rint((position - low) * metre_px).astype(np.int64)
        for row in range(-radius, radius + 1):
            for column in range(-radius, radius + 1):
                x = np.clip(pixel[:, 0] + column, 0, VIEW_PX - 1)
                y = np.clip(VIEW_PX - 1 - pixel[:, 1] + row, 0, VIEW_PX - 1)
                picture[y, x] = value

    draw(
        np.stack([horizontal, vertical], axis=-1)[drawn], color[drawn], int(np.ceil(point_size_m * metre_px / 2 - 0.5))
    )
    for positions, value in cameras:
        draw(positions, np.array(value, dtype=np.uint8), 2)
    return picture


def scene_preview(
    tiles: list[UInt8[np.ndarray, "H W 3"]],
    coord: Float[np.ndarray, "N 3"],
    color: UInt8[np.ndarray, "N 3"],
    normal: Float[np.ndarray, "N 3"],
    camera_center: Float[np.ndarray, "V 3"],
    held_out: np.ndarray,
    voxel_size_m: float,
) -> Image.Image:
    """Contact sheet of frame tiles over the cloud from above (left) and from the side (right).

    From above, surfaces that look down (ceilings) are left out. Cameras are red, held-out ones blue.

    Args:
        tiles: From ``frame_tile``, all of one size.
        coord: Cloud, metres, z up.
        color: Its RGB.
        normal: Its unit normals.
        camera_center: Position of each frame, metres.
        held_out: (V,) bool, which frames are held out.
        voxel_size_m: Distance of neighbouring points.
    """
    open_above = normal[:, 2] > -0.5 if (normal[:, 2] > -0.5).any() else np.ones(len(coord), dtype=bool)

    def view(keep: np.ndarray, up: int, order: np.ndarray) -> np.ndarray:
        cameras = [
            (camera_center[~held_out][:, [0, up]], CAMERA_COLOR),
            (camera_center[held_out][:, [0, up]], HELD_OUT_COLOR),
        ]
        x, y = coord[keep, 0].astype(np.float64), coord[keep, up].astype(np.float64)
        return cloud_view(x, y, order[keep].astype(np.float64), color[keep], cameras, voxel_size_m)

    above = view(open_above, 1, coord[:, 2])
    side = view(np.ones(len(coord), dtype=bool), 2, -coord[:, 1])
    per_row = 2 * VIEW_PX // TILE_PX
    blank = np.full_like(tiles[0], BACKGROUND)
    padded = tiles + [blank] * (-len(tiles) % per_row)
    sheet = [np.concatenate(padded[i : i + per_row], axis=1) for i in range(0, len(padded), per_row)]
    return Image.fromarray(np.concatenate([*sheet, np.concatenate([above, side], axis=1)]))
