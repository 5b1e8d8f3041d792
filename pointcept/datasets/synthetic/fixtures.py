"""What belongs to the building: doors, windows, curtains, pictures, kitchens and bathrooms, lamps, rugs."""

import numpy as np

from pointcept.datasets.synthetic.furniture import on_top
from pointcept.datasets.synthetic.item import Interval, Item, Vector
from pointcept.datasets.synthetic.style import Style

Rng = np.random.Generator


def door(style: Style, rng: Rng) -> Item:
    """A leaf with panels and a handle in a frame."""
    width, height = rng.uniform(0.8, 0.95), rng.uniform(1.98, 2.1)
    item = Item("door", width + 0.16, 0.06, front=0.75)
    leaf, frame, panel = style.front(), style.front(), style.front()
    item.board((-width / 2, width / 2), (0, 0.035), (0.01, height), leaf)
    for side in (-1, 1):
        item.box((side * (width / 2 + 0.04), 0.03, height / 2), (0.08, 0.06, height), frame)
    item.board((-width / 2 - 0.08, width / 2 + 0.08), (0, 0.06), (height, height + 0.08), frame)
    if rng.random() < 0.6:
        for low, high in ((0.2, 0.85), (1.05, height - 0.2)):
            item.board((-width / 2 + 0.14, width / 2 - 0.14), (0.03, 0.042), (low, high), panel)
    metal, side = style.metal(), 1 if rng.random() < 0.5 else -1
    item.box((side * (width / 2 - 0.12), 0.07, 1.02), (0.13, 0.025, 0.025), metal)
    item.box((side * (width / 2 - 0.08), 0.05, 1.02), (0.03, 0.05, 0.15), metal)
    return item


def window(style: Style, rng: Rng) -> Item:
    """A view of the outdoors behind bars, a sill, and mostly a pair of curtains."""
    width, low, high = rng.uniform(0.9, 1.9), rng.uniform(0.8, 1.0), rng.uniform(1.9, 2.15)
    has_curtain = rng.random() < 0.65
    item = Item("window", width + (0.75 if has_curtain else 0.12), 0.15 if has_curtain else 0.12)
    frame = style.ceramic() if rng.random() < 0.6 else style.wood()
    item.board((-width / 2, width / 2), (0, 0.02), (low, high), style.outdoors())
    for at in np.linspace(-width / 2, width / 2, 3 if width < 1.4 else 4):
        item.box((at, 0.025, (low + high) / 2), (0.055, 0.05, high - low + 0.055), frame)
    for at in (low, high):
        item.box((0, 0.025, at), (width + 0.055, 0.05, 0.055), frame)
    item.board((-width / 2 - 0.06, width / 2 + 0.06), (0, 0.12), (low - 0.06, low - 0.025), frame)
    if has_curtain:
        item.new_object("curtain")
        cloth, top, bottom = style.fabric(), high + 0.12, rng.choice([0.05, low - 0.25])
        item.cylinder((0, 0.09, top), (width + 0.7, 0.03, 0.03), style.metal(), axis="x")
        drawn = rng.uniform(0.3, 0.5)
        for side in (-1, 1):
            inner = width / 2 + 0.33 - drawn
            folds(item, (side * inner, side * (width / 2 + 0.33)), 0.09, (bottom, top - 0.02), cloth)
    return item


def folds(item: Item, x: Interval, y: float, z: Interval, material: int) -> None:
    """Add hanging cloth: a row of upright elliptic cylinders."""
    left, right = min(x), max(x)
    count = max(2, round((right - left) / 0.07))
    width = (right - left) / count
    for k in range(count):
        at = (left + (k + 0.5) * width, y + (0.012 if k % 2 else -0.012), (z[0] + z[1]) / 2)
        item.cylinder(at, (1.35 * width, 0.07, z[1] - z[0]), material)


def picture(style: Style, rng: Rng) -> Item:
    """A painting in a frame."""
    size = rng.uniform(0.35, 0.9, 2)
    item = Item("picture", float(size[0]), 0.04)
    middle, frame = rng.uniform(1.45, 1.65), style.wood() if rng.random() < 0.6 else style.dark()
    border = rng.uniform(0.03, 0.06)
    item.box((0, 0.015, middle), (size[0], 0.03, size[1]), frame)
    item.box((0, 0.033, middle), (size[0] - border, 0.006, size[1] - border), style.painting())
    return item


