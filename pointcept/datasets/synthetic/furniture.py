"""Movable furniture: seats, tables, beds, storage, and the small things that stand on them."""

import itertools

import numpy as np

from pointcept.datasets.synthetic.item import Interval, Item, Vector
from pointcept.datasets.synthetic.style import Style

Rng = np.random.Generator


def chair(style: Style, rng: Rng) -> Item:
    """Four legs, a seat, and a back of slats or one panel."""
    width, depth = rng.uniform(0.4, 0.5), rng.uniform(0.42, 0.52)
    seat, top = rng.uniform(0.43, 0.48), rng.uniform(0.82, 1.0)
    item = Item("chair", width, depth)
    frame, cushion = style.wood(), style.fabric() if rng.random() < 0.6 else style.wood()
    item.legs(width / 2 - 0.025, (0.03, depth - 0.03), seat, 0.04, frame)
    item.board((-width / 2, width / 2), (0.0, depth), (seat - 0.02, seat + 0.03), cushion)
    if rng.random() < 0.5:
        item.board((-width / 2, width / 2), (0.0, 0.035), (seat + 0.12, top), cushion)
        for side in (-1, 1):
            item.box((side * (width / 2 - 0.025), 0.02, (seat + top) / 2), (0.04, 0.03, top - seat), frame)
    else:
        item.board((-width / 2, width / 2), (0.0, 0.03), (top - 0.08, top), frame)
        for x in np.linspace(-width / 2 + 0.02, width / 2 - 0.02, 5):
            item.box((x, 0.015, (seat + top) / 2), (0.03, 0.025, top - seat), frame)
    return item


def office_chair(style: Style, rng: Rng) -> Item:
    """A five-star foot, a gas spring, a seat with a tilted back, sometimes armrests."""
    size, seat = rng.uniform(0.5, 0.6), rng.uniform(0.44, 0.52)
    item = Item("chair", size, size)
    dark, cloth = style.dark(), style.fabric()
    middle = size / 2
    for angle in np.arange(5) * 2 * np.pi / 5:
        at = (0.13 * np.cos(angle), middle + 0.13 * np.sin(angle), 0.06)
        item.box(at, (0.26, 0.04, 0.04), dark, yaw=angle)
    item.cylinder((0, middle, seat / 2), (0.06, 0.06, seat), dark)
    item.box((0, middle, seat), (size - 0.08, size - 0.08, 0.08), cloth)
    item.box((0, 0.07, seat + 0.38), (size - 0.1, 0.06, rng.uniform(0.45, 0.62)), cloth, tilt=0.12)
    if rng.random() < 0.6:
        for side in (-1, 1):
            item.box((side * (size / 2 - 0.03), middle, seat + 0.22), (0.05, 0.28, 0.03), dark)
            item.box((side * (size / 2 - 0.03), middle, seat + 0.11), (0.03, 0.05, 0.2), dark)
    return item


def sofa(style: Style, rng: Rng) -> Item:
    """A base with a back, two arms, seat cushions and throw pillows."""
    return _upholstered(style, rng, "sofa", rng.uniform(1.5, 2.3))


def armchair(style: Style, rng: Rng) -> Item:
    """A sofa for one."""
    return _upholstered(style, rng, "chair", rng.uniform(0.75, 0.95))


def _upholstered(style: Style, rng: Rng, label: str, width: float) -> Item:
    depth, seat, top = rng.uniform(0.8, 0.95), rng.uniform(0.4, 0.46), rng.uniform(0.75, 0.95)
    arm, arm_height = rng.uniform(0.12, 0.22), rng.uniform(0.55, 0.68)
    item = Item(label, width, depth, front=0.45)
    cloth, cushion = style.fabric(), style.fabric()
    cushion = cloth if rng.random() < 0.5 else cushion
    item.board((-width / 2, width / 2), (0.0, depth), (0.08, 0.28), cloth)
    item.legs(width / 2 - 0.06, (0.06, depth - 0.06), 0.08, 0.05, style.wood())
    item.board((-width / 2, width / 2), (0.0, 0.2), (0.28, top), cloth)
    is_round = rng.random() < 0.4
    for side in (-1, 1):
        x = side * (width - arm) / 2
        item.box((x, depth / 2, arm_height / 2 + 0.04), (arm, depth, arm_height - 0.08), cloth)
        if is_round:
            item.cylinder((x, depth / 2, arm_height), (arm, depth, arm), cloth, axis="y")
    inner, count = width - 2 * arm, 1 if width < 1.2 else int(rng.integers(2, 4))
    for k in range(count):
        x = -inner / 2 + (k + 0.5) * inner / count
        item.box(
            (x, 0.2 + (depth - 0.2) / 2, (0.28 + seat) / 2), (inner / count - 0.015, depth - 0.2, seat - 0.28), cushion
        )
        item.box((x, 0.26, seat + 0.2), (inner / count - 0.02, 0.12, 0.38), cushion, tilt=0.15)
    for _ in range(int(rng.integers(0, 3)) if width > 1.2 else 0):
        item.new_object("pillow")
        x = rng.uniform(-inner / 2 + 0.2, inner / 2 - 0.2)
        item.box((x, 0.42, seat + 0.18), (0.4, 0.12, 0.36), style.fabric(), tilt=0.35, yaw=rng.uniform(-0.3, 0.3))
    return item


