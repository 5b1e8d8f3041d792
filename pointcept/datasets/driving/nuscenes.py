"""nuScenes: the tables of the data set, read directly, and its sweeps."""

import functools
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from pointcept.datasets.driving.base import DrivingDataset, DrivingIndex, rigid
from pointcept.datasets.transforms.compose import Transform
from pointcept.registry import DATASETS

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
_LIDAR = "LIDAR_TOP"
_SWEEP_WIDTH = 5  # x, y, z, intensity, ring

_logger = logging.getLogger("pointcept")

# The official validation scenes; all others of v1.0-trainval are for training.
_VALIDATION_RANGES = (
    (3, 3), (12, 18), (35, 36), (38, 39), (92, 110), (221, 221), (268, 278), (329, 332), (344, 346), (519, 524),
    (552, 565), (625, 627), (629, 630), (632, 638), (770, 771), (775, 775), (777, 778), (780, 784), (794, 800),
    (802, 802), (904, 917), (919, 931), (962, 963), (966, 969), (971, 972), (1059, 1073),
)  # fmt: skip
VALIDATION_SCENES = frozenset(
    f"scene-{number:04d}" for first, last in _VALIDATION_RANGES for number in range(first, last + 1)
)
MINI_VALIDATION_SCENES = frozenset(("scene-0103", "scene-0916"))
SPLITS = {
    "v1.0-trainval": {"train": (VALIDATION_SCENES, False), "val": (VALIDATION_SCENES, True)},
    "v1.0-mini": {"mini_train": (MINI_VALIDATION_SCENES, False), "mini_val": (MINI_VALIDATION_SCENES, True)},
    "v1.0-test": {"test": (frozenset(), False)},
}
"""For each version its official splits: a set of scenes, and whether the split is that set or all others."""


@DATASETS.register()
class NuScenesDrivingDataset(DrivingDataset):
    """Key frames of nuScenes: the LiDAR sweep and the images of six cameras, posed at their own times.

    Reads the data set as it is downloaded: ``<data_root>/<version>/*.json``, ``samples/LIDAR_TOP``,
    ``samples/CAM_*``. The world of a sample is the ego frame at the time of its sweep (x forward, y left, z up).

    Args:
        data_root: Folder of the data set.
        version: Folder of the tables.
        split: An official split of the version (``"train"`` and ``"val"``, ``"mini_train"`` and ``"mini_val"``,
            ``"test"``), ``"all"``, or names of scenes.
        cameras: Which cameras, in this order.
        transform: Applied in this order.
        image_size: Height and width of the views. Images are scaled to this width, and rows that are too many are cut
            off at the top, where the sky is; None keeps the files' size.
        lidar_split: As of :class:`DrivingDataset`: ``"train"`` and ``"heldout"`` hold wedges of the sweep out.
        min_range_m: Points nearer to the LiDAR, horizontally, are left out: they lie on the car itself.
        max_range_m: Points farther from it are left out; None keeps all.
        condition: Name of the data set, for prompt-driven norms.
        loop: How often an epoch passes over the samples.

    Raises:
        FileNotFoundError: a table does not exist.
        ValueError: the tables do not fit together, or lack a scene or a camera.
    """

    def __init__(
        self,
        *,
        data_root: str | Path = "data/nuscenes",
        version: str = "v1.0-trainval",
        split: str | Sequence[str] = "train",
        cameras: Sequence[str] = CAMERAS,
        transform: Sequence[Transform] = (),
        image_size: Sequence[int] | None = None,
        lidar_split: Literal["all", "train", "heldout"] = "all",
        min_range_m: float | int = 3.0,
        max_range_m: float | int | None = None,
        condition: str = "nuScenes",
        loop: int = 1,
    ) -> None:
        root = Path(data_root).expanduser()
        wanted = split if isinstance(split, str) else tuple(split)
        super().__init__(
            root,
            read_index(root / version, wanted, tuple(cameras)),
            transform=transform,
            image_size=image_size,
            lidar_split=lidar_split,
            min_range_m=min_range_m,
            max_range_m=max_range_m,
            condition=condition,
            loop=loop,
        )

    def read_sweep(self, path: Path) -> tuple[Float[np.ndarray, "_N 3"], Float[np.ndarray, "_N"]]:
        """Points in the LiDAR's frame, and their intensity."""
        values = np.fromfile(path, dtype="<f4")
        if len(values) % _SWEEP_WIDTH:
            raise ValueError(
                f"A sweep must hold {_SWEEP_WIDTH} float32 per point: {path} has {path.stat().st_size} bytes. Download "
                "it again."
            )
        points = values.reshape(-1, _SWEEP_WIDTH)
        return points[:, :3].astype(np.float64), points[:, 3] / 255


