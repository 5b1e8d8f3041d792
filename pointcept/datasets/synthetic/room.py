"""One synthetic room from its seed to frames and cloud, and how it is put on disk."""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from pointcept.datasets.frames import HOLDOUT_EVERY, held_out
from pointcept.datasets.labels import scannet20_from_nyu40
from pointcept.datasets.rgbd_layout import (
    SPLITS,
    new_scene,
    write_frame,
    write_intrinsics,
    write_scene,
    write_scene_json,
)
from pointcept.datasets.synthetic.cameras import pinhole, sample_poses
from pointcept.datasets.synthetic.fusion import Cloud, fuse
from pointcept.datasets.synthetic.primitives import cast_view, describe_hits
from pointcept.datasets.synthetic.recipes import ROOM_KINDS, FurnishedRoom, furnish
from pointcept.datasets.synthetic.sensor import Sensor, measure_color, measure_depth
from pointcept.datasets.synthetic.shading import irradiance, tone
from pointcept.datasets.synthetic.textures import albedo

_ATTEMPTS = 20


@dataclasses.dataclass(frozen=True)
class RoomSettings:
    """What all rooms of a data set have in common.

    Attributes:
        image_size: Height and width of the frames, pixels.
        num_frames: Frames per room.
        field_of_view_deg: Horizontal.
        voxel_size: Of the fused cloud, metres.
        max_points: Most points of a cloud.
        holdout_every: Of every so many frames the last is held out: not fused into the cloud.

    Raises:
        ValueError: a setting is out of range.
    """

    image_size: tuple[int, int] = (120, 160)
    num_frames: int = 24
    field_of_view_deg: float = 66.0
    voxel_size: float = 0.02
    max_points: int = 60000
    holdout_every: int = HOLDOUT_EVERY

    def __post_init__(self) -> None:
        if len(self.image_size) != 2 or min(self.image_size) < 8:
            raise ValueError(
                f"image_size must be a height and a width of at least 8 pixels: got {tuple(self.image_size)}. "
                "The default is (120, 160)."
            )
        if self.num_frames < 1:
            raise ValueError(f"num_frames must be at least 1: got {self.num_frames}. The default is 24.")
        if not 20.0 <= self.field_of_view_deg <= 120.0:
            raise ValueError(
                f"field_of_view_deg must lie in 20..120 degrees: got {self.field_of_view_deg}. The default is 66."
            )
        if not 0.001 <= self.voxel_size <= 1.0:
            raise ValueError(f"voxel_size must lie in 0.001..1 metres: got {self.voxel_size}. The default is 0.02.")
        if self.max_points < 1:
            raise ValueError(f"max_points must be at least 1: got {self.max_points}. The default is 60000.")
        held_out(1, self.holdout_every)


@dataclasses.dataclass(frozen=True)
class Room:
    """A room as the sensor saw it; V frames of H x W pixels.

    Attributes:
        kind: Kind of room, "kitchen" for example.
        furnished: The geometry that was seen.
        intrinsic: Of all frames, pixels, the centre of the first pixel at (0, 0).
        world_from_camera: Poses, OpenCV axes, metres.
        color: RGB.
        depth: Measured z-depth, metres, 0 = missing.
        true_depth: Without noise and loss, metres.
        label: NYU40 id.
        instance: Object that a pixel sees, -1 = none.
        cloud: Fused from the frames that are not held out.
    """

    kind: str
    furnished: FurnishedRoom
    intrinsic: Float[np.ndarray, "3 3"]
    world_from_camera: Float[np.ndarray, "V 4 4"]
    color: UInt8[np.ndarray, "V H W 3"]
    depth: Float[np.ndarray, "V H W"]
    true_depth: Float[np.ndarray, "V H W"]
    label: UInt8[np.ndarray, "V H W"]
    instance: Int[np.ndarray, "V H W"]
    cloud: Cloud


@dataclasses.dataclass(frozen=True)
class _View:
    color: np.ndarray
    depth: np.ndarray
    true_depth: np.ndarray
    primitive: np.ndarray
    point: np.ndarray
    normal: np.ndarray


def generate_room(seed: int, split: str, index: int, settings: RoomSettings | None = None) -> Room:
    """The room of this number: a function of its arguments alone.

    Args:
        seed: Of the data set, not negative.
        split: "train", "val" or "test"; rooms of two splits differ.
        index: Number of the room within its split, not negative; neighbours differ in kind.
        settings: Sizes and numbers; the defaults when None.

    Raises:
        ValueError: an argument is out of range.
    """
    settings = RoomSettings() if settings is None else settings
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}: got {split!r}. Use one of these names.")
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index must not be negative: got {seed} and {index}. Count from 0.")
    kind = ROOM_KINDS[index % len(ROOM_KINDS)]
    height, width = settings.image_size
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng([seed, SPLITS.index(split), index, attempt])
        furnished = furnish(kind, rng)
        poses = sample_poses(furnished, settings.num_frames, height / width, settings.field_of_view_deg, rng)
        if poses is not None:
            return _scan(kind, furnished, poses, settings, rng)
    raise RuntimeError(f"No {kind} with space for a camera in {_ATTEMPTS} attempts: seed {seed}, {split} {index}.")


