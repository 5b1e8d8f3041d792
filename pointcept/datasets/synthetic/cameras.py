"""Where the camera stands and looks: hand-held views from the free space of a room."""

import numpy as np
from jaxtyping import Float

from pointcept.datasets.synthetic.item import NYU40
from pointcept.datasets.synthetic.primitives import cast_rays
from pointcept.datasets.synthetic.recipes import FurnishedRoom

_EYE_HEIGHT = (1.0, 1.75)
_PITCH_DEG = (-50.0, 6.0)
_ROLL_DEG = 2.5
_CANDIDATES_PER_VIEW = 4
_CLEARANCES = (0.4, 0.25, 0.12)
_PREVIEW_SIZE = (9, 12)
_CELL = 0.4
_MIN_DEPTH, _MAX_DEPTH = 0.45, 5.5


def pinhole(size: tuple[int, int], field_of_view_deg: float) -> Float[np.ndarray, "3 3"]:
    """Intrinsic of a camera with square pixels and this horizontal field of view.

    Pixels, the centre of the first pixel at (0, 0).
    """
    height, width = size
    focal = 0.5 * width / np.tan(np.deg2rad(field_of_view_deg) / 2)
    return np.array([[focal, 0.0, (width - 1) / 2], [0.0, focal, (height - 1) / 2], [0.0, 0.0, 1.0]])


def look_at(
    eye: Float[np.ndarray, "V 3"], target: Float[np.ndarray, "V 3"], roll: Float[np.ndarray, "V"]
) -> Float[np.ndarray, "V 4 4"]:
    """world_from_camera (OpenCV axes) of cameras that look from ``eye`` to ``target``, z up, rolled by radians."""
    forward = target - eye
    forward = forward / np.linalg.norm(forward, axis=1, keepdims=True)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right = right / np.linalg.norm(right, axis=1, keepdims=True)
    down = np.cross(forward, right)
    cos, sin = np.cos(roll)[:, None], np.sin(roll)[:, None]
    pose = np.tile(np.eye(4), (len(eye), 1, 1))
    pose[:, :3, 0] = cos * right + sin * down
    pose[:, :3, 1] = cos * down - sin * right
    pose[:, :3, 2] = forward
    pose[:, :3, 3] = eye
    return pose


def sample_poses(
    room: FurnishedRoom, num_views: int, aspect: float, field_of_view_deg: float, rng: np.random.Generator
) -> Float[np.ndarray, "V 4 4"] | None:
    """Poses (world_from_camera) that together see most of the room, at sensible distances; None if nowhere is room.

    Of several candidates per view, those are chosen, one by one, that see most of what the ones before them did not.

    Args:
        room: The room.
        num_views: V.
        aspect: Height over width of the images.
        field_of_view_deg: Horizontal.
        rng: Source of all choices.
    """
    eye = _free_eyes(room, _CANDIDATES_PER_VIEW * num_views, rng)
    if eye is None:
        return None
    target = _targets(room, eye, rng)
    poses = look_at(eye, target, np.deg2rad(np.clip(rng.normal(0.0, _ROLL_DEG, len(eye)), -6, 6)))
    seen, flaws = _preview(room, poses, aspect, field_of_view_deg)
    order = np.argsort(flaws, kind="stable")
    usable = order[: max(num_views, int(np.count_nonzero(flaws == 0)))]
    chosen = _cover(seen[usable], num_views)
    return poses[usable[chosen]][rng.permutation(num_views)]


def _free_eyes(room: FurnishedRoom, count: int, rng: np.random.Generator) -> Float[np.ndarray, "C 3"] | None:
    """Points inside the room that keep clear of furniture and walls."""
    for clearance in _CLEARANCES:
        low = np.array([clearance, clearance, _EYE_HEIGHT[0]])
        high = np.array([*(room.size[:2] - clearance), min(_EYE_HEIGHT[1], room.size[2] - 0.5)])
        eye = rng.uniform(low, high, (30 * count, 3))
        outside = np.maximum(room.obstacles[:, 0] - eye[:, None], eye[:, None] - room.obstacles[:, 1])
        distance = np.linalg.norm(np.maximum(outside, 0.0), axis=2).min(axis=1, initial=np.inf)
        eye = eye[distance >= clearance]
        if len(eye) >= count:
            return eye[:count]
    return None


def _targets(room: FurnishedRoom, eye: Float[np.ndarray, "C 3"], rng: np.random.Generator) -> np.ndarray:
    """Points to look at: half of them things in the room, half anywhere; the pitch is limited."""
    target = rng.uniform((0.0, 0.0, 0.0), (*room.size[:2], 1.3), eye.shape)
    things = room.obstacles[rng.integers(len(room.obstacles), size=len(eye))].mean(axis=1)
    target = np.where(rng.random((len(eye), 1)) < 0.5, things, target)
    offset = target - eye
    ahead = np.maximum(np.linalg.norm(offset[:, :2], axis=1), 0.05)
    pitch = np.clip(np.arctan2(offset[:, 2], ahead), *np.deg2rad(_PITCH_DEG))
    yaw = np.arctan2(offset[:, 1], offset[:, 0])
    return eye + np.stack([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)], axis=1)


def _preview(
    room: FurnishedRoom, poses: Float[np.ndarray, "C 4 4"], aspect: float, field_of_view_deg: float
) -> tuple[np.ndarray, np.ndarray]:
    """Cells of the room that each candidate sees (C, cells), and how far its depths are from sensible (0 = fine)."""
    rows, columns = _PREVIEW_SIZE
    half = np.tan(np.deg2rad(field_of_view_deg) / 2)
    x, y = np.linspace(-half, half, columns), np.linspace(-half * aspect, half * aspect, rows)
    ray = np.stack([*np.meshgrid(x, y), np.ones((rows, columns))], axis=-1).reshape(-1, 3)
    direction = (ray @ poses[:, :3, :3].transpose(0, 2, 1)).reshape(-1, 3)
    origin = np.repeat(poses[:, :3, 3], len(ray), axis=0)
    depth, index = cast_rays(room.primitives, origin, direction)
    point = origin + direction * depth[:, None]
    shape = np.ceil(room.size / _CELL).astype(int)
    cell = np.clip((point / _CELL).astype(int), 0, shape - 1)
    seen = np.zeros((len(poses), int(shape.prod())), dtype=bool)
    view = np.repeat(np.arange(len(poses)), len(ray))
    seen[view, np.ravel_multi_index(tuple(cell.T), tuple(shape))] = True
    depth = depth.reshape(len(poses), -1)
    is_ceiling = (room.primitives.label[index] == NYU40["ceiling"]).reshape(len(poses), -1)
    flaws = (
        np.maximum((depth < _MIN_DEPTH).mean(axis=1) - 0.02, 0)
        + np.maximum((depth > _MAX_DEPTH).mean(axis=1) - 0.1, 0)
        + np.maximum(0.8 - np.median(depth, axis=1), 0)
        + np.maximum(is_ceiling.mean(axis=1) - 0.15, 0)
    )
    return seen, flaws


def _cover(seen: np.ndarray, count: int) -> list[int]:
    """Rows chosen greedily: what k chosen rows see already counts 1 / (1 + k) for the next one."""
    visits, chosen = np.zeros(seen.shape[1]), []
    is_left = np.ones(len(seen), dtype=bool)
    for _ in range(count):
        gain = np.where(is_left, seen @ (1.0 / (1.0 + visits)), -1.0)
        best = int(np.argmax(gain))
        chosen.append(best)
        is_left[best] = False
        visits += seen[best]
    return chosen
