"""Panels that show what was rendered beside what was measured, one picture per view."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pointcept.evaluation.image_metrics import depth_errors, inside_view, psnr
from pointcept.structures import SceneBatch
from pointcept.visualization.colormaps import (
    MISSING_COLOR,
    depth_to_color,
    enlarge,
    image_to_color,
    normal_to_color,
    scale_bar,
)

MIN_TILE_WIDTH = 240
CAPTION_HEIGHT = 18
GAP = 4
FONT_SIZE = 12
BACKGROUND = (24, 24, 24)
TEXT_COLOR = (235, 235, 235)


def normals_from_depth(
    depth: Float[np.ndarray, "H W"], intrinsic: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "H W 3"]:
    """Unit normals of the surface that a depth map shows, towards the camera; zero where they cannot be told.

    The tangents are differences of back-projected neighbours: central where both neighbours have depth, one-sided
    where one has. Exact for planes; across the edge of an object the normals are a mixture.

    Args:
        depth: z-depth, metres, 0 = missing.
        intrinsic: Pixels, the centre of the first pixel at (0, 0).

    Returns:
        Normals in the camera frame (x right, y down, z forward).
    """
    height, width = depth.shape
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.stack([columns, rows, np.ones_like(rows)], axis=-1).astype(np.float64)
    points = depth[..., None] * (pixels @ np.linalg.inv(intrinsic).T)
    valid = depth > 0
    tangent_x, has_x = _tangent(points, valid)
    tangent_y, has_y = _tangent(points.swapaxes(0, 1), valid.T)
    normal = np.cross(tangent_y.swapaxes(0, 1), tangent_x)
    length = np.linalg.norm(normal, axis=-1)
    told = valid & has_x & has_y.T & (length > 0)
    return np.where(told[..., None], normal / np.where(told, length, 1)[..., None], 0).astype(depth.dtype)


def rendering_panels(output: dict[str, Tensor], batch: SceneBatch) -> list[tuple[str, UInt8[np.ndarray, "_H _W 3"]]]:
    """One panel per view: measured on top, rendered below; colour, depth and normals from left to right.

    The fourth column holds the scale of the two depth pictures, in metres, and the rendered opacity (black 0, white
    1). The scale spans the measured depths of the view. Missing depth is dark grey. The measured normals come from
    the measured depth. Small views are enlarged by a whole factor so that captions can be read.

    Args:
        output: ``color`` (B, V, 3, H, W), 0..1, ``depth`` (B, V, H, W), z-depth in metres, and, where the model makes
            them, ``normal`` (B, V, 3, H, W), camera frame, and ``opacity`` (B, V, H, W).
        batch: The scenes with their real views.

    Returns:
        Pairs of a name, ``<scene>-view<index>``, and a picture.

    Raises:
        ValueError: the batch has no cameras.
    """
    cameras = batch.cameras
    if cameras is None:
        raise ValueError("Panels compare renderings with real views: the batch has no cameras.")
    inside = inside_view(cameras.size_px, *cameras.depth.shape[-2:])
    psnr_db = psnr(output["color"].to(cameras.image.dtype), cameras.image, inside).tolist()
    errors = depth_errors(output["depth"].to(cameras.depth.dtype), cameras.depth, inside)
    abs_rel, num_pixels = errors.abs_rel.tolist(), errors.num_pixels.tolist()
    arrays = {key: _to_numpy(value) for key, value in output.items() if key in ("color", "depth", "normal", "opacity")}
    arrays |= {key: _to_numpy(getattr(cameras, key)) for key in ("image", "intrinsic")}
    arrays["target_depth"] = _to_numpy(cameras.depth)

    panels = []
    for scene, sizes in enumerate(cameras.size_px.tolist()):
        for view, (height, width) in enumerate(sizes):
            if height == 0 or width == 0:
                continue
            one = {key: value[scene, view] for key, value in arrays.items()}
            one = {key: value if key == "intrinsic" else value[..., :height, :width] for key, value in one.items()}
            depth_note = f"  AbsRel {abs_rel[scene][view]:.3f}" if num_pixels[scene][view] else ""
            panel = _panel(one, f"  PSNR {psnr_db[scene][view]:.2f} dB", depth_note)
            panels.append((f"{batch.name[scene]}-view{view}", panel))
    return panels


def _panel(view: dict[str, np.ndarray], color_note: str, depth_note: str) -> np.ndarray:
    target_depth = view["target_depth"]
    shown = target_depth[target_depth > 0]
    if shown.size == 0:
        shown = view["depth"][view["depth"] > 0]
    near, far = depth_range(shown)
    empty = np.full((*target_depth.shape, 3), MISSING_COLOR, dtype=np.uint8)
    factor = -(-MIN_TILE_WIDTH // target_depth.shape[1])
    rows = [
        [
            ("measured colour", image_to_color(np.moveaxis(view["image"], 0, -1))),
            ("measured depth", depth_to_color(target_depth, near, far)),
            ("normals of the measured depth", normal_to_color(normals_from_depth(target_depth, view["intrinsic"]))),
            ("depth scale", empty),
        ],
        [
            (f"rendered colour{color_note}", image_to_color(np.moveaxis(view["color"], 0, -1))),
            (f"rendered depth{depth_note}", depth_to_color(view["depth"], near, far)),
            ("rendered normals", normal_to_color(np.moveaxis(view["normal"], 0, -1)) if "normal" in view else empty),
            (
                "opacity",
                np.repeat(image_to_color(view["opacity"][..., None]), 3, axis=2) if "opacity" in view else empty,
            ),
        ],
    ]
    tiles = [[(caption, enlarge(picture, factor)) for caption, picture in row] for row in rows]
    tiles[0][3] = ("depth scale", scale_tile(*tiles[0][0][1].shape[:2], near, far))
    return tile_grid(tiles)


def depth_range(depth: np.ndarray) -> tuple[float, float]:
    """Ends of a scale for these depths, at least a tenth of their middle apart so that noise looks like noise."""
    if depth.size == 0:
        return 0.0, 1.0
    near, far = float(depth.min()), float(depth.max())
    middle, half = (near + far) / 2, max((far - near) / 2, 0.05 * (near + far) / 2)
    return middle - half, middle + half


def tile_grid(rows: list[list[tuple[str, np.ndarray]]]) -> np.ndarray:
    """Tiles of one size in rows, each under its caption."""
    height, width = rows[0][0][1].shape[:2]
    pitch_y, pitch_x = height + CAPTION_HEIGHT + GAP, width + GAP
    canvas = Image.new("RGB", (GAP + pitch_x * len(rows[0]), GAP + pitch_y * len(rows)), BACKGROUND)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(FONT_SIZE)
    for i, row in enumerate(rows):
        for j, (caption, picture) in enumerate(row):
            left, top = GAP + j * pitch_x, GAP + i * pitch_y
            draw.text((left + 2, top + 1), caption, fill=TEXT_COLOR, font=font)
            canvas.paste(Image.fromarray(picture), (left, top + CAPTION_HEIGHT))
    return np.asarray(canvas)


def scale_tile(height: int, width: int, near: float, far: float) -> np.ndarray:
    """The colour bar of the depth pictures with five labels in metres."""
    tile = Image.new("RGB", (width, height), BACKGROUND)
    margin, bar_width = FONT_SIZE, 24
    bar_height = max(height - 2 * margin, 1)
    tile.paste(Image.fromarray(scale_bar(bar_height, bar_width)), (margin, margin))
    draw, font = ImageDraw.Draw(tile), ImageFont.load_default(FONT_SIZE)
    for fraction in np.linspace(0, 1, 5):
        y = margin + (1 - fraction) * (bar_height - 1)
        label = f"{near + fraction * (far - near):.2f} m"
        draw.text((margin + bar_width + 8, y), label, fill=TEXT_COLOR, font=font, anchor="lm")
    x = margin + bar_width + 80
    draw.rectangle((x, margin, x + 12, margin + 12), fill=MISSING_COLOR, outline=TEXT_COLOR)
    draw.text((x + 20, margin + 6), "no value", fill=TEXT_COLOR, font=font, anchor="lm")
    return np.asarray(tile)


def _tangent(points: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Difference of neighbours along the second axis, and whether there is one."""
    padded = np.pad(points, ((0, 0), (1, 1), (0, 0)))
    padded_valid = np.pad(valid, ((0, 0), (1, 1)))
    has_before, has_after = padded_valid[:, :-2], padded_valid[:, 2:]
    after = np.where(has_after[..., None], padded[:, 2:], points)
    before = np.where(has_before[..., None], padded[:, :-2], points)
    return after - before, has_before | has_after


def _to_numpy(value: Tensor) -> np.ndarray:
    return value.detach().to("cpu", torch.float32).numpy()
