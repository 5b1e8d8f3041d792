"""Reading one colour or 16-bit depth image, and resizing it with its intrinsics."""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

DEPTH_MISSING = (0, 65535)
# Neighbouring depths that differ by more than this share belong to different surfaces.
SURFACE_JUMP = 0.03


def _load(path: Path, what: str, mode: str | None = None) -> tuple[np.ndarray, str]:
    """Pixels and the mode they were stored in, converted to ``mode`` if one is given."""
    try:
        with Image.open(path) as image:
            return np.asarray(image if mode is None else image.convert(mode)), image.mode
    except FileNotFoundError:
        raise FileNotFoundError(f"The {what} image must exist: {path} is missing.") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"The {what} image must be readable: {path} is not ({error}). It may be truncated: copy it again, or "
            "remove it to leave the frame out."
        ) from error


def read_color(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """Colour image as RGB; grey images are repeated, an alpha channel is dropped.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated or no image.
    """
    return _load(path, "colour", "RGB")[0]


def read_depth(path: Path, *, units_per_metre: float, max_depth_m: float) -> Float[np.ndarray, "H W"]:
    """16-bit depth image as metres along the optical axis, float32.

    Raw values 0 and 65535, and depths above ``max_depth_m``, become 0 = missing.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, no image, or not a single channel of 16 bits.
    """
    raw, mode = _load(path, "depth")
    # Pillow gives 16-bit PNGs as uint16 ("I;16") or, depending on its version, int32 ("I").
    if raw.ndim != 2 or raw.dtype not in (np.uint16, np.int32) or raw.min() < 0 or raw.max() > 65535:
        raise ValueError(
            f"A depth image must have one channel of 16 bits: {path} has mode {mode!r}. Pass the raw depth, not "
            "a picture of it."
        )
    depth = (raw / units_per_metre).astype(np.float32)
    depth[np.isin(raw, DEPTH_MISSING) | (depth > max_depth_m)] = 0
    return depth


def resize_intrinsic(
    intrinsic: Float[np.ndarray, "3 3"], size_px: tuple[int, int], new_size_px: tuple[int, int]
) -> Float[np.ndarray, "3 3"]:
    """Intrinsics of an image resized from ``size_px`` to ``new_size_px`` (height, width).

    The centre of the first pixel stays at (0, 0), so the image area starts at -0.5 before and after.
    """
    scale_y, scale_x = new_size_px[0] / size_px[0], new_size_px[1] / size_px[1]
    new_from_old = np.array([[scale_x, 0, (scale_x - 1) / 2], [0, scale_y, (scale_y - 1) / 2], [0, 0, 1]])
    return new_from_old @ intrinsic


def resize_color(color: UInt8[np.ndarray, "H W 3"], new_size_px: tuple[int, int]) -> UInt8[np.ndarray, "H2 W2 3"]:
    """Colour resized to (height, width) with an antialiased linear filter."""
    height, width = new_size_px
    return np.asarray(Image.fromarray(color).resize((width, height), Image.Resampling.BILINEAR))


def resize_depth(depth: Float[np.ndarray, "H W"], new_size_px: tuple[int, int]) -> Float[np.ndarray, "H2 W2"]:
    """Depth resized to (height, width) without mixing surfaces.

    Inverse depth is linear in the pixel position on a plane, so it is interpolated where the four neighbours lie on
    one surface; elsewhere the nearest pixel counts, missing or not.
    """
    rows = (np.arange(new_size_px[0]) + 0.5) * depth.shape[0] / new_size_px[0] - 0.5
    columns = (np.arange(new_size_px[1]) + 0.5) * depth.shape[1] / new_size_px[1] - 0.5
    top = np.clip(np.floor(rows).astype(int), 0, max(depth.shape[0] - 2, 0))
    left = np.clip(np.floor(columns).astype(int), 0, max(depth.shape[1] - 2, 0))
    bottom, right = np.minimum(top + 1, depth.shape[0] - 1), np.minimum(left + 1, depth.shape[1] - 1)
    down = np.clip(rows - top, 0, 1)[:, None]
    across = np.clip(columns - left, 0, 1)[None, :]
    corners = np.stack([depth[np.ix_(r, c)] for r in (top, bottom) for c in (left, right)])  # (4, H2, W2)
    weights = np.stack([(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across])
    nearest = np.take_along_axis(corners, weights.argmax(axis=0)[None], axis=0)[0]
    smooth = (corners.min(axis=0) > 0) & (corners.max(axis=0) < (1 + SURFACE_JUMP) * corners.min(axis=0))
    inverse = (weights / np.where(smooth, corners, 1)).sum(axis=0)
    return np.where(smooth, 1 / inverse, nearest).astype(np.float32)


def depth_edges(depth: Float[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Pixels next to a pixel of another surface (a depth jump of more than ``SURFACE_JUMP``), on both sides."""
    edges = np.zeros(depth.shape, dtype=bool)
    for first, second in (
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
    ):
        near, far = np.minimum(depth[first], depth[second]), np.maximum(depth[first], depth[second])
        jump = (near > 0) & (far > (1 + SURFACE_JUMP) * near)
        edges[first] |= jump
        edges[second] |= jump
    return edges