def table(style: Style, rng: Rng) -> Item:
    """A dining table: rectangular on four legs, or round on a column."""
    height, wood = rng.uniform(0.71, 0.78), style.wood()
    if rng.random() < 0.35:
        size = rng.uniform(0.8, 1.25)
        item = Item("table", size, size)
        item.cylinder((0, size / 2, height - 0.02), (size, size, 0.04), wood)
        item.cylinder((0, size / 2, height / 2), (0.1, 0.1, height - 0.04), wood)
        item.cylinder((0, size / 2, 0.02), (0.5 * size, 0.5 * size, 0.04), wood)
        on_top(item, style, rng, (-0.25 * size, 0.25 * size), (0.3 * size, 0.7 * size), height, int(rng.integers(0, 3)))
        return item
    width, depth = rng.uniform(1.1, 1.9), rng.uniform(0.75, 0.95)
    item = Item("table", width, depth)
    item.board((-width / 2, width / 2), (0, depth), (height - 0.04, height), wood)
    item.board((-width / 2 + 0.08, width / 2 - 0.08), (0.08, depth - 0.08), (height - 0.11, height - 0.04), wood)
    item.legs(width / 2 - 0.06, (0.06, depth - 0.06), height - 0.04, rng.uniform(0.05, 0.09), wood)
    on_top(item, style, rng, (-width / 2, width / 2), (0.1, depth - 0.1), height, int(rng.integers(0, 4)))
    return item


def coffee_table(style: Style, rng: Rng) -> Item:
    """A low table with a shelf."""
    width, depth, height = rng.uniform(0.8, 1.2), rng.uniform(0.5, 0.65), rng.uniform(0.38, 0.48)
    item, wood = Item("table", width, depth), style.wood()
    item.board((-width / 2, width / 2), (0, depth), (height - 0.04, height), wood)
    item.board((-width / 2 + 0.04, width / 2 - 0.04), (0.04, depth - 0.04), (0.12, 0.14), wood)
    item.legs(width / 2 - 0.04, (0.04, depth - 0.04), height - 0.04, 0.05, wood)
    on_top(item, style, rng, (-width / 2, width / 2), (0.1, depth - 0.1), height, int(rng.integers(1, 4)))
    return item


def desk(style: Style, rng: Rng) -> Item:
    """A top on side panels with drawers; a monitor, a keyboard and small things on it."""
    width, depth, height = rng.uniform(1.1, 1.7), rng.uniform(0.6, 0.75), rng.uniform(0.72, 0.77)
    item, wood, front = Item("desk", width, depth, front=0.7), style.wood(), style.front()
    item.board((-width / 2, width / 2), (0, depth), (height - 0.035, height), wood)
    item.board((-width / 2, -width / 2 + 0.03), (0, depth), (0, height), wood)
    item.board((width / 2 - 0.03, width / 2), (0, depth), (0, height), wood)
    item.board((-width / 2, width / 2), (0.02, 0.04), (height * 0.5, height), wood)
    if rng.random() < 0.7:
        item.board((width / 2 - 0.42, width / 2 - 0.03), (0.02, depth - 0.04), (0.05, height - 0.035), wood)
        _drawers(
            item, (width / 2 - 0.42, width / 2 - 0.03), depth - 0.04, (0.05, height - 0.035), 3, front, style.metal()
        )
    if rng.random() < 0.75:
        item.new_object("television")
        screen = rng.uniform(0.45, 0.65)
        at = rng.uniform(-0.2, 0.1) * width
        dark = style.dark()
        item.cylinder((at, 0.2, height + 0.01), (0.24, 0.18, 0.02), dark)
        item.box((at, 0.17, height + 0.12), (0.05, 0.03, 0.22), dark)
        item.box((at, 0.19, height + 0.1 + 0.3 * screen), (screen, 0.03, 0.6 * screen), dark)
        item.box((at, 0.207, height + 0.1 + 0.3 * screen), (screen - 0.03, 0.006, 0.6 * screen - 0.03), style.screen())
        item.new_object("otherprop")
        item.box((at, 0.45, height + 0.012), (0.42, 0.14, 0.024), style.dark())
        on_top(item, style, rng, (at + 0.35, width / 2 - 0.05), (0.1, depth - 0.1), height, 1)
    else:
        on_top(item, style, rng, (-width / 2, width / 2), (0.1, depth - 0.1), height, 3)
    return item


