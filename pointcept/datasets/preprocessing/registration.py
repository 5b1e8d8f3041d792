"""Registration of colour to depth: what the colour camera saw at each pixel of the depth camera."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage
from scipy.spatial import cKDTree

from pointcept.datasets.preprocessing.poses import intrinsic_matrix, rigid_pose

# A point this share behind the nearest surface on its colour ray is hidden from the colour camera.
OCCLUSION_SHARE = 0.03
# Hidden pixels take their colour from visible ones at most this far away in the image.
BORROW_PX = 24


@dataclasses.dataclass(frozen=True)
class ColorCalibration:
    """How a colour camera sits beside a depth camera.

    Attributes:
        depth_intrinsic: (3, 3), pixels of the depth image; or None when the calibration does not say.
        color_intrinsic: (3, 3), pixels of the colour image.
        color_from_depth: (4, 4), OpenCV axes, metres.
    """

    depth_intrinsic: np.ndarray | None
    color_intrinsic: np.ndarray
    color_from_depth: np.ndarray


def read_color_calibration(path: Path) -> ColorCalibration:
    """Calibration from JSON: ``K_color``, ``t_depth_to_color`` (metres), if known ``K_depth`` and ``R_depth_to_color``.

    Keys may carry the endings ``_m`` (metres) and ``_estimated``. Other keys are notes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no JSON object, lacks a key, or has a value of another shape.
    """
    if not path.is_file():
        raise FileNotFoundError(f"The colour calibration must exist: {path} is missing.")
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError:
        content = None
    if not isinstance(content, dict):
        raise ValueError(f"The colour calibration must be a JSON object: {path} is not. Write it again.")
    values = {key.removesuffix("_estimated").removesuffix("_m"): value for key, value in content.items()}
    missing = [key for key in ("K_color", "t_depth_to_color") if key not in values]
    if missing:
        raise ValueError(
            f"A colour calibration must have K_color and t_depth_to_color: {path} lacks {', '.join(missing)}. Add it; "
            "K is 3x3 in pixels, t in metres."
        )
    color_from_depth = np.eye(4)
    rotation = np.array(values.get("R_depth_to_color", np.eye(3)), dtype=np.float64)
    translation = np.array(values["t_depth_to_color"], dtype=np.float64)
    if rotation.shape != (3, 3) or translation.shape != (3,):
        raise ValueError(
            f"R_depth_to_color must be 3x3 and t_depth_to_color have 3 values: {path} has shapes {rotation.shape} and "
            f"{translation.shape}."
        )
    color_from_depth[:3, :3], color_from_depth[:3, 3] = rotation, translation
    depth_intrinsic = None
    if "K_depth" in values:
        depth_intrinsic = intrinsic_matrix(np.array(values["K_depth"], dtype=np.float64), f"K_depth of {path}")
    return ColorCalibration(
        depth_intrinsic,
        intrinsic_matrix(np.array(values["K_color"], dtype=np.float64), f"K_color of {path}"),
        rigid_pose(color_from_depth, path),
    )


def pixel_rays(intrinsic: Float[np.ndarray, "3 3"], size_px: tuple[int, int]) -> Float[np.ndarray, "H W 3"]:
    """Point at depth 1 of each pixel, camera frame."""
    rows, columns = np.mgrid[: size_px[0], : size_px[1]]
    pixels = np.stack([columns, rows, np.ones_like(rows)], axis=-1).astype(np.float64)
    return pixels @ np.linalg.inv(intrinsic).T


def nearest_depth(
    pixel: Float[np.ndarray, "N 2"], depth: Float[np.ndarray, " N"], size_px: tuple[int, int], cell_px: float = 1.0
) -> Float[np.ndarray, "R C"]:
    """z-buffer of projected points: the smallest depth in each cell of ``cell_px`` pixels, infinity where none falls.

    Args:
        pixel: Column and row of each point; those outside the image are left out.
        depth: z-depth of each point, positive.
        size_px: Height and width of the image.
        cell_px: Edge of a cell; larger than a pixel where points are sparser than pixels.
    """
    shape = tuple(int(np.ceil(length / cell_px)) for length in size_px)
    cell = np.floor((pixel + 0.5) / cell_px).astype(np.int64)
    inside = (cell >= 0).all(axis=1) & (cell[:, 0] < shape[1]) & (cell[:, 1] < shape[0])
    flat = cell[inside, 1] * shape[1] + cell[inside, 0]
    order = np.argsort(-depth[inside])  # the last of equal indices is kept by the assignment: the nearest
    buffer = np.full(shape[0] * shape[1], np.inf)
    buffer[flat[order]] = depth[inside][order]
    return buffer.reshape(shape)


def _sample(color: UInt8[np.ndarray, "H W 3"], pixel: Float[np.ndarray, "N 2"]) -> UInt8[np.ndarray, "N 3"]:
    coordinates = pixel[:, ::-1].T
    channels = [
        ndimage.map_coordinates(color[..., c], coordinates, output=np.float32, order=1, mode="nearest")
        for c in range(3)
    ]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def register_color(
    color: UInt8[np.ndarray, "Hc Wc 3"],
    depth: Float[np.ndarray, "H W"],
    depth_intrinsic: Float[np.ndarray, "3 3"],
    calibration: ColorCalibration,
) -> tuple[UInt8[np.ndarray, "H W 3"], Bool[np.ndarray, "H W"]]:
    """Colour image as the depth camera would have taken it.

    Each depth pixel is back-projected, moved to the colour camera, projected and sampled bilinearly. The image has
    no holes; three kinds of pixels get a guess instead of their own colour:

    * without depth: they are taken to be as far as the nearest pixel that has depth;
    * hidden from the colour camera by a nearer surface (z-buffer): the colour of the nearest visible surface point;
    * outside the colour image: its nearest border pixel.

    Args:
        color: Image of the colour camera.
        depth: z-depth of the depth camera, metres, 0 = missing.
        depth_intrinsic: Of the depth camera, pixels.
        calibration: How the colour camera sits beside it.

    Returns:
        The image, and where it holds the measured colour of a measured surface.
    """
    height, width = depth.shape
    has_depth = depth > 0
    if not has_depth.any():
        filled = np.ones_like(depth)
    else:
        source = ndimage.distance_transform_edt(~has_depth, return_distances=False, return_indices=True)
        filled = depth[tuple(source)]
    points = (pixel_rays(depth_intrinsic, depth.shape) * filled[..., None]).reshape(-1, 3)
    in_color = points @ calibration.color_from_depth[:3, :3].T + calibration.color_from_depth[:3, 3]
    z = np.maximum(in_color[:, 2], 1e-6)
    pixel = (in_color @ calibration.color_intrinsic.T)[:, :2] / z[:, None]
    image = _sample(color, pixel)

    flat_depth = has_depth.ravel()
    size = color.shape[:2]
    inside = (pixel >= -0.5).all(axis=1) & (pixel[:, 0] < size[1] - 0.5) & (pixel[:, 1] < size[0] - 0.5)
    cell_px = max(1.0, calibration.color_intrinsic[0, 0] / depth_intrinsic[0, 0])
    buffer = ndimage.minimum_filter(nearest_depth(pixel[flat_depth], z[flat_depth], size, cell_px), size=3)
    cell = np.floor((pixel + 0.5) / cell_px).astype(np.int64)
    cell = np.clip(cell, 0, np.array(buffer.shape[::-1]) - 1)
    hidden = flat_depth & inside & (z > (1 + OCCLUSION_SHARE) * buffer[cell[:, 1], cell[:, 0]])
    seen = (flat_depth & inside & ~hidden).reshape(height, width)

    if hidden.any():
        near_hidden = ndimage.binary_dilation(hidden.reshape(height, width), iterations=BORROW_PX)
        lenders = np.flatnonzero(near_hidden & seen)
        borrowers = np.flatnonzero(hidden)
        if len(lenders):
            _, index = cKDTree(points[lenders]).query(points[borrowers])
            image[borrowers] = image[lenders[index]]
    return image.reshape(height, width, 3), seen
