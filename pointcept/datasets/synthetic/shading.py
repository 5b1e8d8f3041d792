"""How bright a surface is: diffuse light, and the soft shade of corners and below furniture."""

import dataclasses

import numpy as np
from jaxtyping import Float

_FALLOFF_M = 2.5
_WALL_LIGHT = 0.9
_KNEE = 0.82
_CORNER_REACH_M = 0.25
_CONTACT_REACH_M = 0.14


@dataclasses.dataclass(frozen=True)
class Lights:
    """Point lights and the light that comes from everywhere.

    Attributes:
        position: Metres, world frame.
        color: RGB intensity.
        ambient: Intensity, 0..1.
    """

    position: Float[np.ndarray, "L 3"]
    color: Float[np.ndarray, "L 3"]
    ambient: float


def exposed(lights: Lights, room_size: Float[np.ndarray, "3"]) -> Lights:
    """The same lights, as bright as makes the walls' mean light 0.9: what a camera's exposure does."""
    share = np.array(np.meshgrid((0.15, 0.4, 0.6, 0.85), (0.2, 0.5, 0.8))).reshape(2, -1)
    points, normals = [], []
    for axis in (0, 1):
        for end in (0.0, 1.0):
            face = np.insert(share, axis, end, axis=0)
            points.append(face.T * room_size)
            normals.append(np.tile(np.eye(3)[axis] * (1 - 2 * end), (share.shape[1], 1)))
    mean = irradiance(lights, np.concatenate(points), np.concatenate(normals), room_size, np.zeros((0, 2, 3))).mean()
    return Lights(lights.position, lights.color * _WALL_LIGHT / mean, lights.ambient * _WALL_LIGHT / float(mean))


def tone(radiance: Float[np.ndarray, "R 3"]) -> Float[np.ndarray, "R 3"]:
    """Colour in 0..1: as the radiance up to a knee, above it compressed instead of clipped."""
    excess = np.maximum(radiance - _KNEE, 0.0)
    return np.minimum(radiance, _KNEE) + (1 - _KNEE) * (1 - np.exp(-excess / (1 - _KNEE)))


def irradiance(
    lights: Lights,
    point: Float[np.ndarray, "R 3"],
    normal: Float[np.ndarray, "R 3"],
    room_size: Float[np.ndarray, "3"],
    obstacles: Float[np.ndarray, "K 2 3"],
) -> Float[np.ndarray, "R 3"]:
    """Light on surface points, by which their albedo is multiplied; it depends on no view (Lambert).

    Args:
        lights: What lights the room.
        point: World frame, metres.
        normal: Unit, world frame.
        room_size: The room spans from the origin to here.
        obstacles: Boxes around the things that stand in the room.
    """
    light = np.repeat((lights.ambient * (0.85 + 0.15 * normal[:, 2]))[:, None], 3, axis=1)
    for position, color in zip(lights.position, lights.color, strict=True):
        towards = position - point
        squared = np.einsum("ri,ri->r", towards, towards)
        cosine = np.einsum("ri,ri->r", towards, normal) / np.sqrt(squared)
        # Wrapped, so that faces turned away are dim rather than black: light is reflected by the walls.
        strength = np.clip(0.3 + 0.7 * cosine, 0.0, None) * (2.0 / (1.0 + squared / _FALLOFF_M**2))
        light += strength[:, None] * color
    return light * _occlusion(point, normal, room_size, obstacles)[:, None]


def _occlusion(point: np.ndarray, normal: np.ndarray, room_size: np.ndarray, obstacles: np.ndarray) -> np.ndarray:
    """Share of the light that reaches points near the room's edges and on the floor beneath and beside things."""
    to_side = np.minimum(point, room_size - point)
    shade = 1.0 - 0.32 * np.exp(-np.maximum(to_side, 0.0) / _CORNER_REACH_M) * (1.0 - np.abs(normal))
    share = shade.prod(axis=1)
    is_floor = (point[:, 2] < 0.03) & (normal[:, 2] > 0.9)
    floor = point[is_floor, :2]
    reaching = obstacles[(obstacles[:, 0, 2] < 0.2) & (obstacles[:, 1, 2] > 0.05)]
    contact = np.ones(len(floor))
    for low, high in reaching[:, :, :2]:
        outside = np.maximum(np.maximum(low - floor, floor - high), 0.0)
        contact *= 1.0 - 0.4 * np.exp(-np.hypot(outside[:, 0], outside[:, 1]) / _CONTACT_REACH_M)
    share[is_floor] *= contact
    return share