def save_room(room: Room, root: Path, split: str, scene: str, settings: RoomSettings, **facts: object) -> None:
    """Write a room in the standard layout, whole or not at all, over an old one; ``facts`` go into ``scene.json``."""
    with new_scene(root, split, scene, overwrite=True) as staging:
        write_intrinsics(staging, scene, room.intrinsic, settings.image_size)
        for i in range(len(room.color)):
            write_frame(
                staging,
                scene,
                i,
                color=room.color[i],
                depth=room.depth[i],
                camera_to_world=room.world_from_camera[i],
                label=room.label[i],
            )
        cloud = room.cloud
        write_scene_json(staging, scene, holdout_every=settings.holdout_every, kind=room.kind, **facts)
        write_scene(
            staging,
            split,
            scene,
            coord=cloud.coord,
            color=cloud.color,
            normal=cloud.normal,
            segment20=scannet20_from_nyu40(cloud.label),
            segment200=np.full(len(cloud.coord), -1),
            instance=cloud.instance,
        )


def _scan(
    kind: str, furnished: FurnishedRoom, poses: np.ndarray, settings: RoomSettings, rng: np.random.Generator
) -> Room:
    sensor = Sensor()
    intrinsic = pinhole(settings.image_size, settings.field_of_view_deg)
    views = [_look(furnished, intrinsic, pose, settings.image_size, sensor, rng) for pose in poses]
    primitive = np.stack([view.primitive for view in views])
    label = np.append(furnished.primitives.label, 0).astype(np.uint8)[primitive]
    instance = np.append(furnished.primitives.instance, -1)[primitive]
    is_fused = (
        np.stack([view.depth > 0 for view in views]) & ~held_out(len(views), settings.holdout_every)[:, None, None]
    )
    coord = np.concatenate(
        [_unproject(view, pose)[used] for view, pose, used in zip(views, poses, is_fused, strict=True)]
    )
    depth = np.stack([view.depth for view in views])
    color = np.stack([view.color for view in views])
    cloud = fuse(
        coord,
        color[is_fused],
        np.stack([view.normal for view in views])[is_fused],
        label[is_fused],
        instance[is_fused],
        sensor.sigma(depth[is_fused]) ** -2,
        voxel_size=settings.voxel_size,
        max_points=settings.max_points,
        rng=rng,
    )
    true_depth = np.stack([view.true_depth for view in views])
    return Room(kind, furnished, intrinsic, poses, color, depth, true_depth, label, instance, cloud)


def _look(
    furnished: FurnishedRoom,
    intrinsic: np.ndarray,
    pose: np.ndarray,
    size: tuple[int, int],
    sensor: Sensor,
    rng: np.random.Generator,
) -> _View:
    """One frame: geometry, light and sensor."""
    primitives = furnished.primitives
    depth, primitive = cast_view(primitives, intrinsic, pose, size)
    hit = primitive.ravel()  # a room is closed: every pixel sees something
    rows, columns = np.mgrid[: size[0], : size[1]]
    pixel = np.stack([columns, rows, np.ones(size)], axis=-1).reshape(-1, 3)
    ray = pixel @ (pose[:3, :3] @ np.linalg.inv(intrinsic)).T
    surface = describe_hits(primitives, hit, pose[:3, 3] + ray * depth.reshape(-1, 1))
    cosine = -np.einsum("ri,ri->r", ray, surface.normal) / np.linalg.norm(ray, axis=1)
    footprint = depth.ravel() / intrinsic[0, 0] / np.maximum(cosine, 0.15)
    material = primitives.material[hit]
    light = irradiance(furnished.lights, surface.point, surface.normal, furnished.size, furnished.obstacles)
    color = tone(albedo(furnished.materials, material, surface, footprint) * light)
    missing = np.array([entry.missing for entry in furnished.materials])[material]
    return _View(
        color=measure_color(sensor, color.reshape(*size, 3), rng),
        depth=measure_depth(sensor, depth, cosine.reshape(size), missing.reshape(size), rng),
        true_depth=depth,
        primitive=primitive,
        point=surface.point.reshape(*size, 3),
        normal=surface.normal.reshape(*size, 3),
    )


def _unproject(view: _View, pose: np.ndarray) -> Float[np.ndarray, "H W 3"]:
    """Where the measured depth puts each pixel: on the ray to its true point."""
    share = view.depth / view.true_depth
    return pose[:3, 3] + (view.point - pose[:3, 3]) * share[..., None]
