"""Colour of a surface as a function of where on the surface a point lies."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float, Int

from pointcept.datasets.synthetic.primitives import Surface

_TABLE_SIZE = 256
_CELLS_PER_FEATURE = 8
_IMAGE_PATTERNS = ("painting", "outdoors")

Color = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Material:
    """How a surface looks.

    Attributes:
        pattern: Name of a function of this module's table.
        colors: Two colours, RGB in 0..1.
        period: Length after which the pattern repeats, or size of its features, metres.
        seed: Shifts the pattern, and draws what a painting shows.
        missing: Share of the surface that a depth sensor does not see (glass, screens, polished metal).
    """

    pattern: str
    colors: tuple[Color, Color]
    period: float = 0.3
    seed: int = 0
    missing: float = 0.0


def albedo(
    materials: list[Material],
    index: Int[np.ndarray, "R"],
    surface: Surface,
    footprint: Float[np.ndarray, "R"],
) -> Float[np.ndarray, "R 3"]:
    """Colour of surface points before lighting, 0..1.

    Args:
        materials: Materials of the room.
        index: Material of each point.
        surface: Where the points lie.
        footprint: Width of a pixel on the surface, metres; patterns are averaged over it, so that fine ones fade into
            their mean with the distance instead of flickering from view to view.
    """
    metric, unit = _plane_coordinates(surface)
    color = np.empty((len(index), 3))
    order = np.argsort(index, kind="stable")
    ends = np.cumsum(np.bincount(index, minlength=len(materials)))
    for material, begin, end in zip(materials, np.concatenate([[0], ends[:-1]]), ends, strict=True):
        if begin == end:
            continue
        rows = order[begin:end]
        position = unit[rows] if material.pattern in _IMAGE_PATTERNS else metric[rows] + _shift(material.seed)
        color[rows] = PATTERNS[material.pattern](material, position, footprint[rows])
    return np.clip(color, 0.0, 1.0)


def noise(position: Float[np.ndarray, "R 2"], feature_size: float | tuple[float, float]) -> Float[np.ndarray, "R"]:
    """Smooth noise in 0..1 with features of the given size, metres (one size, or one along each axis)."""
    cell = np.floor(position * (_CELLS_PER_FEATURE / np.asarray(feature_size))).astype(np.int64) % _TABLE_SIZE
    return _noise_table()[cell[:, 0], cell[:, 1]]


@functools.lru_cache(maxsize=1)
def _noise_table() -> Float[np.ndarray, "S S"]:
    """A periodic field of band-limited noise, uniformly distributed over 0..1."""
    white = np.random.default_rng(20240501).standard_normal((_TABLE_SIZE, _TABLE_SIZE))
    frequency = np.fft.fftfreq(_TABLE_SIZE)
    squared = frequency[:, None] ** 2 + frequency[None] ** 2
    envelope = np.exp(-squared * (2.0 * _CELLS_PER_FEATURE) ** 2)
    field = np.fft.ifft2(np.fft.fft2(white) * envelope).real
    rank = np.argsort(np.argsort(field.ravel(), kind="stable"), kind="stable")
    return (rank / (rank.size - 1)).reshape(field.shape)


def _plane_coordinates(surface: Surface) -> tuple[Float[np.ndarray, "R 2"], Float[np.ndarray, "R 2"]]:
    """Coordinates on each face: horizontal and vertical for upright faces; in metres, and in -1..1."""
    axis = surface.axis
    first, second = np.where(axis == 0, 1, 0), np.where(axis == 2, 1, 2)
    rows = np.arange(len(axis))
    metric = np.stack([surface.local[rows, first], surface.local[rows, second]], axis=1)
    unit = np.stack([surface.unit[rows, first], surface.unit[rows, second]], axis=1)
    curved = axis == 3
    around = np.arctan2(surface.local[curved, 1], surface.local[curved, 0])
    metric[curved, 0] = around * np.hypot(surface.local[curved, 0], surface.local[curved, 1])
    unit[curved, 0] = around / np.pi
    return metric, unit


def _shift(seed: int) -> Float[np.ndarray, "2"]:
    return np.array([(seed * 0.754877) % 7.0, (seed * 0.569840) % 7.0])


def _pulse(x: np.ndarray, duty: float, width: np.ndarray) -> np.ndarray:
    """Mean over ``width`` around x of a wave of period 1 that is 1 for ``duty`` of it and 0 for the rest."""
    width = np.maximum(width, 1e-3)

    def integral(t):
        whole = np.floor(t)
        return whole * duty + np.minimum(t - whole, duty)

    return (integral(x + width / 2) - integral(x - width / 2)) / width


def _mix(material: Material, amount: np.ndarray) -> Float[np.ndarray, "R 3"]:
    first, second = np.array(material.colors)
    return first + (second - first) * amount[:, None]


def _mottle(position: np.ndarray, strength: float) -> np.ndarray:
    return 1.0 + strength * (noise(position, 0.23) - 0.5)[:, None]


def _plain(material: Material, position: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    return np.array(material.colors[0]) * _mottle(position, 0.08)


def _cloudy(material: Material, position: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    coarse = noise(position, material.period)
    fine = noise(position[:, ::-1], material.period / 3)
    return _mix(material, 0.65 * coarse + 0.35 * fine)


def _checker(material: Material, position: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    width = footprint / material.period
    signs = [2.0 * _pulse(position[:, k] / material.period, 0.5, width) - 1.0 for k in (0, 1)]
    return _mix(material, 0.5 + 0.5 * signs[0] * signs[1]) * _mottle(position, 0.06)


def _stripes(material: Material, position: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    amount = _pulse(position[:, 0] / material.period, 0.4, footprint / material.period)
    return _mix(material, amount) * _mottle(position, 0.06)


def _dots(material: Material, position: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    cell = position / material.period
    offset = cell - np.floor(cell) - 0.5
    softness = np.maximum(footprint / material.period, 0.04)
    inside = np.clip(0.5 + (0.28 - np.linalg.norm(offset, axis=1)) / softness, 0.0, 1.0)
    faded = np.clip(1.5 - softness * 1.5, 0.0, 1.0)
    return _mix(material, inside * faded + 0.25 * (1.0 - faded))


def _tiles(material: Material, position: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    cell = position / material.period
    width = footprint / material.period
    joint = np.maximum(*(_pulse(cell[:, k], min(0.012 / material.period, 0.2), width) for k in (0, 1)))
    tint = noise(np.floor(cell) + 0.37 * material.seed, 1.7)
    return _mix(material, joint) * (1.0 + 0.14 * (tint - 0.5))[:, None] * _mottle(position, 0.05)


def _bricks(material: Material, position: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    row = np.floor(position[:, 1] / (material.period * 0.4))
    cell = np.stack([position[:, 0] / material.period + 0.5 * (row % 2), position[:, 1] / (material.period * 0.4)], 1)
    width = footprint / material.period
    joint = np.maximum(_pulse(cell[:, 0], 0.06, width), _pulse(cell[:, 1], 0.15, width / 0.4))
    tint = noise(np.floor(cell) + 0.37 * material.seed, 1.7)
    return _mix(material, joint) * (1.0 + 0.3 * (tint - 0.5))[:, None]


def _wood(material: Material, position: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    grain = noise(position, (0.9, 0.05))
    rings = noise(position, (0.5, 0.16))
    return _mix(material, 0.25 + 0.45 * (grain - 0.5) + 0.4 * (rings - 0.5))


def _planks(material: Material, position: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    row = np.floor(position[:, 1] / material.period)
    along = position[:, 0] / (8 * material.period) + 0.37 * row
    tint = noise(np.stack([np.floor(along), row], axis=1) + 0.37 * material.seed, 1.7)
    joint = np.maximum(
        _pulse(position[:, 1] / material.period, 0.06, footprint / material.period),
        _pulse(along, 0.006, footprint / (8 * material.period)),
    )
    wood = _wood(material, position + 0.61 * row[:, None], footprint)
    return wood * (1.0 + 0.4 * (tint - 0.5))[:, None] * (1.0 - 0.45 * joint)[:, None]


def _painting(material: Material, position: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(material.seed)
    color = _mix(material, 0.5 + 0.5 * np.clip(position[:, 1], -1, 1))
    for _ in range(int(rng.integers(4, 9))):
        offset = (position - rng.uniform(-0.8, 0.8, 2)) / rng.uniform(0.15, 0.6, 2)
        distance = np.linalg.norm(offset, axis=1) if rng.random() < 0.6 else np.abs(offset).max(axis=1)
        inside = np.clip((1.0 - distance) * 8.0, 0.0, 1.0)[:, None]
        color = color + (rng.uniform(0.05, 0.95, 3) - color) * inside
    return color


def _outdoors(material: Material, position: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    hills = noise(np.stack([position[:, 0] * 0.5, np.zeros(len(position))], axis=1) + _shift(material.seed), 0.9)
    horizon = -0.45 + 0.5 * (hills - 0.5)
    above = np.clip((position[:, 1] - horizon) * 12.0, 0.0, 1.0)[:, None]
    sky = np.array(material.colors[0]) * (1.0 - 0.18 * position[:, 1:]) + 0.1
    ground = np.array(material.colors[1]) * (0.7 + 0.6 * noise(position + _shift(material.seed), 0.5)[:, None])
    return ground + (sky - ground) * above


PATTERNS = {
    "plain": _plain,
    "cloudy": _cloudy,
    "checker": _checker,
    "stripes": _stripes,
    "dots": _dots,
    "tiles": _tiles,
    "bricks": _bricks,
    "wood": _wood,
    "planks": _planks,
    "painting": _painting,
    "outdoors": _outdoors,
}
"""Patterns by name: (material, position on the face, pixel footprint) -> colour."""
