"""Boxes, ellipsoids and cylinders, and where rays first meet them.

Each primitive is a unit shape (the cube, ball or cylinder that fills [-1, 1]^3) that was scaled, rotated and moved. An
affine map keeps a ray's parameter, so all three shapes are intersected in the unit frame.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

BOX, ELLIPSOID, CYLINDER = 0, 1, 2
"""Unit shapes; the cylinder's axis is its local z."""

_NEAR = 0.02
_CORNERS = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
_EDGES = np.array([(i, j) for i in range(8) for j in range(i + 1, 8) if np.abs(_CORNERS[i] - _CORNERS[j]).sum() == 2])


@dataclasses.dataclass(frozen=True)
class Primitives:
    """M solid primitives.

    Attributes:
        shape: BOX, ELLIPSOID or CYLINDER.
        center: Metres, world frame.
        rotation: world_from_local.
        half_size: Half extents along the local axes, metres.
        material: Row of the room's list of materials.
        label: NYU40 id.
        instance: Object that the primitive is a part of, -1 = none.
    """

    shape: Int[np.ndarray, "M"]
    center: Float[np.ndarray, "M 3"]
    rotation: Float[np.ndarray, "M 3 3"]
    half_size: Float[np.ndarray, "M 3"]
    material: Int[np.ndarray, "M"]
    label: Int[np.ndarray, "M"]
    instance: Int[np.ndarray, "M"]

    def __len__(self) -> int:
        return len(self.shape)

    def corners(self) -> Float[np.ndarray, "M 8 3"]:
        """Corners of the oriented box around each primitive, world frame."""
        return self.center[:, None] + (_CORNERS * self.half_size[:, None]) @ self.rotation.transpose(0, 2, 1)


@dataclasses.dataclass(frozen=True)
class Surface:
    """What R rays hit, in the frames that texturing and shading need.

    Attributes:
        point: World frame, metres.
        normal: Outward unit normal, world frame.
        local: The point in the primitive's frame, metres.
        unit: The point in the unit shape's frame, within [-1, 1].
        axis: Local axis of the face that was hit (0, 1, 2), 3 for a curved face.
    """

    point: Float[np.ndarray, "R 3"]
    normal: Float[np.ndarray, "R 3"]
    local: Float[np.ndarray, "R 3"]
    unit: Float[np.ndarray, "R 3"]
    axis: Int[np.ndarray, "R"]


def cast_rays(
    primitives: Primitives,
    origins: Float[np.ndarray, "R 3"],
    directions: Float[np.ndarray, "R 3"],
) -> tuple[Float[np.ndarray, "R"], Int[np.ndarray, "R"]]:
    """First entry of each ray into a primitive, in units of the direction's length.

    A ray that starts inside a primitive does not hit that primitive.

    Returns:
        The ray parameter (infinite where nothing is hit) and the index of the primitive (-1 where nothing is hit).
    """
    nearest = np.full(len(origins), np.inf)
    index = np.full(len(origins), -1)
    shapes = primitives.shape.tolist()
    with np.errstate(divide="ignore", invalid="ignore"):
        for i in range(len(primitives)):
            unit_from_world = primitives.rotation[i].T / primitives.half_size[i][:, None]
            origin = (origins - primitives.center[i]) @ unit_from_world.T
            direction = directions @ unit_from_world.T
            entry = _entry(shapes[i], tuple(origin.T), tuple(direction.T))
            closer = (entry < nearest) & (entry > 0)
            nearest[closer] = entry[closer]
            index[closer] = i
    return nearest, index


def cast_view(
    primitives: Primitives,
    intrinsic: Float[np.ndarray, "3 3"],
    world_from_camera: Float[np.ndarray, "4 4"],
    size: tuple[int, int],
) -> tuple[Float[np.ndarray, "H W"], Int[np.ndarray, "H W"]]:
    """The depth image of one pinhole view, and the primitive that each pixel sees.

    Equal to ``cast_rays`` over the pixels, but intersects a primitive only with the pixels of its bounding rectangle.

    Args:
        primitives: The scene.
        intrinsic: Pixels, the centre of the first pixel at (0, 0).
        world_from_camera: Pose, OpenCV axes, metres.
        size: Height and width, pixels.

    Returns:
        z-depth in metres (infinite where nothing is hit) and the index of the primitive (-1 where nothing is hit).
    """
    height, width = size
    depth = np.full(size, np.inf)
    index = np.full(size, -1)
    shapes = primitives.shape.tolist()
    eye = world_from_camera[:3, 3]
    world_from_pixel = world_from_camera[:3, :3] @ np.linalg.inv(intrinsic)
    columns, rows = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)[:, None]
    rectangles, nearest = _bounding_rectangles(primitives, intrinsic, world_from_camera, size)
    unit_from_world = primitives.rotation.transpose(0, 2, 1) / primitives.half_size[:, :, None]
    origins = np.einsum("mij,mj->mi", unit_from_world, eye - primitives.center)
    unit_from_pixel = unit_from_world @ world_from_pixel
    with np.errstate(divide="ignore", invalid="ignore"):
        for i in np.argsort(nearest, kind="stable"):
            left, right, top, bottom = rectangles[i]
            if left >= right or top >= bottom:
                continue
            window = (slice(top, bottom), slice(left, right))
            if depth[window].max() <= nearest[i]:
                continue
            u, v = columns[left:right], rows[top:bottom]
            direction = tuple((v * b + c) + u * a for a, b, c in unit_from_pixel[i])
            entry = _entry(shapes[i], tuple(origins[i]), direction)
            closer = (entry < depth[window]) & (entry > 0)
            depth[window][closer] = entry[closer]
            index[window][closer] = i
    return depth, index


