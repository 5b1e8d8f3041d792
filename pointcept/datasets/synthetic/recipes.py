"""What each kind of room contains, from its shell to the last chair."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from pointcept.datasets.synthetic import fixtures, furniture
from pointcept.datasets.synthetic.item import Item
from pointcept.datasets.synthetic.layout import Layout, Placed
from pointcept.datasets.synthetic.primitives import Primitives
from pointcept.datasets.synthetic.shading import Lights, exposed
from pointcept.datasets.synthetic.style import Style
from pointcept.datasets.synthetic.textures import Material

Builder = Callable[[Style, np.random.Generator], Item]


@dataclasses.dataclass(frozen=True)
class FurnishedRoom:
    """A room before anything looks at it.

    Attributes:
        kind: One of ``ROOM_KINDS``.
        size: The room spans from the world's origin to here, metres.
        primitives: Shell and furniture.
        materials: What the primitives' materials refer to.
        lights: What lights the room.
        obstacles: Least and greatest coordinates of each item and block.
    """

    kind: str
    size: Float[np.ndarray, "3"]
    primitives: Primitives
    materials: list[Material]
    lights: Lights
    obstacles: Float[np.ndarray, "K 2 3"]


@dataclasses.dataclass(frozen=True)
class _Recipe:
    """Range of sizes of a kind of room, and its furniture as (builder, least and greatest number), largest first."""

    width: tuple[float, float]
    depth: tuple[float, float]
    at_wall: tuple[tuple[Builder, int, int], ...]
    free_standing: tuple[tuple[Builder, int, int], ...]
    is_wet: bool = False


_RECIPES = {
    "living room": _Recipe(
        (3.8, 6.0),
        (3.4, 5.2),
        (
            (fixtures.door, 1, 2),
            (fixtures.window, 1, 2),
            (furniture.sofa, 1, 2),
            (furniture.tv_stand, 0, 1),
            (furniture.bookshelf, 0, 2),
            (furniture.dresser, 0, 1),
            (furniture.armchair, 0, 2),
            (furniture.plant, 0, 1),
            (furniture.floor_lamp, 0, 1),
            (fixtures.radiator, 0, 1),
            (furniture.cardboard, 0, 1),
            (fixtures.picture, 1, 4),
            (fixtures.wall_shelf, 0, 1),
        ),
        ((furniture.table, 0, 1), (furniture.ottoman, 0, 1)),
    ),
    "bedroom": _Recipe(
        (3.0, 4.6),
        (3.0, 4.4),
        (
            (fixtures.door, 1, 1),
            (furniture.bed, 1, 1),
            (fixtures.window, 1, 1),
            (furniture.wardrobe, 0, 1),
            (furniture.desk, 0, 1),
            (furniture.dresser, 0, 1),
            (furniture.bookshelf, 0, 1),
            (furniture.armchair, 0, 1),
            (furniture.floor_lamp, 0, 1),
            (fixtures.radiator, 0, 1),
            (furniture.cardboard, 0, 2),
            (fixtures.picture, 1, 3),
            (fixtures.wall_shelf, 0, 1),
        ),
        ((furniture.ottoman, 0, 1),),
    ),
    "kitchen": _Recipe(
        (3.0, 4.8),
        (2.8, 4.2),
        (
            (fixtures.door, 1, 1),
            (fixtures.kitchen_line, 1, 1),
            (fixtures.refrigerator, 1, 1),
            (fixtures.window, 1, 1),
            (fixtures.kitchen_line, 0, 1),
            (furniture.dresser, 0, 1),
            (furniture.trash_can, 1, 1),
            (fixtures.picture, 0, 2),
            (fixtures.wall_shelf, 0, 1),
            (furniture.plant, 0, 1),
        ),
        ((furniture.table, 1, 1), (fixtures.kitchen_island, 0, 1)),
        is_wet=True,
    ),
    "bathroom": _Recipe(
        (2.3, 3.6),
        (2.2, 3.2),
        (
            (fixtures.bathtub, 1, 1),
            (fixtures.door, 1, 1),
            (fixtures.toilet, 1, 1),
            (fixtures.washstand, 1, 1),
            (fixtures.window, 0, 1),
            (fixtures.washing_machine, 0, 1),
            (fixtures.towel_rail, 0, 2),
            (fixtures.radiator, 0, 1),
            (furniture.trash_can, 0, 1),
            (fixtures.picture, 0, 1),
            (fixtures.wall_shelf, 0, 1),
        ),
        ((furniture.ottoman, 0, 1),),
        is_wet=True,
    ),
    "office": _Recipe(
        (3.2, 5.6),
        (3.0, 4.8),
        (
            (fixtures.door, 1, 1),
            (fixtures.window, 1, 2),
            (furniture.desk, 1, 3),
            (furniture.bookshelf, 1, 2),
            (furniture.sofa, 0, 1),
            (furniture.wardrobe, 0, 1),
            (fixtures.whiteboard, 0, 1),
            (furniture.plant, 0, 2),
            (fixtures.radiator, 0, 1),
            (furniture.trash_can, 1, 1),
            (furniture.cardboard, 0, 2),
            (fixtures.picture, 0, 3),
        ),
        ((furniture.table, 0, 1),),
    ),
}

ROOM_KINDS: tuple[str, ...] = tuple(_RECIPES)


def furnish(kind: str, rng: np.random.Generator) -> FurnishedRoom:
    """A room of this kind with everything in it.

    Args:
        kind: One of ``ROOM_KINDS``.
        rng: Source of all choices.
    """
    recipe = _RECIPES[kind]
    size = (rng.uniform(*recipe.width), rng.uniform(*recipe.depth), rng.uniform(2.4, 3.0))
    style, layout = Style(rng), Layout(size, rng)
    walls = [style.wall(recipe.is_wet)] * 4
    if rng.random() < 0.35:
        walls[int(rng.integers(4))] = style.wall(recipe.is_wet)
    shell = (walls, style.floor(recipe.is_wet), style.add("plain", (0.93, 0.93, 0.92)), style.front())
    _add_blocks(layout, rng)
    _hang_lamps(layout, style, rng)
    windows = []
    for builder, least, most in recipe.at_wall:
        for _ in range(int(rng.integers(least, most + 1))):
            placed = layout.at_wall(builder(style, rng))
            if placed is None:
                continue
            if builder is fixtures.window:
                windows.append(placed)
            _accompany(builder, placed, layout, style, rng)
    for builder, least, most in recipe.free_standing:
        for _ in range(int(rng.integers(least, most + 1))):
            placed = layout.free_standing(builder(style, rng))
            if placed is not None:
                _accompany(builder, placed, layout, style, rng)
    if rng.random() < 0.6:
        layout.free_standing(fixtures.rug(style, rng), is_solid=False)
    lights = _lights(layout, windows, rng)
    return FurnishedRoom(kind, layout.size, layout.primitives(*shell), style.materials, lights, layout.obstacles())


def _add_blocks(layout: Layout, rng: np.random.Generator) -> None:
    """Make some rooms L-shaped, and give others a partition."""
    width, depth, height = layout.size
    kind = rng.random()
    if min(width, depth) < 2.9 or kind > 0.5:
        return
    if kind < 0.28:
        extent = np.array([width, depth]) * rng.uniform(0.22, 0.4, 2)
        low = np.where(rng.random(2) < 0.5, 0.0, (width, depth) - extent)
        layout.add_block(tuple(low), tuple(low + extent), height)
        return
    length, at = rng.uniform(0.28, 0.42) * depth, rng.uniform(0.35, 0.6) * width
    start = 0.0 if rng.random() < 0.5 else depth - length
    top = height if rng.random() < 0.6 else rng.uniform(1.0, 1.3)
    layout.add_block((at, start), (at + 0.12, start + length), top)


def _hang_lamps(layout: Layout, style: Style, rng: np.random.Generator) -> None:
    width, depth, height = layout.size
    shares = (0.3, 0.7) if width > 4.2 else (0.5,)
    for share in shares:
        layout.at(fixtures.ceiling_lamp(style, rng, height), share * width, 0.5 * depth - 0.2)


def _accompany(builder: Builder, placed: Placed, layout: Layout, style: Style, rng: np.random.Generator) -> None:
    """Place what goes with an item: chairs at tables, night stands at beds, a low table before a sofa."""
    item = placed.item
    if builder is furniture.bed:
        for side in (-1, 1):
            stand = furniture.nightstand(style, rng)
            if rng.random() < 0.8:
                layout.relative(stand, placed, side * (item.width + stand.width + 0.12) / 2, 0.0)
    elif builder is furniture.sofa and rng.random() < 0.85:
        low = furniture.coffee_table(style, rng)
        layout.relative(low, placed, 0.0, item.depth + rng.uniform(0.3, 0.45), may_touch=True)
    elif builder is furniture.desk:
        seat = (furniture.office_chair if rng.random() < 0.7 else furniture.chair)(style, rng)
        back = item.depth + seat.depth - rng.uniform(-0.1, 0.25)
        layout.relative(seat, placed, rng.uniform(-0.2, 0.1), back, turn=np.pi + rng.normal(0, 0.3), may_touch=True)
    elif builder is furniture.table:
        _chairs_around(placed, layout, style, rng)


def _chairs_around(placed: Placed, layout: Layout, style: Style, rng: np.random.Generator) -> None:
    """Alike chairs on all sides of a table, some pulled out, some left out."""
    item = placed.item
    count = max(1, int(item.width / 0.6))
    along = (np.arange(count) + 0.5) / count * item.width - item.width / 2
    middle = item.depth / 2
    prototype = furniture.chair(style, rng)
    reach = prototype.depth - rng.uniform(0.12, 0.22)
    spots = [(x, item.depth + reach, np.pi) for x in along] + [(x, -reach, 0.0) for x in along]
    spots += [(-item.width / 2 - reach, middle, -np.pi / 2), (item.width / 2 + reach, middle, np.pi / 2)]
    for x, y, turn in spots:
        if rng.random() < 0.8:
            pulled = rng.uniform(0.0, 0.12)
            x, y = x + pulled * np.sin(turn), y - pulled * np.cos(turn)
            layout.relative(prototype, placed, x, y, turn=turn + rng.normal(0, 0.12), may_touch=True)


def _lights(layout: Layout, windows: list[Placed], rng: np.random.Generator) -> Lights:
    """The ceiling lamps, which give most light, and the windows."""
    width, depth, height = layout.size
    shares = (0.3, 0.7) if width > 4.2 else (0.5,)
    warmth = rng.uniform(0.0, 0.25)
    warm, cool = np.array([1.0, 1.0 - 0.4 * warmth, 1.0 - warmth]), np.array([0.88, 0.95, 1.0])
    position = [(share * width, 0.5 * depth, height - 0.35) for share in shares]
    color = [warm * rng.uniform(0.5, 0.9) / len(shares) for _ in shares]
    for placed in windows:
        position.append(tuple(placed.origin + placed.rotation @ np.array([0.0, 0.5, 1.5])))
        color.append(cool * rng.uniform(0.15, 0.4))
    return exposed(Lights(np.array(position), np.array(color), float(rng.uniform(0.42, 0.6))), layout.size)
