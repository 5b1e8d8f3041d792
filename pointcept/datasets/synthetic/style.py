"""The look of one room: the materials that its furniture and surfaces are drawn from."""

import colorsys

import numpy as np

from pointcept.datasets.synthetic.textures import Color, Material

_WOODS: tuple[tuple[Color, Color], ...] = (
    ((0.86, 0.72, 0.52), (0.66, 0.48, 0.30)),
    ((0.68, 0.47, 0.28), (0.42, 0.26, 0.14)),
    ((0.44, 0.29, 0.19), (0.24, 0.15, 0.10)),
    ((0.93, 0.88, 0.80), (0.74, 0.68, 0.60)),
    ((0.72, 0.40, 0.24), (0.47, 0.23, 0.13)),
    ((0.58, 0.53, 0.48), (0.38, 0.34, 0.31)),
)


class Style:
    """Draws materials; those of one kind within a room resemble each other, those of two rooms need not.

    Every method adds a material and returns its row in ``materials``.

    Args:
        rng: Source of all choices.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.materials: list[Material] = []
        self._rng = rng
        self._woods = [_WOODS[i] for i in rng.choice(len(_WOODS), 2, replace=False)]
        self._hue = rng.random()
        self._metal = float(rng.uniform(0.25, 0.8))

    def add(
        self, pattern: str, first: Color, second: Color | None = None, period: float = 0.3, missing: float = 0.0
    ) -> int:
        """A material with these colours; the second one defaults to a darker first."""
        if second is None:
            second = tuple(0.8 * channel for channel in first)
        seed = int(self._rng.integers(1, 2**31))
        self.materials.append(Material(pattern, (first, second), period, seed, missing))
        return len(self.materials) - 1

    def color(self, saturation: tuple[float, float], value: tuple[float, float]) -> Color:
        """A colour near one of the room's three hues."""
        hue = self._hue + self._rng.choice((0.0, 0.33, 0.55)) + self._rng.normal(0.0, 0.04)
        return colorsys.hsv_to_rgb(hue % 1.0, self._rng.uniform(*saturation), self._rng.uniform(*value))

    def wood(self) -> int:
        """One of the room's two woods, or painted wood."""
        if self._rng.random() < 0.2:
            return self.add("plain", self.color((0.0, 0.35), (0.55, 0.95)))
        light, dark = self._woods[int(self._rng.integers(2))]
        return self.add("wood", light, dark)

    def fabric(self) -> int:
        """Woven, plain, striped, dotted or checked cloth."""
        first, second = self.color((0.15, 0.7), (0.3, 0.85)), self.color((0.1, 0.6), (0.3, 0.95))
        pattern = str(
            self._rng.choice(["cloudy", "plain", "stripes", "dots", "checker"], p=[0.3, 0.25, 0.2, 0.1, 0.15])
        )
        if pattern == "cloudy":
            second = tuple(0.72 * channel for channel in first)
        return self.add(pattern, first, second, float(self._rng.uniform(0.08, 0.25)))

    def white_fabric(self) -> int:
        """Bed linen and the like."""
        return self.add("cloudy", self.color((0.0, 0.12), (0.85, 0.97)), self.color((0.0, 0.2), (0.7, 0.85)), 0.2)

    def paint(self) -> int:
        """Lacquer: strong and even."""
        return self.add("plain", self.color((0.1, 0.85), (0.3, 0.9)))

    def front(self) -> int:
        """Doors of cabinets: light lacquer or wood."""
        if self._rng.random() < 0.5:
            return self.wood()
        return self.add("plain", self.color((0.0, 0.3), (0.6, 0.97)))

    def metal(self) -> int:
        """Grey."""
        value = float(np.clip(self._metal + self._rng.normal(0.0, 0.05), 0.1, 0.9))
        return self.add("plain", (value, value, value * 1.02), missing=0.1)

    def dark(self) -> int:
        """Black plastic."""
        value = float(self._rng.uniform(0.06, 0.2))
        return self.add("plain", (value, value, value))

    def screen(self) -> int:
        """Of a display: half of it escapes a depth sensor."""
        return self.add("cloudy", (0.05, 0.06, 0.08), self.color((0.3, 0.6), (0.15, 0.35)), 0.5, missing=0.4)

    def ceramic(self) -> int:
        """White, glossy."""
        return self.add("plain", self.color((0.0, 0.06), (0.85, 0.98)), missing=0.06)

    def stone(self) -> int:
        """Worktops."""
        first = self.color((0.0, 0.2), (0.25, 0.9))
        return self.add("cloudy", first, tuple(0.7 * channel for channel in first), float(self._rng.uniform(0.08, 0.3)))

    def leaf(self) -> int:
        """Green of plants."""
        hue, value = self._rng.uniform(0.24, 0.38), self._rng.uniform(0.3, 0.6)
        color = colorsys.hsv_to_rgb(hue, 0.6, value)
        return self.add("cloudy", color, tuple(0.55 * channel for channel in color), 0.12)

    def glow(self) -> int:
        """Lamp shades and light."""
        return self.add("plain", colorsys.hsv_to_rgb(0.12, self._rng.uniform(0.05, 0.3), 0.98))

    def outdoors(self) -> int:
        """What a window shows."""
        sky = colorsys.hsv_to_rgb(
            self._rng.uniform(0.5, 0.62), self._rng.uniform(0.05, 0.4), self._rng.uniform(0.8, 1.0)
        )
        ground = colorsys.hsv_to_rgb(self._rng.uniform(0.05, 0.4), self._rng.uniform(0.2, 0.6), 0.5)
        return self.add("outdoors", sky, ground, missing=0.5)

    def mirror(self) -> int:
        """Pale glass that a depth sensor mostly misses."""
        return self.add("cloudy", (0.75, 0.82, 0.86), (0.6, 0.68, 0.73), 0.8, missing=0.7)

    def painting(self) -> int:
        """A picture of its own."""
        return self.add("painting", self.color((0.1, 0.9), (0.2, 0.95)), self.color((0.1, 0.9), (0.2, 0.95)))

    def floor(self, is_wet_room: bool) -> int:
        """Tiles in kitchens and bathrooms, else planks, carpet or parquet."""
        if is_wet_room:
            first, second = self.color((0.0, 0.35), (0.35, 0.9)), self.color((0.0, 0.2), (0.3, 0.95))
            pattern = str(self._rng.choice(["tiles", "checker"], p=[0.7, 0.3]))
            return self.add(pattern, first, second, float(self._rng.choice([0.2, 0.3, 0.4])))
        kind = self._rng.random()
        if kind < 0.6:
            light, dark = self._woods[int(self._rng.integers(2))]
            return self.add("planks", light, dark, float(self._rng.uniform(0.09, 0.2)))
        if kind < 0.85:
            first = self.color((0.05, 0.4), (0.35, 0.8))
            return self.add("cloudy", first, tuple(0.8 * c for c in first), float(self._rng.uniform(0.1, 0.4)))
        return self.add("tiles", self.color((0.0, 0.2), (0.5, 0.9)), (0.4, 0.4, 0.4), 0.45)

    def wall(self, is_wet_room: bool) -> int:
        """Tiles, paint or wallpaper."""
        kind = self._rng.random()
        light = self.color((0.02, 0.25), (0.74, 0.98))
        shade = tuple(float(self._rng.uniform(0.8, 0.93)) * channel for channel in light)
        if is_wet_room and kind < 0.6:
            return self.add("tiles", light, (0.55, 0.55, 0.55), float(self._rng.choice([0.15, 0.2, 0.3])))
        if kind < 0.6:
            return self.add("plain", light)
        if kind < 0.8:
            return self.add("stripes", light, shade, float(self._rng.uniform(0.12, 0.5)))
        if kind < 0.92:
            return self.add("dots", light, shade, float(self._rng.uniform(0.15, 0.3)))
        return self.add("bricks", (0.66, 0.36, 0.28), (0.75, 0.73, 0.7), 0.26)
