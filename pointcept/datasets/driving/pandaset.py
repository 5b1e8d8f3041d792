"""PandaSet: sequences of sweeps in world coordinates with the images of six cameras."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from pointcept.datasets.driving.base import DrivingDataset, DrivingIndex, rigid
from pointcept.datasets.transforms.compose import Transform
from pointcept.registry import DATASETS

CAMERAS = ("front_camera", "front_right_camera", "right_camera", "back_camera", "left_camera", "front_left_camera")


@DATASETS.register()
class PandaSetDrivingDataset(DrivingDataset):
    """Frames of PandaSet: the merged cloud of both LiDARs and the images of six cameras, posed at their own times.

    Reads ``<data_root>/<sequence>/camera`` and ``lidar/poses.json`` as they are downloaded. The clouds come as pickles,
    which are never opened here; ``docs/data/driving.md`` shows how they become ``converted/lidar_<frame>.npz``. The
    world of a sample is the car's frame at the time of its sweep (x right, y forward, z up).

    Args:
        data_root: Folder of the data set.
        split: Names of sequences, such as ``"002"``, or of frames of them, such as ``"002/00"``; ``"all"`` takes all
            that are converted.
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
        FileNotFoundError: a sequence, a frame or one of its tables does not exist.
        ValueError: a table is no such table.
    """

    def __init__(
        self,
        *,
        data_root: str | Path = "data/pandaset",
        split: str | Sequence[str] = "all",
        cameras: Sequence[str] = CAMERAS,
        transform: Sequence[Transform] = (),
        image_size: Sequence[int] | None = None,
        lidar_split: Literal["all", "train", "heldout"] = "all",
        min_range_m: float | int = 2.0,
        max_range_m: float | int | None = None,
        condition: str = "PandaSet",
        loop: int = 1,
    ) -> None:
        root = Path(data_root).expanduser()
        super().__init__(
            root,
            read_index(root, [split] if isinstance(split, str) else list(split), tuple(cameras)),
            transform=transform,
            image_size=image_size,
            lidar_split=lidar_split,
            min_range_m=min_range_m,
            max_range_m=max_range_m,
            condition=condition,
            loop=loop,
        )

    def read_sweep(self, path: Path) -> tuple[Float[np.ndarray, "_N 3"], Float[np.ndarray, "_N"]]:
        """Points in the sequence's frame, and their intensity."""
        try:
            with np.load(path, allow_pickle=False) as file:
                return file["xyz"].astype(np.float64).reshape(-1, 3), file["intensity"].reshape(-1) / 255
        except (OSError, ValueError, EOFError, KeyError) as error:
            raise ValueError(
                f"{path} must be an .npz file of xyz (N, 3) and intensity (N,): {error}. Convert the sweep again."
            ) from error


def read_index(root: Path, split: Sequence[str], cameras: tuple[str, ...]) -> DrivingIndex:
    """The frames of a split, by sequence and number.

    Raises:
        FileNotFoundError: a sequence, a frame or a table does not exist.
        ValueError: a table is no such table.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"data_root must hold sequences such as 002: {root} does not exist. Correct data_root.")
    if list(split) == ["all"]:
        split = sorted(path.parents[1].name for path in root.glob("*/converted/lidar_00.npz"))
    frames = [frame for name in split for frame in _frames(root, name)]
    ego, camera_from_world, intrinsic = [], [], []
    for sequence, number in frames:
        folder = root / sequence
        global_from_ego = _pose(folder / "lidar" / "poses.json", int(number))
        ego.append(global_from_ego)
        camera_from_world.append(
            [
                np.linalg.inv(_pose(folder / "camera" / camera / "poses.json", int(number))) @ global_from_ego
                for camera in cameras
            ]
        )
        intrinsic.append([_intrinsic(folder / "camera" / camera / "intrinsics.json") for camera in cameras])
    count = len(frames)
    return DrivingIndex(
        name=[f"{sequence}-{number}" for sequence, number in frames],
        sweep=[f"{sequence}/converted/lidar_{number}.npz" for sequence, number in frames],
        image=[[f"{sequence}/camera/{camera}/{number}.jpg" for camera in cameras] for sequence, number in frames],
        camera=cameras,
        world_from_cloud=np.linalg.inv(np.reshape(ego, (count, 4, 4))),
        lidar_position=np.zeros((count, 3)),
        camera_from_world=np.reshape(camera_from_world, (count, len(cameras), 4, 4)).astype(np.float64),
        intrinsic=np.reshape(intrinsic, (count, len(cameras), 3, 3)).astype(np.float64),
    )


def _frames(root: Path, name: str) -> list[tuple[str, str]]:
    sequence, _, number = name.partition("/")
    folder = root / sequence / "converted"
    found = sorted(path.stem.removeprefix("lidar_") for path in folder.glob("lidar_*.npz"))
    chosen = [one for one in found if number in ("", one)]
    if not chosen:
        raise FileNotFoundError(
            f"split must name converted sequences or frames below data_root: {root} has none of {name!r} (looked for "
            f"{folder}/lidar_{number or '*'}.npz, found {', '.join(found) or 'none'}). Convert the sweeps first."
        )
    return [(sequence, one) for one in chosen]


def _pose(path: Path, frame: int) -> np.ndarray:
    """world_from_sensor of a frame."""
    try:
        record = _read_json(path)[frame]
        place, turn = record["position"], record["heading"]
        return rigid(np.array([turn[axis] for axis in "wxyz"]), np.array([place[axis] for axis in "xyz"]))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} must be a list of position and heading with an entry for frame {frame}: {error!r}. Download it "
            "again."
        ) from error


def _intrinsic(path: Path) -> np.ndarray:
    try:
        values = {key: float(_read_json(path)[key]) for key in ("fx", "fy", "cx", "cy")}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} must hold fx, fy, cx and cy: {error!r}. Download it again.") from error
    return np.array([[values["fx"], 0, values["cx"]], [0, values["fy"], values["cy"]], [0, 0, 1]])


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"A sequence of PandaSet needs {path}: it does not exist. Download it again.") from None