def bed(style: Style, rng: Rng) -> Item:
    """A frame with a mattress, a blanket, a headboard and pillows."""
    width, depth, top = rng.uniform(0.95, 1.75), rng.uniform(1.95, 2.15), rng.uniform(0.42, 0.58)
    item, wood = Item("bed", width, depth, front=0.35), style.wood()
    item.board((-width / 2, width / 2), (0, 0.06), (0, rng.uniform(0.8, 1.2)), wood)
    item.board((-width / 2, width / 2), (0.06, depth), (0.12, 0.3), wood)
    item.legs(width / 2 - 0.05, (0.1, depth - 0.05), 0.12, 0.07, wood)
    item.board((-width / 2 + 0.02, width / 2 - 0.02), (0.07, depth - 0.02), (0.3, top), style.white_fabric())
    blanket = rng.uniform(0.65, 0.85) * depth
    item.board(
        (-width / 2 - 0.02, width / 2 + 0.02), (depth - blanket, depth + 0.02), (0.27, top + 0.04), style.fabric()
    )
    if rng.random() < 0.5:
        item.board(
            (-width / 2 - 0.025, width / 2 + 0.025), (depth - 0.6, depth - 0.15), (0.33, top + 0.055), style.fabric()
        )
    for x in (0.0,) if width < 1.2 else (-width / 4, width / 4):
        item.new_object("pillow")
        linen = style.white_fabric() if rng.random() < 0.5 else style.fabric()
        size = (min(0.62, 0.8 * width), 0.42, 0.17)
        item.ellipsoid((x, 0.34, top + 0.07), size, linen)
        item.box((x, 0.34, top + 0.055), (0.85 * size[0], 0.34, 0.09), linen)
    return item


def nightstand(style: Style, rng: Rng) -> Item:
    """A small chest, usually with a lamp."""
    width, depth, height = rng.uniform(0.4, 0.5), rng.uniform(0.35, 0.42), rng.uniform(0.45, 0.6)
    item = Item("night stand", width, depth)
    item.board((-width / 2, width / 2), (0, depth), (0.04, height), style.wood())
    _drawers(item, (-width / 2, width / 2), depth, (0.04, height), 2, style.front(), style.metal())
    if rng.random() < 0.7:
        table_lamp(item, style, rng, (0.0, depth / 2, height))
    else:
        on_top(item, style, rng, (-width / 2, width / 2), (0.1, depth - 0.1), height, 1)
    return item


def dresser(style: Style, rng: Rng) -> Item:
    """A chest of drawers."""
    width, depth, height = rng.uniform(0.8, 1.3), rng.uniform(0.42, 0.5), rng.uniform(0.75, 1.1)
    item = Item("cabinet", width, depth, front=0.4)
    item.board((-width / 2, width / 2), (0, depth), (0.05, height), style.wood())
    front, metal, rows = style.front(), style.metal(), int(rng.integers(3, 5))
    for x in ((-width / 2, 0.0), (0.0, width / 2)):
        _drawers(item, x, depth, (0.05, height), rows, front, metal)
    on_top(item, style, rng, (-width / 2, width / 2), (0.08, depth - 0.08), height, int(rng.integers(0, 4)))
    return item


def wardrobe(style: Style, rng: Rng) -> Item:
    """A tall cabinet with two or three doors."""
    width, depth, height = rng.uniform(0.9, 1.8), rng.uniform(0.55, 0.62), rng.uniform(1.9, 2.2)
    item = Item("cabinet", width, depth, front=0.45)
    item.board((-width / 2, width / 2), (0, depth - 0.02), (0, height), style.wood())
    front, metal = style.front(), style.metal()
    edges = np.linspace(-width / 2, width / 2, 3 if width < 1.3 else 4)
    for left, right in itertools.pairwise(edges):
        item.board((left + 0.008, right - 0.008), (depth - 0.02, depth), (0.08, height - 0.02), front)
        item.box((right - 0.06, depth + 0.012, 1.05), (0.02, 0.025, 0.22), metal)
    return item