def read_index(folder: Path, split: str | tuple[str, ...], cameras: tuple[str, ...]) -> DrivingIndex:
    """The key frames of the scenes of a split, by scene and time.

    Raises:
        FileNotFoundError: a table does not exist.
        ValueError: the split is unknown, a scene, camera or record is missing, or a camera has distortion.
    """
    tables = _read_tables(folder)
    names = _chosen_scenes({scene["name"] for scene in tables["scene"].values()}, split, folder)
    rows = []
    for token, frames in tables["frames"].items():
        sample = _record(tables, "sample", token, folder)
        scene = _record(tables, "scene", sample["scene_token"], folder)["name"]
        if scene in names:
            rows.append((scene, sample["timestamp"], token, frames))
    rows.sort(key=lambda row: row[:2])
    for scene, _, token, frames in rows:
        absent = [channel for channel in (_LIDAR, *cameras) if channel not in frames]
        if absent:
            raise ValueError(
                f"Every sample must have a key frame of each sensor: sample {token!r} of {scene} in {folder} has none "
                f"of {', '.join(absent)}, and {', '.join(sorted(frames))}. Correct cameras, or complete the tables."
            )
    poses = {
        channel: _poses(tables, [frames[channel] for *_, frames in rows], folder) for channel in (_LIDAR, *cameras)
    }
    # The world of a sample is the ego frame at the time of the sweep.
    world_from_lidar, global_from_world = (poses[_LIDAR][name] for name in ("ego_from_sensor", "global_from_ego"))
    camera_from_world = [
        np.linalg.inv(poses[camera]["global_from_ego"] @ poses[camera]["ego_from_sensor"]) @ global_from_world
        for camera in cameras
    ]
    return DrivingIndex(
        name=[f"{scene}-{timestamp}" for scene, timestamp, *_ in rows],
        sweep=[frames[_LIDAR]["filename"] for *_, frames in rows],
        image=[[frames[camera]["filename"] for camera in cameras] for *_, frames in rows],
        camera=cameras,
        world_from_cloud=world_from_lidar,
        lidar_position=world_from_lidar[:, :3, 3],
        camera_from_world=np.stack(camera_from_world, axis=1),
        intrinsic=np.stack([poses[camera]["intrinsic"] for camera in cameras], axis=1),
    )


def _chosen_scenes(names: set[str], split: str | tuple[str, ...], folder: Path) -> set[str]:
    if split == "all":
        return names
    if isinstance(split, tuple):
        unknown = sorted(set(split) - names)
        if unknown or not split:
            raise ValueError(
                f"split must name scenes of the tables: {folder} has no {', '.join(unknown) or 'scene for no names'}. "
                f"It has {len(names)} scenes, such as {min(names, default='none')!r}."
            )
        return set(split)
    known = SPLITS.get(folder.name, {})
    if split not in known:
        raise ValueError(
            f"split must be one of {', '.join([*known, 'all'])} for {folder.name}, or a list of scenes: got {split!r}."
        )
    scenes, inside = known[split]
    return names & scenes if inside else names - scenes


