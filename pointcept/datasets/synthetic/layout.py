"""Where things stand: placing items in a room without overlap, against walls and next to each other."""

import dataclasses

import numpy as np
from jaxtyping import Float

from pointcept.datasets.synthetic.item import NYU40, Item
from pointcept.datasets.synthetic.primitives import BOX, Primitives

_TRIES = 40
_TOLERANCE = 0.015
_WALL_THICKNESS = 0.2


@dataclasses.dataclass(frozen=True)
class Placed:
    """An item that found its place.

    Attributes:
        item: The item.
        rotation: world_from_item.
        origin: The item's origin, world frame, metres.
        box: Least and greatest world coordinates of its parts.
        free: The same for the space that it needs in front of it; empty when it needs none.
    """

    item: Item
    rotation: Float[np.ndarray, "3 3"]
    origin: Float[np.ndarray, "3"]
    box: Float[np.ndarray, "2 3"]
    free: Float[np.ndarray, "2 3"]


@dataclasses.dataclass(frozen=True)
class _WallFace:
    """A stretch of upright wall: items stand along it, facing ``inward``."""

    start: Float[np.ndarray, "2"]
    along: Float[np.ndarray, "2"]
    length: float
    inward: Float[np.ndarray, "2"]


class Layout:
    """A room that spans ``size`` from the world's origin, and what was placed in it.

    Args:
        size: Extent along x, y and z, metres.
        rng: Source of all choices.
    """

    def __init__(self, size: tuple[float, float, float], rng: np.random.Generator) -> None:
        self.size = np.array(size)
        self.placed: list[Placed] = []
        self.blocks: list[np.ndarray] = []
        self._rng = rng
        width, depth, _ = size
        self._faces = [
            _WallFace(np.array([0.0, 0.0]), np.array([1.0, 0.0]), width, np.array([0.0, 1.0])),
            _WallFace(np.array([0.0, depth]), np.array([1.0, 0.0]), width, np.array([0.0, -1.0])),
            _WallFace(np.array([0.0, 0.0]), np.array([0.0, 1.0]), depth, np.array([1.0, 0.0])),
            _WallFace(np.array([width, 0.0]), np.array([0.0, 1.0]), depth, np.array([-1.0, 0.0])),
        ]

    def add_block(self, low: tuple[float, float], high: tuple[float, float], height: float) -> None:
        """Fill a rectangle of the plan with wall; its faces that look into the room take furniture too.

        A block in a corner makes the room L-shaped; a thin one that starts at a wall is a partition.
        """
        self.blocks.append(np.array([[*low, 0.0], [*high, height]]))
        if height < self.size[2] - 0.01:
            return
        low_xy, high_xy = np.array(low), np.array(high)
        for axis in (0, 1):
            along = np.eye(2)[1 - axis]
            length = float((high_xy - low_xy)[1 - axis])
            for at, sign in ((low_xy, -1.0), (high_xy, 1.0)):
                is_inside_room = 0.01 < at[axis] < self.size[axis] - 0.01
                if is_inside_room and length > 0.5:
                    start = np.where(np.eye(2)[axis] == 1, at, low_xy)
                    self._faces.append(_WallFace(start, along, length, sign * np.eye(2)[axis]))

    def at_wall(self, item: Item) -> Placed | None:
        """Stand an item with its back at a wall where it fits; None when no place was found."""
        for _ in range(_TRIES):
            face = self._faces[int(self._rng.integers(len(self._faces)))]
            room = face.length - item.width - 0.1
            if room < 0:
                continue
            at = face.start + face.along * (0.05 + item.width / 2 + room * self._rng.random())
            yaw = np.arctan2(face.inward[1], face.inward[0]) - np.pi / 2
            placed = self._try(item, yaw, (at[0], at[1], 0.0))
            if placed is not None:
                return placed
        return None

    def free_standing(self, item: Item, margin: float = 0.35, *, is_solid: bool = True) -> Placed | None:
        """Stand an item away from everything by ``margin``; None when no place was found.

        What is not solid (a rug) may be overlapped by others.
        """
        for _ in range(_TRIES):
            yaw = int(self._rng.integers(4)) * np.pi / 2 + self._rng.normal(0.0, 0.06)
            x, y = (self._rng.uniform(0.3, extent - 0.3) for extent in self.size[:2])
            placed = self._try(item, yaw, (x, y, 0.0), margin=margin, is_solid=is_solid)
            if placed is not None:
                return placed
        return None

    def at(self, item: Item, x: float, y: float) -> Placed | None:
        """Stand an item with its origin at a point of the plan, unless something is there."""
        return self._try(item, 0.0, (x, y, 0.0))

    def relative(
        self, item: Item, anchor: Placed, x: float, y: float, *, turn: float = 0.0, may_touch: bool = False
    ) -> Placed | None:
        """Stand an item at (x, y) of the frame of an item that stands already, turned by ``turn`` radians.

        With ``may_touch`` it may reach under its anchor and into the space in front of it.
        """
        origin = anchor.origin + anchor.rotation @ np.array([x, y, 0.0])
        yaw = np.arctan2(anchor.rotation[1, 0], anchor.rotation[0, 0]) + turn
        return self._try(item, yaw, tuple(origin), ignored=anchor if may_touch else None)

    def _try(
        self,
        item: Item,
        yaw: float,
        origin: tuple[float, float, float],
        *,
        margin: float = 0.0,
        is_solid: bool = True,
        ignored: Placed | None = None,
    ) -> Placed | None:
        cos, sin = np.cos(yaw), np.sin(yaw)
        rotation = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
        box = _moved(item.bounds(), rotation, np.array(origin))
        free = np.zeros((2, 3))
        if item.front > 0:
            half = item.width / 2 - 0.02
            ahead = np.array([[-half, item.depth, 0.05], [half, item.depth + item.front, 2.0]])
            free = _moved(ahead, rotation, np.array(origin))
        if (box[0] < -_TOLERANCE).any() or (np.maximum(box[1], free[1]) > self.size + _TOLERANCE).any():
            return None
        if item.front > 0 and (free[0] < 0).any():
            return None
        if is_solid:
            grown = box + np.array([[-margin, -margin, 0.0], [margin, margin, 0.0]])
            others = [placed for placed in self.placed if placed is not ignored]
            bodies = [*self.blocks, *(placed.box for placed in others)]
            if any(_overlap(grown, other) for other in bodies) or any(_overlap(free, other) for other in bodies):
                return None
            if any(_overlap(box, placed.free) for placed in others):
                return None
        elif any(_overlap(box, other) for other in self.blocks):
            return None
        placed = Placed(item, rotation, np.array(origin), box, free)
        self.placed.append(placed)
        return placed

    def obstacles(self) -> Float[np.ndarray, "K 2 3"]:
        """Boxes around every item and block."""
        return np.array([*self.blocks, *(placed.box for placed in self.placed)]).reshape(-1, 2, 3)

    def primitives(self, wall: list[int], floor: int, ceiling: int, trim: int) -> Primitives:
        """Everything as primitives: the shell of the room first, then the items' parts.

        Args:
            wall: Material of each of the four walls, of which the first is the blocks' too.
            floor: Material of the floor.
            ceiling: Material of the ceiling.
            trim: Material of the skirting boards.
        """
        width, depth, height = self.size
        t = _WALL_THICKNESS
        shell = [
            ((0, -t, 0), (width, 0, height), wall[0], "wall"),
            ((0, depth, 0), (width, depth + t, height), wall[1], "wall"),
            ((-t, -t, 0), (0, depth + t, height), wall[2], "wall"),
            ((width, -t, 0), (width + t, depth + t, height), wall[3], "wall"),
            ((-t, -t, -t), (width + t, depth + t, 0), floor, "floor"),
            ((-t, -t, height), (width + t, depth + t, height + t), ceiling, "ceiling"),
            ((0, 0, 0), (width, 0.012, 0.08), trim, "wall"),
            ((0, depth - 0.012, 0), (width, depth, 0.08), trim, "wall"),
            ((0, 0, 0), (0.012, depth, 0.08), trim, "wall"),
            ((width - 0.012, 0, 0), (width, depth, 0.08), trim, "wall"),
            *((low, high, wall[0], "wall") for low, high in self.blocks),
        ]
        low, high = (np.array([entry[k] for entry in shell], dtype=np.float64) for k in (0, 1))
        count = len(shell)
        parts, worlds, centers, instances, first = [], [], [], [], 0
        for placed in self.placed:
            for part in placed.item.parts:
                parts.append(part)
                worlds.append(placed.rotation @ part.rotation)
                centers.append(placed.origin + placed.rotation @ part.center)
                instances.append(first + part.instance)
            first += placed.item.num_objects
        return Primitives(
            shape=np.array([BOX] * count + [part.shape for part in parts]),
            center=np.concatenate([(low + high) / 2, np.reshape(centers, (-1, 3))]),
            rotation=np.concatenate([np.tile(np.eye(3), (count, 1, 1)), np.reshape(worlds, (-1, 3, 3))]),
            half_size=np.concatenate([(high - low) / 2, np.reshape([part.half_size for part in parts], (-1, 3))]),
            material=np.array([entry[2] for entry in shell] + [part.material for part in parts]),
            label=np.array([NYU40[entry[3]] for entry in shell] + [part.label for part in parts]),
            instance=np.array([-1] * count + instances),
        )


def _moved(box: Float[np.ndarray, "2 3"], rotation: np.ndarray, origin: np.ndarray) -> Float[np.ndarray, "2 3"]:
    center, reach = rotation @ box.mean(axis=0) + origin, np.abs(rotation) @ (box[1] - box[0]) / 2
    return np.stack([center - reach, center + reach])


def _overlap(first: Float[np.ndarray, "2 3"], second: Float[np.ndarray, "2 3"]) -> bool:
    return bool(((first[0] < second[1] - _TOLERANCE) & (first[1] > second[0] + _TOLERANCE)).all())
