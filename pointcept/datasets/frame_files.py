"""Reads the files of one RGB-D frame, and brings colour, depth, labels and intrinsics to one size."""

import struct
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Integer, Shaped, UInt8
from PIL import Image

COLOR_SUFFIXES = (".jpg", ".jpeg", ".png")

_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error)
_MISSING_DEPTH = 65535  # a saturated 16-bit value: what several sensors and data sets write for "nothing measured"
_RIGID_TOLERANCE = 0.02
_MAX_OVERSHOOT = 0.02  # share of the colour image by which depth may look past its border


def read_color(folder: Path, stem: str) -> Image.Image:
    """Colour image of a frame, RGB.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be decoded.
    """
    for suffix in COLOR_SUFFIXES:
        path = folder / f"{stem}{suffix}"
        if path.is_file():
            return read_image(path)
    raise FileNotFoundError(f"Frame {stem} must have a colour image in {folder}: found none. Export the frame again.")


def read_image(path: Path) -> Image.Image:
    """A colour image, RGB.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be decoded.
    """
    return _decode(path).convert("RGB")


def read_depth(
    path: Path, *, depth_scale: float, max_depth_m: float | int | None = None
) -> Float32[np.ndarray, "_H _W"]:
    """z-depth, metres; 0 where nothing was measured, the value is saturated or too far.

    Args:
        path: 16-bit image, 0 = missing.
        depth_scale: Metres per unit of the file.
        max_depth_m: Depths beyond it count as missing; None keeps all.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be decoded, or is no 16-bit image of one channel.
    """
    image = _decode(path)
    if image.mode not in ("I;16", "I;16B", "I;16L", "I"):
        raise ValueError(
            f"Depth must be a 16-bit image of one channel: {path} has mode {image.mode!r}. Export the frame again."
        )
    units = np.asarray(image)
    depth = units.astype(np.float32) * np.float32(depth_scale)
    missing = (units <= 0) | (units >= _MISSING_DEPTH)
    if max_depth_m is not None:
        missing |= depth > max_depth_m
    depth[missing] = 0
    return depth


def read_label(path: Path) -> Integer[np.ndarray, "_H _W"]:
    """Ids of a label image, as they are in the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be decoded, or has several channels.
    """
    ids = np.asarray(_decode(path))
    if ids.ndim != 2:
        raise ValueError(
            f"Labels must be an image of one channel with an id per pixel: {path} has shape {ids.shape}. "
            "Export the labels again."
        )
    return ids


def read_pose(path: Path) -> Float[np.ndarray, "4 4"] | None:
    """world_from_camera of a pose file, or None when it is not a finite, rigid 4x4 matrix.

    The rounding of the file is undone: the result has the nearest exact rotation.

    Raises:
        FileNotFoundError: there is no such file.
    """
    try:
        pose = _parse_matrix(path)
    except ValueError:
        return None
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        return None
    left, stretch, right = np.linalg.svd(pose[:3, :3])
    is_rotation = np.abs(stretch - 1).max() < _RIGID_TOLERANCE and np.linalg.det(pose[:3, :3]) > 0
    if not is_rotation or not np.allclose(pose[3], (0, 0, 0, 1), atol=1e-6):
        return None
    pose[:3, :3] = left @ right
    return pose


def read_intrinsic(path: Path) -> Float[np.ndarray, "3 3"]:
    """Intrinsic matrix, pixels, from a text file of 3x3 or 4x4 numbers.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file does not hold finite numbers with positive focal lengths.
    """
    matrix = _parse_matrix(path)
    if matrix.shape not in ((3, 3), (4, 4)) or not np.isfinite(matrix).all() or min(matrix[0, 0], matrix[1, 1]) <= 0:
        raise ValueError(
            f"Intrinsics must be a finite 3x3 or 4x4 matrix with positive focal lengths: {path} holds "
            f"{matrix.tolist()}. Export the scene's intrinsics again."
        )
    return matrix[:3, :3]


def read_extrinsic(path: Path) -> Float[np.ndarray, "4 4"]:
    """Rigid matrix of a sensor's extrinsic file; the identity when there is no file.

    Raises:
        ValueError: the file does not hold a finite, rigid 4x4 matrix.
    """
    if not path.is_file():
        return np.eye(4)
    matrix = read_pose(path)
    if matrix is None:
        raise ValueError(f"An extrinsic must be a finite, rigid 4x4 matrix: {path} is not. Export it again.")
    return matrix