def bookshelf(style: Style, rng: Rng) -> Item:
    """Open shelves, partly filled with rows of books."""
    width, depth, height = rng.uniform(0.7, 1.2), rng.uniform(0.28, 0.36), rng.uniform(1.2, 2.1)
    item, wood = Item("bookshelf", width, depth, front=0.4), style.wood()
    for side in (-1, 1):
        item.box((side * (width / 2 - 0.015), depth / 2, height / 2), (0.03, depth, height), wood)
    item.board((-width / 2, width / 2), (0, 0.015), (0, height), wood)
    levels = np.linspace(0.05, height - 0.015, int(height / 0.36) + 1)
    colors = [style.paint() for _ in range(6)]
    for k, level in enumerate(levels):
        item.board((-width / 2, width / 2), (0, depth), (level - 0.015, level + 0.015), wood)
        if k == len(levels) - 1:
            continue
        gap = levels[k + 1] - level - 0.05
        x, end = -width / 2 + 0.04, width / 2 - 0.04 - rng.uniform(0, 0.5) * width
        while x < end:
            book_width, book_height = rng.uniform(0.04, 0.1), gap * rng.uniform(0.65, 0.95)
            book_depth = rng.uniform(0.16, 0.24)
            color = colors[int(rng.integers(len(colors)))]
            item.box(
                (x + book_width / 2, 0.02 + book_depth / 2, level + 0.015 + book_height / 2),
                (book_width, book_depth, book_height),
                color,
            )
            x += book_width + (0.004 if rng.random() < 0.85 else 0.12)
    return item


def tv_stand(style: Style, rng: Rng) -> Item:
    """A low cabinet with a television on it."""
    width, depth, height = rng.uniform(1.1, 1.7), rng.uniform(0.38, 0.45), rng.uniform(0.42, 0.55)
    item, front, metal = Item("cabinet", width, depth, front=0.6), style.front(), style.metal()
    item.board((-width / 2, width / 2), (0, depth), (0.06, height), style.wood())
    for left in (-width / 2, -width / 6, width / 6):
        _drawers(item, (left, left + width / 3), depth, (0.06, height), 2, front, metal)
    item.new_object("television")
    screen, dark = rng.uniform(0.9, 1.0) * min(width, 1.3), style.dark()
    item.box((0, 0.2, height + 0.03), (0.4, 0.2, 0.06), dark)
    item.box((0, 0.2, height + 0.06 + 0.28 * screen), (screen, 0.05, 0.56 * screen), dark)
    item.box((0, 0.228, height + 0.06 + 0.28 * screen), (screen - 0.04, 0.008, 0.56 * screen - 0.04), style.screen())
    return item


def floor_lamp(style: Style, rng: Rng) -> Item:
    """A foot, a pole and a shade."""
    height, shade = rng.uniform(1.4, 1.7), rng.uniform(0.3, 0.42)
    item, metal = Item("lamp", shade, shade), style.metal()
    item.cylinder((0, shade / 2, 0.015), (0.28, 0.28, 0.03), metal)
    item.cylinder((0, shade / 2, height / 2), (0.035, 0.035, height), metal)
    item.cylinder((0, shade / 2, height), (shade, shade, 0.28), style.glow())
    return item


def plant(style: Style, rng: Rng) -> Item:
    """A pot with a bush of leaves."""
    size, pot = rng.uniform(0.4, 0.6), rng.uniform(0.28, 0.4)
    item = Item("otherfurniture", size, size)
    item.cylinder((0, size / 2, pot / 2), (0.6 * size, 0.6 * size, pot), style.paint())
    item.cylinder((0, size / 2, pot + 0.15), (0.05, 0.05, 0.5), style.wood())
    leaf = style.leaf()
    for _ in range(int(rng.integers(5, 9))):
        extent = rng.uniform(0.18, 0.3)
        at = (rng.uniform(-0.5, 0.5) * (size - extent), size / 2 + rng.uniform(-0.5, 0.5) * (size - extent))
        item.ellipsoid((*at, pot + rng.uniform(0.15, 0.7)), (extent, extent, 1.3 * extent), leaf)
    return item


def trash_can(style: Style, rng: Rng) -> Item:
    """A cylinder with a rim."""
    size, height = rng.uniform(0.24, 0.34), rng.uniform(0.3, 0.6)
    item = Item("otherfurniture", size, size)
    item.cylinder((0, size / 2, height / 2), (size - 0.03, size - 0.03, height), style.paint())
    item.cylinder((0, size / 2, height - 0.02), (size, size, 0.05), style.dark())
    return item


