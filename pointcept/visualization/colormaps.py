"""Colours for quantities that have none: depth, normals and fractions."""

import numpy as np
from jaxtyping import Float, UInt8

MISSING_COLOR = (64, 64, 64)
"""Dark grey of pixels without a value; no colour of the map comes near it."""

_ANCHORS = np.array(
    [
        (48, 24, 90),
        (62, 58, 168),
        (64, 98, 226),
        (58, 138, 252),
        (38, 178, 236),
        (24, 210, 200),
        (40, 234, 152),
        (94, 250, 104),
        (150, 254, 66),
        (196, 240, 52),
        (232, 212, 56),
        (252, 174, 52),
        (252, 128, 36),
        (236, 82, 18),
        (204, 44, 6),
        (158, 18, 4),
    ],
    dtype=np.float64,
)


def value_to_color(value: Float[np.ndarray, "*shape"], lower: float, upper: float) -> UInt8[np.ndarray, "*shape 3"]:
    """Colour of each value on a map that runs from dark blue over green to dark red; not-a-number is dark grey.

    Args:
        value: Any quantity; what lies outside the range gets the colour of the nearer end.
        lower: Value shown as dark blue.
        upper: Value shown as dark red; a range without extent shows everything as dark blue.
    """
    missing = np.isnan(value)
    extent = max(upper - lower, np.finfo(np.float64).tiny)
    with np.errstate(over="ignore"):
        fraction = np.clip((np.where(missing, lower, value).astype(np.float64) - lower) / extent, 0, 1)
    position = np.linspace(0, 1, len(_ANCHORS))
    color = np.stack([np.interp(fraction, position, _ANCHORS[:, channel]) for channel in range(3)], axis=-1)
    color[missing] = MISSING_COLOR
    return np.round(color).astype(np.uint8)


def depth_to_color(depth: Float[np.ndarray, "H W"], near: float, far: float) -> UInt8[np.ndarray, "H W 3"]:
    """Colour of each depth, dark blue at ``near`` and dark red at ``far``; missing depth (0) is dark grey.

    Args:
        depth: Metres, 0 = missing.
        near: Lower end of the scale, metres.
        far: Upper end of the scale, metres.
    """
    return value_to_color(np.where(depth > 0, depth, np.nan), near, far)


def normal_to_color(normal: Float[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """The usual picture of normals: red to the right, green up, blue towards the viewer; no normal is dark grey.

    A surface that faces the camera is light blue. In the camera frame (x right, y down, z forward) the colour is
    ``(1 + (x, -y, -z)) / 2``.

    Args:
        normal: Unit vectors, camera frame; zero where there is none.
    """
    color = (1 + normal * np.array([1, -1, -1])) / 2
    color = np.where((np.square(normal).sum(axis=-1) > 0)[..., None], color * 255, MISSING_COLOR)
    return np.round(np.clip(color, 0, 255)).astype(np.uint8)


def image_to_color(image: Float[np.ndarray, "H W C"]) -> UInt8[np.ndarray, "H W C"]:
    """An image of floats in 0..1 as bytes; what lies outside is clipped."""
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def scale_bar(height: int, width: int) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """The whole colour map, its upper end at the top."""
    column = value_to_color(np.linspace(1, 0, height), 0.0, 1.0)
    return np.repeat(column[:, None], width, axis=1)


def enlarge(picture: UInt8[np.ndarray, "H W 3"], factor: int) -> UInt8[np.ndarray, "_H _W 3"]:
    """The picture with every pixel repeated ``factor`` times along both axes."""
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)
