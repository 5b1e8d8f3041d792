"""Pictures for papers and reports: one panel per view, and the surface."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pointcept.visualization.colormaps import (
    MISSING_COLOR,
    depth_to_color,
    enlarge,
    image_to_color,
    normal_to_color,
    value_to_color,
)
from pointcept.visualization.inspect.figures import FeatureColors, feature_cosine, normal_error
from pointcept.visualization.inspect.measure import SceneState, ViewPictures
from pointcept.visualization.panels import MIN_TILE_WIDTH, depth_range, tile_grid
from pointcept.visualization.point_cloud import overview, render_point_cloud

COLOR_LIMIT = 0.5
DEPTH_LIMIT_M = 0.5
ANGLE_LIMIT_DEG = 90.0


def view_panel(
    rendered: ViewPictures, measured: ViewPictures, figures: dict[str, float], features: FeatureColors | None
) -> UInt8[np.ndarray, "_H _W 3"]:
    """Measured on top, rendered below it, the difference at the bottom; one column per quantity.

    Differences run from dark blue (none) to dark red (``COLOR_LIMIT``, ``DEPTH_LIMIT_M``, ``ANGLE_LIMIT_DEG``, or a
    cosine of 0); dark grey has no value.
    """
    near, far = depth_range(measured.depth[measured.depth > 0])
    color_error = np.abs(rendered.color - measured.color).mean(axis=-1)
    depth_error = np.where(measured.depth > 0, np.abs(rendered.depth - measured.depth), np.nan)
    scale = f"{near:.1f} to {far:.1f} m"
    columns = [
        [
            ("measured colour", image_to_color(measured.color)),
            (f"rendered colour  PSNR {figures['psnr']:.2f} dB", image_to_color(rendered.color)),
            (f"difference  0 to {COLOR_LIMIT}", value_to_color(color_error, 0.0, COLOR_LIMIT)),
        ],
        [
            (f"measured depth  {scale}", depth_to_color(measured.depth, near, far)),
            (
                f"rendered depth{_note(figures, 'abs_rel', '  AbsRel {:.3f}')}",
                depth_to_color(rendered.depth, near, far),
            ),
            (f"difference  0 to {DEPTH_LIMIT_M} m", value_to_color(depth_error, 0.0, DEPTH_LIMIT_M)),
        ],
        [
            ("normals of the measured depth", normal_to_color(measured.normal)),
            (f"rendered normals{_note(figures, 'normal_deg', '  {:.1f} degrees')}", normal_to_color(rendered.normal)),
            (
                f"angle between  0 to {ANGLE_LIMIT_DEG:.0f} degrees",
                value_to_color(normal_error(rendered, measured), 0.0, ANGLE_LIMIT_DEG),
            ),
        ],
    ]
    if rendered.feature is not None and features is not None:
        empty = np.full((*rendered.depth.shape, 3), MISSING_COLOR, dtype=np.uint8)
        cosine = feature_cosine(rendered, measured)
        target = empty if measured.feature is None else image_to_color(features(measured.feature))
        columns.append(
            [
                ("target features" if measured.feature is not None else "no target features", target),
                (
                    f"rendered features{_note(figures, 'feature_cosine', '  cosine {:.3f}')}",
                    image_to_color(features(rendered.feature)),
                ),
                ("cosine  1 to 0", empty if cosine is None else value_to_color(1 - cosine, 0.0, 1.0)),
            ]
        )
    factor = -(-MIN_TILE_WIDTH // rendered.depth.shape[1])
    rows = zip(*columns, strict=True)
    return tile_grid([[(caption, enlarge(picture, factor)) for caption, picture in row] for row in rows])


def write_pictures(
    folder: Path,
    state: SceneState,
    measured: tuple[ViewPictures, ...],
    figures: list[dict[str, float]],
    features: FeatureColors | None,
) -> None:
    """Writes ``view<i>.png`` for every view and, where there is a surface, ``surface.png`` of it from above."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, (rendered, target, values) in enumerate(zip(state.views, measured, figures, strict=True)):
        Image.fromarray(view_panel(rendered, target, values, features)).save(folder / f"view{index}.png")
    if len(state.surface.vertices):
        viewpoint = overview(state.surface.vertices)
        faces_it = state.surface.normals @ viewpoint.extrinsic[2, :3] < 0  # what is seen from behind hides the room
        if faces_it.any():
            picture = render_point_cloud(
                state.surface.vertices[faces_it], state.surface_color[faces_it], viewpoint, radius=0.06
            )
            Image.fromarray(picture).save(folder / "surface.png")


def _note(figures: dict[str, float], name: str, text: str) -> str:
    return text.format(figures[name]) if name in figures else ""