def ottoman(style: Style, rng: Rng) -> Item:
    """A padded stool, round or square."""
    size, height, cloth = rng.uniform(0.4, 0.6), rng.uniform(0.36, 0.45), style.fabric()
    item = Item("otherfurniture", size, size)
    if rng.random() < 0.5:
        item.cylinder((0, size / 2, height / 2), (size, size, height), cloth)
        item.ellipsoid((0, size / 2, height), (size, size, 0.1), cloth)
    else:
        item.box((0, size / 2, height / 2 + 0.04), (size, size, height - 0.08), cloth)
        item.legs(size / 2 - 0.04, (0.04, size - 0.04), 0.08, 0.05, style.wood())
    return item


def cardboard(style: Style, rng: Rng) -> Item:
    """A closed carton, or two on top of each other."""
    width, depth, height = rng.uniform(0.35, 0.55), rng.uniform(0.3, 0.45), rng.uniform(0.25, 0.4)
    item, brown = Item("box", width, depth), style.add("cloudy", (0.72, 0.55, 0.36), (0.62, 0.46, 0.3), 0.2)
    item.box((0, depth / 2, height / 2), (width, depth, height), brown)
    item.box((0, depth / 2, height + 0.002), (width, 0.05, 0.004), style.add("plain", (0.85, 0.76, 0.55)))
    if rng.random() < 0.4:
        item.new_object("box")
        item.box(
            (0, depth / 2, 1.4 * height), (0.75 * width, 0.75 * depth, 0.8 * height), brown, yaw=rng.uniform(-0.2, 0.2)
        )
    return item


def table_lamp(item: Item, style: Style, rng: Rng, at: Vector) -> None:
    """Add a small lamp that stands on ``at``."""
    x, y, z = at
    item.new_object("lamp")
    height, foot = rng.uniform(0.2, 0.3), style.paint()
    item.ellipsoid((x, y, z + height / 2), (0.13, 0.13, height), foot)
    item.cylinder((x, y, z + height + 0.07), (0.24, 0.24, 0.18), style.glow())


def on_top(
    item: Item,
    style: Style,
    rng: Rng,
    x: Interval,
    y: Interval,
    z: float,
    count: int,
) -> None:
    """Add ``count`` small things side by side on a surface at height ``z``; fewer where they do not fit."""
    count = max(0, min(count, int((x[1] - x[0]) / 0.28)))
    edges = np.linspace(*x, count + 1)
    for left, right in itertools.pairwise(edges):
        at = ((left + right) / 2, rng.uniform(*y))
        kind = rng.integers(5)
        if kind == 0:
            table_lamp(item, style, rng, (at[0], (y[0] + y[1]) / 2, z))
        elif kind == 1:
            item.new_object("books")
            for k in range(int(rng.integers(1, 5))):
                item.box((*at, z + 0.02 + 0.04 * k), (0.22, 0.16, 0.038), style.paint(), yaw=rng.uniform(-0.4, 0.4))
        elif kind == 2:
            item.new_object("otherprop")
            vase, leaf, height = style.paint(), style.leaf(), rng.uniform(0.14, 0.24)
            item.cylinder((*at, z + height / 2), (0.1, 0.1, height), vase)
            item.ellipsoid((*at, z + height + 0.09), (0.2, 0.2, 0.22), leaf)
        elif kind == 3:
            item.new_object("otherprop")
            item.cylinder((*at, z + 0.02), (0.12, 0.12, 0.04), style.ceramic())
            item.ellipsoid((*at, z + 0.07), (0.22, 0.22, 0.1), style.paint())
        else:
            item.new_object("box")
            size = rng.uniform(0.1, 0.22, 3)
            item.box((*at, z + size[2] / 2), tuple(size), style.paint(), yaw=rng.uniform(-0.5, 0.5))


def _drawers(item: Item, x: Interval, y: float, z: Interval, rows: int, front: int, metal: int) -> None:
    """Fronts with handles on a body that ends at ``y``."""
    edges = np.linspace(*z, rows + 1)
    for low, high in itertools.pairwise(edges):
        item.board((x[0] + 0.012, x[1] - 0.012), (y - 0.005, y + 0.012), (low + 0.01, high - 0.01), front)
        item.box(((x[0] + x[1]) / 2, y + 0.025, (low + high) / 2), (0.12, 0.025, 0.02), metal)
