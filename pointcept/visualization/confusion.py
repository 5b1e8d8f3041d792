"""A confusion matrix as a picture."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, ImageDraw, ImageFont

from pointcept.visualization.colormaps import MISSING_COLOR, value_to_color

CELL_PX = 22
FONT_SIZE = 11
_BACKGROUND = (255, 255, 255)
_TEXT_COLOR = (20, 20, 20)


def confusion_picture(confusion: Int[np.ndarray, "K K"], class_names: Sequence[str]) -> UInt8[np.ndarray, "_H _W 3"]:
    """Share of the points of each true class (row) that was predicted as each class (column), in per cent.

    Classes without any point, true or predicted, are left out; rows of classes that were only predicted are grey.

    Args:
        confusion: Number of points.
        class_names: One for each class.
    """
    occurs = np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1))
    matrix, names = confusion[np.ix_(occurs, occurs)], [class_names[index] for index in occurs]
    total = matrix.sum(axis=1, keepdims=True)
    share = np.divide(matrix, total, out=np.full(matrix.shape, np.nan), where=total > 0)
    font = ImageFont.load_default(FONT_SIZE)
    margin = int(max([font.getlength(name) for name in names], default=0)) + 8
    size = margin + CELL_PX * len(names) + 4
    picture = Image.new("RGB", (size, size), _BACKGROUND)
    draw = ImageDraw.Draw(picture)
    colors = value_to_color(share, 0.0, 1.0)
    for row, name in enumerate(names):
        y = margin + row * CELL_PX
        draw.text((margin - 4, y + CELL_PX // 2), name, _TEXT_COLOR, font, anchor="rm")
        for column in range(len(names)):
            x, value = margin + column * CELL_PX, share[row, column]
            fill = MISSING_COLOR if np.isnan(value) else tuple(colors[row, column].tolist())
            draw.rectangle((x, y, x + CELL_PX - 2, y + CELL_PX - 2), fill=fill)
            if value >= 0.005:
                shade = (0, 0, 0) if 0.3 < value < 0.85 else (255, 255, 255)
                draw.text((x + CELL_PX // 2 - 1, y + CELL_PX // 2), f"{100 * value:.0f}", shade, font, anchor="mm")
    picture.paste(_column_labels(names, margin, font), (margin, 0))
    return np.asarray(picture)


def _column_labels(names: Sequence[str], length: int, font: ImageFont.FreeTypeFont) -> Image.Image:
    """Names side by side, each read upward."""
    strip = Image.new("RGB", (length, max(1, CELL_PX * len(names))), _BACKGROUND)
    draw = ImageDraw.Draw(strip)
    for row, name in enumerate(names):
        draw.text((4, row * CELL_PX + CELL_PX // 2), name, _TEXT_COLOR, font, anchor="lm")
    return strip.rotate(90, expand=True)