@functools.lru_cache(maxsize=2)  # training and validation read the same tables
def _read_tables(folder: Path) -> dict[str, dict]:
    """Records by token, of what key frames need alone; and ``frames``: the key frames of each sample by channel."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"The tables of nuScenes must be a folder: {folder} does not exist. Correct data_root and version, or "
            "download the metadata."
        )
    _logger.info("Reading the tables of %s; those of all of nuScenes take a minute.", folder)
    tables: dict[str, dict] = {
        "scene": _read_table(folder, "scene", ("name",)),
        "sample": _read_table(folder, "sample", ("timestamp", "scene_token")),
        "sensor": _read_table(folder, "sensor", ("channel",)),
        "calibrated_sensor": _read_table(
            folder, "calibrated_sensor", ("sensor_token", "translation", "rotation", "camera_intrinsic")
        ),
    }
    fields = ("sample_token", "ego_pose_token", "calibrated_sensor_token", "is_key_frame", "filename")
    frames: dict[str, dict[str, dict]] = {}
    for record in _read_table(folder, "sample_data", fields).values():
        if record["is_key_frame"]:
            calibration = _record(tables, "calibrated_sensor", record["calibrated_sensor_token"], folder)
            channel = _record(tables, "sensor", calibration["sensor_token"], folder)["channel"]
            frames.setdefault(record["sample_token"], {})[channel] = record
    used = {record["ego_pose_token"] for sample in frames.values() for record in sample.values()}
    poses = _read_table(folder, "ego_pose", ("translation", "rotation"))
    tables["ego_pose"] = {token: record for token, record in poses.items() if token in used}
    tables["frames"] = frames
    return tables


def _read_table(folder: Path, name: str, fields: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    path = folder / f"{name}.json"
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        for record in records:
            absent = [field for field in ("token", *fields) if field not in record]
            if absent:
                raise ValueError(f"a record lacks {', '.join(absent)}")
    except FileNotFoundError:
        raise FileNotFoundError(f"nuScenes needs the table {path}: it does not exist. Download the metadata.") from None
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} must be a JSON list of records with token, {', '.join(fields)}: {error}. Download it again."
        ) from error
    # The tables hold millions of records, and other fields than these would take gigabytes.
    kept = ("token", *fields, "camera_distortion")
    return {record["token"]: {key: record[key] for key in kept if key in record} for record in records}


def _record(tables: dict[str, dict], table: str, token: str, folder: Path) -> dict[str, Any]:
    if token not in tables[table]:
        raise ValueError(
            f"The tables of {folder} must fit together: {table}.json has no record {token!r}. Download the metadata as "
            "a whole."
        )
    return tables[table][token]


def _poses(tables: dict[str, dict], frames: list[dict[str, Any]], folder: Path) -> dict[str, np.ndarray]:
    """Pose and calibration of one sensor in each sample."""
    calibrations = [_record(tables, "calibrated_sensor", frame["calibrated_sensor_token"], folder) for frame in frames]
    egos = [_record(tables, "ego_pose", frame["ego_pose_token"], folder) for frame in frames]
    for calibration in calibrations:
        if np.any(calibration.get("camera_distortion", ())):
            raise ValueError(
                f"Images must be free of distortion: calibrated_sensor.json of {folder} gives camera_distortion "
                f"{calibration['camera_distortion']} for {calibration['token']!r}. Undistort the images first."
            )
    try:
        return {
            "ego_from_sensor": _rigid(calibrations),
            "global_from_ego": _rigid(egos),
            "intrinsic": np.array([c["camera_intrinsic"] or np.eye(3) for c in calibrations], np.float64).reshape(
                -1, 3, 3
            ),
        }
    except ValueError as error:
        raise ValueError(
            f"Poses of {folder} must be a translation of 3 and a quaternion of 4 numbers, intrinsics 3 x 3: {error}. "
            "Download the metadata again."
        ) from error


def _rigid(records: list[dict[str, Any]]) -> np.ndarray:
    count = len(records)
    rotation = np.array([record["rotation"] for record in records], np.float64).reshape(count, 4)
    return rigid(rotation, np.array([record["translation"] for record in records], np.float64).reshape(count, 3))