def describe_hits(primitives: Primitives, index: Int[np.ndarray, "R"], point: Float[np.ndarray, "R 3"]) -> Surface:
    """Normals and local coordinates of points that lie on primitives.

    Args:
        primitives: The scene.
        index: Primitive that each point lies on.
        point: World frame, metres.
    """
    rotation, half_size, shape = primitives.rotation[index], primitives.half_size[index], primitives.shape[index]
    local = np.einsum("rij,ri->rj", rotation, point - primitives.center[index])
    unit = local / half_size
    axis = np.argmax(np.abs(unit), axis=1)
    radius = np.hypot(unit[:, 0], unit[:, 1])
    axis = np.where(shape == CYLINDER, np.where(radius >= np.abs(unit[:, 2]), 3, 2), axis)
    axis = np.where(shape == ELLIPSOID, 3, axis)
    gradient = np.where(axis[:, None] == np.arange(3), np.sign(unit), 0.0)
    curved = np.where((shape == CYLINDER)[:, None], unit * (1, 1, 0), unit)
    gradient = np.where((axis == 3)[:, None], curved, gradient) / half_size
    normal = np.einsum("rij,rj->ri", rotation, gradient)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return Surface(point, normal, local, unit, axis)


def _entry(shape: int, origin: tuple, direction: tuple) -> Float[np.ndarray, "*rays"]:
    """Ray parameter at which rays enter a unit shape, infinite for those that miss; negative when it lies behind."""
    if shape == BOX:
        return _interval_entry(*_slabs(origin, direction, (0, 1, 2)))
    axes = (0, 1, 2) if shape == ELLIPSOID else (0, 1)
    squared = sum(direction[k] ** 2 for k in axes)
    half_linear = sum(origin[k] * direction[k] for k in axes)
    constant = sum(origin[k] ** 2 for k in axes) - 1.0
    root = np.sqrt(half_linear**2 - squared * constant)  # NaN where the ray's line misses
    entry, leave = (-half_linear - root) / squared, (-half_linear + root) / squared
    if shape == ELLIPSOID:
        return np.where(np.isnan(entry), np.inf, entry)
    # A ray along the axis stays inside or outside of the round side for ever.
    along = squared == 0
    entry = np.where(along, np.where(constant < 0, -np.inf, np.inf), entry)
    leave = np.where(along, np.where(constant < 0, np.inf, -np.inf), leave)
    cap_entry, cap_leave = _slabs(origin, direction, (2,))
    return _interval_entry(np.maximum(entry, cap_entry), np.minimum(leave, cap_leave))


def _slabs(origin: tuple, direction: tuple, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    entry, leave = None, None
    for k in axes:
        component = direction[k]
        inverse = 1.0 / np.where(component == 0, 1e-30, component)
        middle, half = -origin[k] * inverse, np.abs(inverse)
        entry = middle - half if entry is None else np.maximum(entry, middle - half)
        leave = middle + half if leave is None else np.minimum(leave, middle + half)
    return entry, leave


def _interval_entry(entry: np.ndarray, leave: np.ndarray) -> np.ndarray:
    return np.where(entry <= leave, entry, np.inf)  # a NaN compares as false


def _bounding_rectangles(
    primitives: Primitives,
    intrinsic: Float[np.ndarray, "3 3"],
    world_from_camera: Float[np.ndarray, "4 4"],
    size: tuple[int, int],
) -> tuple[Int[np.ndarray, "M 4"], Float[np.ndarray, "M"]]:
    """Pixels (left, right, top, bottom; ends excluded) that each primitive may cover, and its least z-depth."""
    height, width = size
    corners = (primitives.corners() - world_from_camera[:3, 3]) @ world_from_camera[:3, :3]
    first, second = corners[:, _EDGES[:, 0]], corners[:, _EDGES[:, 1]]
    step = second[..., 2] - first[..., 2]
    fraction = (_NEAR - first[..., 2]) / np.where(step == 0, 1.0, step)
    crosses = (first[..., 2] < _NEAR) != (second[..., 2] < _NEAR)
    crossing = first + fraction[..., None] * (second - first)
    candidates = np.concatenate([corners, crossing], axis=1)
    visible: Bool[np.ndarray, "M 20"] = np.concatenate([corners[..., 2] >= _NEAR, crosses], axis=1)
    scale = 1.0 / np.where(visible, candidates[..., 2], 1.0)
    column = candidates[..., 0] * scale * intrinsic[0, 0] + intrinsic[0, 2]
    row = candidates[..., 1] * scale * intrinsic[1, 1] + intrinsic[1, 2]
    sides = []
    for value, limit in ((column, width), (row, height)):
        least = np.where(visible, value, np.inf).min(axis=1)
        most = np.where(visible, value, -np.inf).max(axis=1)
        sides.append(np.clip(np.floor(least), 0, limit))
        sides.append(np.clip(np.ceil(most) + 1, 0, limit))
    return np.stack(sides, axis=1).astype(np.int64), corners[..., 2].min(axis=1)