def whiteboard(style: Style, rng: Rng) -> Item:
    """A white panel with an aluminium edge."""
    width = rng.uniform(1.0, 1.8)
    item = Item("whiteboard", width, 0.04)
    item.box((0, 0.012, 1.5), (width, 0.024, 1.0), style.metal())
    white = style.add("cloudy", (0.95, 0.95, 0.96), (0.85, 0.87, 0.9), 0.5)
    item.box((0, 0.026, 1.5), (width - 0.06, 0.006, 0.94), white)
    return item


def wall_shelf(style: Style, rng: Rng) -> Item:
    """A board on the wall with things on it."""
    width, height = rng.uniform(0.6, 1.2), rng.uniform(1.3, 1.7)
    item = Item("shelves", width, 0.22)
    item.board((-width / 2, width / 2), (0, 0.22), (height - 0.03, height), style.wood())
    on_top(item, style, rng, (-width / 2, width / 2), (0.1, 0.12), height, 4)
    return item


def radiator(style: Style, rng: Rng) -> Item:
    """Ribs between two pipes."""
    width, height = rng.uniform(0.7, 1.3), rng.uniform(0.5, 0.65)
    item, white = Item("otherfurniture", width, 0.12), style.ceramic()
    for at in np.linspace(-width / 2 + 0.03, width / 2 - 0.03, round(width / 0.09)):
        item.box((at, 0.07, 0.12 + height / 2), (0.055, 0.08, height), white)
    for z in (0.18, 0.06 + height):
        item.cylinder((0, 0.07, z), (width, 0.04, 0.04), white, axis="x")
    return item


def kitchen_line(style: Style, rng: Rng) -> Item:
    """Base cabinets under a worktop with a sink and a stove, cabinets on the wall above, objects in between."""
    units = int(rng.integers(3, 6))
    unit, height, front = 0.6, rng.uniform(0.86, 0.92), style.front()
    width = units * unit
    item, metal, stone = Item("cabinet", width, 0.62, front=0.7), style.metal(), style.stone()
    item.board((-width / 2, width / 2), (0, 0.54), (0, 0.1), style.dark())
    edges = np.linspace(-width / 2, width / 2, units + 1)
    stove, sink = rng.choice(units, 2, replace=False)
    for k, left in enumerate(edges[:-1]):
        if k == stove:
            continue
        item.board((left, left + unit), (0, 0.56), (0.1, height - 0.04), front)
        item.board((left + 0.008, left + unit - 0.008), (0.56, 0.58), (0.11, height - 0.05), front)
        item.box((left + unit / 2, 0.59, height - 0.12), (0.2, 0.02, 0.02), metal)
    item.new_object("counter")
    item.board((-width / 2, width / 2), (0, 0.62), (height - 0.04, height), stone)
    item.new_object("otherfurniture")
    _stove(item, style, edges[stove], unit, height)
    item.new_object("sink")
    basin(item, (edges[sink] + unit / 2, 0.34, height), (0.46, 0.38, 0.05), metal)
    item.cylinder((edges[sink] + unit / 2, 0.1, height + 0.13), (0.035, 0.035, 0.26), metal)
    item.box((edges[sink] + unit / 2, 0.18, height + 0.25), (0.03, 0.17, 0.03), metal)
    for k in (k for k in range(units) if k not in (stove, sink)):
        on_top(item, style, rng, (edges[k], edges[k] + unit), (0.2, 0.45), height, int(rng.integers(0, 3)))
    if rng.random() < 0.8:
        low, top, first = 1.42, rng.uniform(2.0, 2.2), int(rng.integers(0, 2))
        item.new_object("cabinet")
        for left in edges[first:-1]:
            item.board((left, left + unit), (0, 0.32), (low, top), front)
            item.board((left + 0.008, left + unit - 0.008), (0.32, 0.338), (low + 0.01, top - 0.01), front)
            item.box((left + unit / 2, 0.35, low + 0.06), (0.16, 0.02, 0.02), metal)
    return item


def _stove(item: Item, style: Style, left: float, width: float, height: float) -> None:
    dark, metal = style.dark(), style.metal()
    item.board((left, left + width), (0, 0.58), (0.1, height - 0.04), metal)
    item.board((left + 0.05, left + width - 0.05), (0.58, 0.6), (0.25, height - 0.22), style.screen())
    item.box((left + width / 2, 0.62, height - 0.18), (width - 0.1, 0.025, 0.025), metal)
    item.board((left + 0.01, left + width - 0.01), (0.03, 0.6), (height, height + 0.012), dark)
    for x in (0.17, 0.43):
        for y in (0.17, 0.44):
            item.cylinder((left + x, y, height + 0.014), (0.18, 0.18, 0.012), metal)
    item.cylinder((left + 0.17, 0.44, height + 0.09), (0.22, 0.22, 0.15), style.paint())


