"""A piece of furniture while it is being put together, in its own frame."""

import dataclasses

import numpy as np
from jaxtyping import Float

from pointcept.datasets.labels import NYU40_NAMES
from pointcept.datasets.synthetic.primitives import BOX, CYLINDER, ELLIPSOID

NYU40 = {name: index for index, name in enumerate(NYU40_NAMES)}
Vector = tuple[float | int, float | int, float | int]
Interval = tuple[float | int, float | int]


@dataclasses.dataclass(frozen=True)
class Part:
    """One primitive of an item: see ``Primitives`` for the fields; ``instance`` counts from the item's first object."""

    shape: int
    center: Float[np.ndarray, "3"]
    rotation: Float[np.ndarray, "3 3"]
    half_size: Float[np.ndarray, "3"]
    material: int
    label: int
    instance: int


class Item:
    """Parts of one or more objects that are placed together.

    The item's frame: x to the right, y from the back (0, at the wall when it stands at one) to the front, z up from the
    floor; metres. The parts should stay within ``width`` around x = 0 and within 0..``depth`` along y.

    Args:
        label: NYU40 name of the first object.
        width: Along x.
        depth: Along y.
        front: Free space that the item needs in front of it, metres.
    """

    def __init__(self, label: str, width: float, depth: float, *, front: float = 0.0) -> None:
        self.width = width
        self.depth = depth
        self.front = front
        self.parts: list[Part] = []
        self.num_objects = 1
        self._label = NYU40[label]
        self._object = 0

    def new_object(self, label: str) -> None:
        """Parts that follow belong to another object, a pillow on a bed for example."""
        self._label = NYU40[label]
        self._object = self.num_objects
        self.num_objects += 1

    def box(self, center: Vector, size: Vector, material: int, *, tilt: float = 0.0, yaw: float = 0.0) -> None:
        """A box; ``tilt`` turns it about x, ``yaw`` about z, radians."""
        self._add(BOX, center, size, material, tilt, yaw)

    def board(self, x: Interval, y: Interval, z: Interval, material: int) -> None:
        """An upright box by its two ends along each axis."""
        ends = np.array([x, y, z])
        self._add(BOX, ends.mean(axis=1), ends[:, 1] - ends[:, 0], material, 0.0, 0.0)

    def ellipsoid(self, center: Vector, size: Vector, material: int) -> None:
        """An ellipsoid that fills ``size``."""
        self._add(ELLIPSOID, center, size, material, 0.0, 0.0)

    def cylinder(self, center: Vector, size: Vector, material: int, *, axis: str = "z") -> None:
        """A cylinder that fills ``size``, which counts along the item's axes."""
        if axis == "z":
            self._add(CYLINDER, center, size, material, 0.0, 0.0)
            return
        cyclic = np.roll(np.eye(3), {"x": 1, "y": -1}[axis], axis=1).T  # takes the cylinder's own z to ``axis``
        self._add(CYLINDER, center, np.abs(cyclic.T @ np.asarray(size)), material, 0.0, 0.0, cyclic)

    def legs(self, x: float, y: Interval, height: float, thickness: float, material: int) -> None:
        """Four legs at +-x and at both ``y``."""
        for side in (-x, x):
            for at in y:
                self.box((side, at, height / 2), (thickness, thickness, height), material)

    def bounds(self) -> Float[np.ndarray, "2 3"]:
        """Least and greatest coordinates of the parts, the item's frame."""
        reach = np.array([np.abs(part.rotation) @ part.half_size for part in self.parts])
        center = np.array([part.center for part in self.parts])
        return np.stack([(center - reach).min(axis=0), (center + reach).max(axis=0)])

    def _add(self, shape, center, size, material, tilt, yaw, rotation=None) -> None:
        if rotation is None:
            cos_tilt, sin_tilt, cos_yaw, sin_yaw = np.cos(tilt), np.sin(tilt), np.cos(yaw), np.sin(yaw)
            about_x = np.array([[1, 0, 0], [0, cos_tilt, -sin_tilt], [0, sin_tilt, cos_tilt]])
            rotation = np.array([[cos_yaw, -sin_yaw, 0], [sin_yaw, cos_yaw, 0], [0, 0, 1]]) @ about_x
        half_size = np.maximum(np.asarray(size, dtype=np.float64) / 2, 1e-3)
        center = np.asarray(center, dtype=np.float64)
        self.parts.append(Part(shape, center, rotation, half_size, material, self._label, self._object))
