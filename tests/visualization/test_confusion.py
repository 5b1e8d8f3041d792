"""The picture of a confusion matrix shows shares of the true class, for the classes that occur."""

import numpy as np

from pointcept.visualization.colormaps import MISSING_COLOR, value_to_color
from pointcept.visualization.confusion import CELL_PX, confusion_picture


def cell(picture: np.ndarray, row: int, column: int, num_classes: int) -> tuple[int, ...]:
    """Colour of the upper left corner of a cell, where no number stands."""
    start = picture.shape[0] - 4 - num_classes * CELL_PX
    return tuple(picture[start + row * CELL_PX + 1, start + column * CELL_PX + 1].tolist())


def test_cells_have_the_colour_of_their_share():
    confusion = np.array([[3, 0, 1], [0, 0, 0], [0, 0, 0]])  # class 1 does not occur, class 2 is only predicted
    picture = confusion_picture(confusion, ["wall", "floor", "a longer name"])
    share = value_to_color(np.array([0.75, 0.25]), 0.0, 1.0).tolist()
    assert [cell(picture, 0, column, 2) for column in range(2)] == [tuple(color) for color in share]
    assert [cell(picture, 1, column, 2) for column in range(2)] == [MISSING_COLOR, MISSING_COLOR]


def test_without_any_point_there_is_an_empty_picture():
    assert (confusion_picture(np.zeros((3, 3), dtype=np.int64), ["a", "b", "c"]) == 255).all()