def basin(item: Item, at: Vector, size: Vector, material: int) -> None:
    """Add an open tray of walls and a bottom that stands on ``at``."""
    (x, y, z), (width, depth, height) = at, size
    rim = 0.03
    item.box((x, y, z + 0.006), (width, depth, 0.012), material)
    for side in (-1, 1):
        item.box((x + side * (width - rim) / 2, y, z + height / 2), (rim, depth, height), material)
        item.box((x, y + side * (depth - rim) / 2, z + height / 2), (width, rim, height), material)


def kitchen_island(style: Style, rng: Rng) -> Item:
    """A free-standing counter."""
    width, depth, height = rng.uniform(1.0, 1.5), rng.uniform(0.55, 0.75), rng.uniform(0.88, 0.95)
    item, front = Item("counter", width, depth), style.front()
    item.board((-width / 2 + 0.04, width / 2 - 0.04), (0.04, depth - 0.04), (0, height - 0.04), front)
    item.board((-width / 2, width / 2), (0, depth), (height - 0.04, height), style.stone())
    on_top(item, style, rng, (-width / 2, width / 2), (0.2, depth - 0.2), height, int(rng.integers(1, 4)))
    return item


def refrigerator(style: Style, rng: Rng) -> Item:
    """Two doors with bar handles."""
    width, depth, height = rng.uniform(0.58, 0.75), rng.uniform(0.6, 0.7), rng.uniform(1.6, 1.9)
    item, metal = Item("refrigerator", width, depth, front=0.6), style.metal()
    body = style.ceramic() if rng.random() < 0.5 else style.metal()
    item.board((-width / 2, width / 2), (0, depth - 0.06), (0.03, height), body)
    split = rng.uniform(0.35, 0.65) * height
    for low, high in ((0.05, split - 0.008), (split + 0.008, height)):
        item.board((-width / 2, width / 2), (depth - 0.05, depth), (low, high), body)
        item.box((width / 2 - 0.07, depth + 0.03, (low + high) / 2), (0.025, 0.03, 0.4 * (high - low)), metal)
    return item


def toilet(style: Style, rng: Rng) -> Item:
    """A foot, a bowl with a seat, and a cistern with a button."""
    width, depth = rng.uniform(0.37, 0.42), rng.uniform(0.64, 0.72)
    item, white = Item("toilet", width, depth, front=0.5), style.ceramic()
    item.board((-width / 2, width / 2), (0.0, 0.18), (0.38, 0.8), white)
    item.board((-width / 2 - 0.01, width / 2 + 0.01), (0.0, 0.19), (0.79, 0.82), white)
    item.cylinder((0, 0.1, 0.825), (0.06, 0.06, 0.02), style.metal())
    item.box((0, 0.26, 0.19), (0.22, 0.36, 0.38), white)
    item.ellipsoid((0, depth - 0.25, 0.3), (width - 0.02, 0.5, 0.34), white)
    item.cylinder((0, depth - 0.25, 0.41), (width, 0.5, 0.035), white)
    seat = white if rng.random() < 0.6 else style.wood()
    if rng.random() < 0.5:
        item.cylinder((0, depth - 0.25, 0.44), (width, 0.5, 0.025), seat)
    else:
        item.box((0, 0.22, 0.64), (width - 0.02, 0.04, 0.42), seat, tilt=0.1)
        item.ellipsoid((0, depth - 0.25, 0.425), (width - 0.13, 0.34, 0.03), style.metal())
    return item


def washstand(style: Style, rng: Rng) -> Item:
    """A basin with a tap on a cabinet or a column, a mirror above."""
    width, depth, height = rng.uniform(0.55, 1.0), rng.uniform(0.42, 0.5), rng.uniform(0.8, 0.88)
    white, metal = style.ceramic(), style.metal()
    if rng.random() < 0.6:
        item, front = Item("cabinet", width, depth, front=0.5), style.front()
        item.board((-width / 2, width / 2), (0, depth - 0.02), (0.1, height - 0.03), front)
        for side in (-1, 1):
            item.box((side * width / 4, depth - 0.01, height / 2 + 0.03), (width / 2 - 0.02, 0.02, height - 0.2), front)
            item.box((side * 0.05, depth + 0.01, height / 2 + 0.1), (0.02, 0.02, 0.15), metal)
        item.board((-width / 2, width / 2), (0, depth), (height - 0.03, height), style.stone())
        item.new_object("sink")
        basin(item, (0, depth / 2 + 0.04, height), (min(width - 0.06, 0.55), depth - 0.12, 0.11), white)
    else:
        item = Item("sink", width, depth, front=0.5)
        item.cylinder((0, 0.16, height / 2), (0.18, 0.2, height), white)
        item.ellipsoid((0, depth / 2, height), (0.9 * width, 0.9 * depth, 0.24), white)
        basin(item, (0, depth / 2, height - 0.01), (width, depth, 0.12), white)
    item.cylinder((0, 0.05, height + 0.12), (0.04, 0.04, 0.24), metal)
    item.box((0, 0.11, height + 0.22), (0.03, 0.14, 0.025), metal)
    item.new_object("mirror")
    size = rng.uniform(0.6, 0.9)
    item.box((0, 0.012, 1.5), (0.9 * width, 0.024, size), style.metal())
    item.box((0, 0.026, 1.5), (0.9 * width - 0.05, 0.006, size - 0.05), style.mirror())
    return item