def resized_intrinsic(
    intrinsic: Float[np.ndarray, "3 3"], size_px: tuple[float | int, float | int], new_size_px: tuple[int, int]
) -> Float[np.ndarray, "3 3"]:
    """Intrinsics of an image after it was resized; sizes are (height, width).

    The centre of the first pixel stays at (0, 0), so its outer corner at (-0.5, -0.5) is the fixed point.
    """
    scale_y, scale_x = new_size_px[0] / size_px[0], new_size_px[1] / size_px[1]
    to_new = np.array([[scale_x, 0, 0.5 * scale_x - 0.5], [0, scale_y, 0.5 * scale_y - 0.5], [0, 0, 1]])
    return to_new @ intrinsic


def resize_nearest(image: Shaped[np.ndarray, "H W"], size_px: tuple[int, int]) -> Shaped[np.ndarray, "_h _w"]:
    """Image at another (height, width), each pixel taken from the nearest one."""
    if image.shape == tuple(size_px):
        return image
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64) for old, new in zip(image.shape, size_px, strict=True)
    )
    return image[rows[:, None], columns]


def color_box(
    color_size_px: tuple[int, int],
    depth_size_px: tuple[int, int],
    color_intrinsic: Float[np.ndarray, "3 3"],
    depth_intrinsic: Float[np.ndarray, "3 3"],
) -> tuple[float, float, float, float]:
    """The part of a colour image that the depth image of the same eye point shows: left, top, right, bottom edge.

    Edges are counted from the image's outer corner, in colour pixels; the sizes are (height, width).

    Raises:
        ValueError: depth looks far past the border of the colour image.
    """
    height, width = depth_size_px
    color_from_depth = color_intrinsic @ np.linalg.inv(depth_intrinsic)
    corners = np.array([[-0.5, -0.5, 1], [width - 0.5, height - 0.5, 1]])
    (left, top), (right, bottom) = (corners @ color_from_depth.T)[:, :2] + 0.5
    box = (float(left), float(top), float(right), float(bottom))
    overshoot = (
        max(-left, right - color_size_px[1]) / color_size_px[1],
        max(-top, bottom - color_size_px[0]) / (color_size_px[0]),
    )
    if max(overshoot) > _MAX_OVERSHOOT:
        raise ValueError(
            "The colour image must cover what the depth image shows: by the intrinsics depth covers "
            f"(left, top, right, bottom) {tuple(round(edge, 1) for edge in box)} of a colour image of width "
            f"{color_size_px[1]} and height {color_size_px[0]}."
        )
    return box


def crop_resize(
    image: Image.Image, box: tuple[float, float, float, float] | None, size_px: tuple[int, int]
) -> UInt8[np.ndarray, "_H _W 3"]:
    """Part of a colour image at a new (height, width), bilinear, anti-aliased.

    Args:
        image: RGB.
        box: See ``color_box``; what it covers past the border repeats the border. None takes the whole image.
        size_px: Height and width of the result.
    """
    whole = (0.0, 0.0, float(image.width), float(image.height))
    if box is None or np.allclose(box, whole, atol=0.5):
        box = whole
    if box == whole and image.size == (size_px[1], size_px[0]):
        return np.asarray(image)
    overshoot = max(0.0, -box[0], -box[1], box[2] - image.width, box[3] - image.height)
    if overshoot > 0:
        margin = int(np.ceil(overshoot))
        image = Image.fromarray(np.pad(np.asarray(image), ((margin, margin), (margin, margin), (0, 0)), mode="edge"))
        box = tuple(edge + margin for edge in box)
    return np.asarray(image.resize((size_px[1], size_px[0]), Image.Resampling.BILINEAR, box=box))


def _decode(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} must exist: it does not. Export or download the frame again.") from None
    except _UNREADABLE as error:
        raise ValueError(
            f"{path} must be a whole image file: {error}. Export or download it again, or leave the frame out (RGB-D "
            "scenes: with a line 'scene frame' in skip.lst)."
        ) from error


def _parse_matrix(path: Path) -> Float[np.ndarray, "..."]:
    """The numbers of a text file, as a square matrix when their count allows it."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} must exist: it does not. Export the scene's calibration again.") from None
    try:
        numbers = np.array(text.split(), dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"{path} must hold numbers: {error}. Export it again.") from error
    edge = int(np.sqrt(len(numbers)))
    return numbers.reshape(edge, edge) if edge * edge == len(numbers) and edge else numbers
