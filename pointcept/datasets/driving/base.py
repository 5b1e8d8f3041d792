"""What readers of driving data share: a sweep and its images as one sample, with LiDAR depth in every view."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64
from scipy.spatial.transform import Rotation

from pointcept.datasets.frame_files import crop_resize, read_image, resized_intrinsic
from pointcept.datasets.protocol import SampleDataset
from pointcept.datasets.transforms.compose import Transform
from pointcept.structures import PointSample, Views

LIDAR_SPLITS = ("all", "train", "heldout")
WEDGE_RAD = np.deg2rad(2.0)
HOLDOUT_EVERY = 8
"""Of every so many wedges of azimuth around the sensor the last is held out."""

_NEAREST_DEPTH_M = 0.1


@dataclasses.dataclass(frozen=True)
class DrivingIndex:
    """Where the data of S samples lie and how V cameras and the LiDAR stand to each other.

    The world of a sample is the car's own frame at the time of its sweep: x forward, y left, z up where the data set
    says so, the origin on the ground. Cameras are posed at the times of their own images.

    Attributes:
        name: S names, for messages and file names.
        sweep: S files of the LiDAR, below the data set's root.
        image: S lists of V files, below the data set's root.
        camera: V names.
        world_from_cloud: (S, 4, 4), from the frame in which the sweep's file gives its points.
        lidar_position: (S, 3), of the sensor in the world, metres.
        camera_from_world: (S, V, 4, 4), OpenCV axes, metres.
        intrinsic: (S, V, 3, 3), pixels of the image files, the centre of the first pixel at (0, 0).
    """

    name: list[str]
    sweep: list[str]
    image: list[list[str]]
    camera: tuple[str, ...]
    world_from_cloud: Float64[np.ndarray, "S 4 4"]
    lidar_position: Float64[np.ndarray, "S 3"]
    camera_from_world: Float64[np.ndarray, "S V 4 4"]
    intrinsic: Float64[np.ndarray, "S V 3 3"]

    def __len__(self) -> int:
        return len(self.name)


class DrivingDataset(SampleDataset):
    """One sample per LiDAR sweep: its points with their intensity, and the images nearest in time, with LiDAR depth.

    ``coord`` and the views are in the car's frame at the time of the sweep. Point data is ``strength`` (N, 1), the
    intensity, 0..1. The depth of a pixel is that of the nearest point that falls on it; most pixels have none.

    Args:
        data_root: Folder of the data set.
        index: Its samples.
        transform: Applied in this order.
        image_size: Height and width of the views. Images are scaled to this width, and rows that are too many are cut
            off at the top, where the sky is; None keeps the files' size.
        lidar_split: Where there are no other samples to evaluate on: of every 8 wedges of 2 degrees of azimuth around
            the LiDAR the last is held out. ``"train"``: the views have the depth of the other points alone;
            ``"heldout"``: of the points held out alone; the cloud never has those. ``"all"`` holds nothing out.
        min_range_m: Points nearer to the LiDAR, horizontally, are left out: they lie on the car itself.
        max_range_m: Points farther from it are left out; None keeps all.
        condition: Name of the data set, for prompt-driven norms.
        loop: How often an epoch passes over the samples.

    Raises:
        FileNotFoundError: ``data_root`` does not exist.
        ValueError: there is no sample, or an argument is out of range.
    """

    def __init__(
        self,
        data_root: Path,
        index: DrivingIndex,
        *,
        transform: Sequence[Transform],
        image_size: Sequence[int] | None,
        lidar_split: Literal["all", "train", "heldout"],
        min_range_m: float | int,
        max_range_m: float | int | None,
        condition: str,
        loop: int,
    ) -> None:
        if len(index) == 0:
            raise ValueError(
                f"A split must hold at least one sample: {data_root} has none of it. Choose another split."
            )
        if image_size is not None and (len(image_size) != 2 or min(image_size) < 1):
            raise ValueError(f"image_size must be (height, width) in pixels: got {image_size}.")
        if lidar_split not in LIDAR_SPLITS:
            raise ValueError(f"lidar_split must be one of {', '.join(LIDAR_SPLITS)}: got {lidar_split!r}.")
        if min_range_m < 0 or (max_range_m is not None and max_range_m <= min_range_m):
            raise ValueError(
                f"min_range_m must not be negative and max_range_m larger: got {min_range_m} and {max_range_m}."
            )
        super().__init__(range(len(index)), transform=transform, loop=loop)
        self.data_root = data_root
        self.index = index
        self.image_size = None if image_size is None else (int(image_size[0]), int(image_size[1]))
        self.lidar_split = lidar_split
        self.min_range_m = min_range_m
        self.max_range_m = max_range_m
        self.condition = condition

    def read_sweep(self, path: Path) -> tuple[Float[np.ndarray, "_N 3"], Float[np.ndarray, "_N"]]:
        """Position (metres, the file's frame) and intensity (0..1) of the points of a sweep."""
        raise NotImplementedError

    def read(self, scene: int, rng: np.random.Generator) -> PointSample:
        """One sweep and its images; there is nothing to choose."""
        index = self.index
        path = self.data_root / index.sweep[scene]
        if not path.is_file():
            raise FileNotFoundError(
                f"The sweep of sample {index.name[scene]!r} must exist: {path} does not. Download the part of the data "
                "set that holds it, or choose scenes whose files are there with split=[...]."
            )
        points, strength = self.read_sweep(path)
        is_finite = np.isfinite(points).all(axis=1)
        if len(points) == 0 or not is_finite.all():
            raise ValueError(
                f"A sweep must hold finite points: {path} has {len(points)}, {int((~is_finite).sum())} of them not "
                "finite. Download it again."
            )
        world_from_cloud = index.world_from_cloud[scene]
        coord = points @ world_from_cloud[:3, :3].T + world_from_cloud[:3, 3]
        offset = coord - index.lidar_position[scene]
        distance = np.hypot(offset[:, 0], offset[:, 1])
        keep = distance >= self.min_range_m
        if self.max_range_m is not None:
            keep &= distance <= self.max_range_m
        if not keep.any():
            raise ValueError(
                f"Some points of a sweep must lie between min_range_m = {self.min_range_m} and max_range_m = "
                f"{self.max_range_m}: of {path} none of {len(points)} does. Change them."
            )
        coord, strength, offset = coord[keep], strength[keep], offset[keep]
        is_held_out = held_out_azimuth(offset) if self.lidar_split != "all" else np.zeros(len(coord), bool)
        shown = is_held_out if self.lidar_split == "heldout" else ~is_held_out
        return PointSample(
            coord=coord[~is_held_out].astype(np.float32),
            point={"strength": strength[~is_held_out].astype(np.float32)[:, None]},
            scene={"name": index.name[scene], "condition": self.condition},
            views=self._read_views(scene, coord[shown]),
        )

    def _read_views(self, scene: int, points: Float[np.ndarray, "M 3"]) -> Views:
        images, depths, intrinsics = [], [], []
        for file, extrinsic, intrinsic in zip(
            self.index.image[scene], self.index.camera_from_world[scene], self.index.intrinsic[scene], strict=True
        ):
            image = read_image(self.data_root / file)
            size = (image.height, image.width)
            if not (0 <= intrinsic[0, 2] < size[1] and 0 <= intrinsic[1, 2] < size[0]):
                raise ValueError(
                    f"The principal point must lie in the image: {self.data_root / file} of {size[0]} x {size[1]} "
                    f"pixels (height x width) has ({intrinsic[0, 2]:.1f}, {intrinsic[1, 2]:.1f}). The images must have "
                    "the size that they were calibrated at; image_size scales them, and the intrinsics with them."
                )
            if self.image_size is not None:
                box, intrinsic = fitted_to_width(size, self.image_size, intrinsic, self.data_root / file)
                image, size = crop_resize(image, box, self.image_size), self.image_size
            images.append(np.asarray(image))
            intrinsics.append(intrinsic)
            depths.append(lidar_depth(points, extrinsic, intrinsic, size))
        return Views(
            image=images,
            depth=depths,
            intrinsic=np.stack(intrinsics),
            extrinsic=self.index.camera_from_world[scene].copy(),
            name=self.index.camera,
        )


def lidar_depth(
    points: Float[np.ndarray, "M 3"],
    camera_from_world: Float[np.ndarray, "4 4"],
    intrinsic: Float[np.ndarray, "3 3"],
    size_px: tuple[int, int],
) -> Float32[np.ndarray, "_H _W"]:
    """z-depth of the nearest point that falls on each pixel, metres; 0 where none does.

    Args:
        points: Position, metres, world frame.
        camera_from_world: OpenCV axes, metres.
        intrinsic: Of an image of this size, the centre of the first pixel at (0, 0).
        size_px: Height and width.
    """
    height, width = size_px
    in_camera = points @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
    in_camera = in_camera[in_camera[:, 2] >= _NEAREST_DEPTH_M]
    z = in_camera[:, 2]
    column, row = np.floor((in_camera @ intrinsic.T)[:, :2].T / z + 0.5)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    pixel = (row[inside] * width + column[inside]).astype(np.int64)
    depth = np.full(height * width, np.inf, dtype=np.float32)
    np.minimum.at(depth, pixel, z[inside].astype(np.float32))
    depth[np.isinf(depth)] = 0
    return depth.reshape(height, width)


def held_out_azimuth(offset: Float[np.ndarray, "N 3"]) -> Bool[np.ndarray, "N"]:
    """Which points, seen from the sensor, lie in a wedge of azimuth that is held out.

    Whole wedges, because the neighbours of a single point on its ring would give its depth away.
    """
    wedge = np.floor(np.arctan2(offset[:, 1], offset[:, 0]) / WEDGE_RAD).astype(np.int64)
    return wedge % HOLDOUT_EVERY == HOLDOUT_EVERY - 1


def fitted_to_width(
    size_px: tuple[int, int], new_size_px: tuple[int, int], intrinsic: Float[np.ndarray, "3 3"], path: Path
) -> tuple[tuple[float, float, float, float], Float[np.ndarray, "3 3"]]:
    """The lower part of an image that has the new size's proportions (left, top, right, bottom), and its intrinsics.

    Raises:
        ValueError: the image is too low for that.
    """
    height, width = size_px
    kept = new_size_px[0] * width / new_size_px[1]
    if kept > height + 0.5:
        raise ValueError(
            f"image_size must be at most as high as the image scaled to its width: {path} of {height} x {width} pixels "
            f"(height x width) cannot fill {new_size_px[0]} x {new_size_px[1]}. Choose fewer rows."
        )
    top = max(0.0, height - kept)
    lower = np.array([[1, 0, 0], [0, 1, -top], [0, 0, 1.0]]) @ intrinsic
    box = (0.0, top, float(width), float(height))
    return box, resized_intrinsic(lower, (height - top, float(width)), new_size_px)


def rigid(rotation_wxyz: Float[np.ndarray, "*S 4"], translation: Float[np.ndarray, "*S 3"]) -> np.ndarray:
    """Matrices (*S, 4, 4) of rotations given as quaternions (w, x, y, z) and translations, metres."""
    matrix = np.zeros((*np.shape(translation)[:-1], 4, 4))
    quaternion = np.asarray(rotation_wxyz, dtype=np.float64)[..., [1, 2, 3, 0]].reshape(-1, 4)
    matrix[..., :3, :3] = Rotation.from_quat(quaternion).as_matrix().reshape(*matrix.shape[:-2], 3, 3)
    matrix[..., :3, 3], matrix[..., 3, 3] = translation, 1
    return matrix