def bathtub(style: Style, rng: Rng) -> Item:
    """A tub with a rim and a tap, often behind a shower curtain."""
    width, depth, height = rng.uniform(1.5, 1.75), rng.uniform(0.7, 0.8), rng.uniform(0.5, 0.6)
    item, white = Item("bathtub", width, depth, front=0.5), style.ceramic()
    rim = 0.09
    item.board((-width / 2, width / 2), (0, depth), (0, 0.14), white)
    for side in (-1, 1):
        item.box((side * (width - rim) / 2, depth / 2, height / 2), (rim, depth, height), white)
        item.box((0, depth / 2 + side * (depth - rim) / 2, height / 2), (width, rim, height), white)
    metal = style.metal()
    item.cylinder((width / 2 - 0.12, 0.05, height + 0.08), (0.05, 0.05, 0.16), metal)
    item.box((width / 2 - 0.12, 0.12, height + 0.14), (0.035, 0.16, 0.03), metal)
    if rng.random() < 0.65:
        item.new_object("shower curtain")
        item.cylinder((0, depth - 0.03, 2.0), (width, 0.03, 0.03), metal, axis="x")
        side, drawn = (-1 if rng.random() < 0.5 else 1), rng.uniform(0.3, 0.6) * width
        folds(item, (side * (width / 2 - drawn), side * width / 2), depth - 0.03, (0.25, 1.98), style.fabric())
    return item


def towel_rail(style: Style, rng: Rng) -> Item:
    """A bar with a towel over it."""
    width = rng.uniform(0.5, 0.7)
    item = Item("towel", width, 0.1)
    item.cylinder((0, 0.07, 1.25), (width, 0.025, 0.025), style.metal(), axis="x")
    item.board((-0.38 * width, 0.3 * width), (0.055, 0.085), (rng.uniform(0.7, 0.9), 1.265), style.fabric())
    return item


def washing_machine(style: Style, rng: Rng) -> Item:
    """A white box with a round door."""
    item, white = Item("otherfurniture", 0.6, 0.6, front=0.5), style.ceramic()
    item.board((-0.3, 0.3), (0, 0.57), (0, 0.85), white)
    item.cylinder((0, 0.58, 0.45), (0.38, 0.05, 0.38), style.metal(), axis="y")
    item.cylinder((0, 0.59, 0.45), (0.28, 0.05, 0.28), style.screen(), axis="y")
    item.board((-0.28, 0.28), (0.57, 0.58), (0.74, 0.83), style.dark())
    on_top(item, style, rng, (-0.3, 0.3), (0.2, 0.4), 0.85, int(rng.integers(0, 3)))
    return item


def rug(style: Style, rng: Rng) -> Item:
    """A thin patterned mat, sometimes round."""
    width, depth = rng.uniform(1.2, 2.2), rng.uniform(0.9, 1.5)
    item = Item("floor mat", width, depth)
    if rng.random() < 0.3:
        item.cylinder((0, depth / 2, 0.006), (depth, depth, 0.012), style.fabric())
    else:
        item.box((0, depth / 2, 0.005), (width, depth, 0.01), style.fabric())
        item.box((0, depth / 2, 0.006), (width - 0.2, depth - 0.2, 0.012), style.fabric())
    return item


def ceiling_lamp(style: Style, rng: Rng, ceiling: float) -> Item:
    """A flat disc at the ceiling, or a globe on a cord."""
    item = Item("lamp", 0.4, 0.4)
    if rng.random() < 0.5:
        item.cylinder((0, 0.2, ceiling - 0.04), (0.4, 0.4, 0.08), style.glow())
    else:
        item.cylinder((0, 0.2, ceiling - 0.2), (0.02, 0.02, 0.4), style.dark())
        item.ellipsoid((0, 0.2, ceiling - 0.42), (0.32, 0.32, 0.24), style.glow())
    return item
