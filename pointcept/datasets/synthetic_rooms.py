"""The embedded data set: synthetic rooms, made on first use and read like any other RGB-D scenes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pointcept.datasets.frames import HOLDOUT_EVERY
from pointcept.datasets.rgbd import RGBDSceneDataset
from pointcept.datasets.synthetic import RoomSettings, ensure_synthetic_rooms
from pointcept.datasets.transforms.compose import Transform
from pointcept.registry import DATASETS


@DATASETS.register()
class SyntheticRoomDataset(RGBDSceneDataset):
    """Furnished rooms with RGB-D frames; those that ``data_root`` does not hold yet are made when it is constructed.

    Data sets of one ``data_root`` (training and validation, say) must agree in everything from ``num_train`` to
    ``holdout_every``.

    Args:
        split: ``"train"`` or ``"val"``, or a JSON file in ``data_root`` that lists rooms such as ``"train/room_0000"``.
        data_root: Folder for the rooms.
        num_train: Rooms of the split "train".
        num_val: Rooms of the split "val".
        room_seed: Other seeds give other rooms.
        frame_size: Height and width of the frames, pixels.
        num_frames: Frames per room.
        holdout_every: Of every so many frames of a room the last is held out.
        transform: Applied in this order.
        num_views: Frames per item; 0 gives clouds alone.
        num_input_views: Frames per item that an encoder of images sees, other ones than the ``num_views``; 0: it sees
            those.
        view_split: ``"train"``: all but the held-out frames; ``"heldout"``: only those; ``"all"``: both.
        frame_interval: Of the frames of ``view_split``, every so many are used.
        segment_key: File of the points' class ids, without ``.npy``; None reads no labels, of views neither.
        condition: Name of the data set, for prompt-driven norms.
        loop: How often an epoch passes over the rooms.
        labelled_points: As of :class:`SceneDataset`.
        fraction: As of :class:`SceneDataset`.

    Raises:
        ValueError: an argument is out of range, or ``data_root`` holds other rooms.
    """

    def __init__(
        self,
        *,
        split: str | Sequence[str],
        data_root: str | Path = "data/synthetic_rooms",
        num_train: int = 32,
        num_val: int = 4,
        room_seed: int = 0,
        frame_size: Sequence[int] = (120, 160),
        num_frames: int = 24,
        holdout_every: int = HOLDOUT_EVERY,
        transform: Sequence[Transform] = (),
        num_views: int = 5,
        num_input_views: int = 0,
        view_split: Literal["train", "heldout", "all"] = "train",
        frame_interval: int = 1,
        segment_key: str | None = "segment20",
        condition: str = "SyntheticRooms",
        loop: int = 1,
        labelled_points: str | Path | None = None,
        fraction: float | int = 1.0,
    ) -> None:
        settings = RoomSettings(image_size=tuple(frame_size), num_frames=num_frames, holdout_every=holdout_every)
        super().__init__(
            split=split,
            data_root=ensure_synthetic_rooms(data_root, num_train, num_val, room_seed, settings=settings),
            transform=transform,
            num_views=num_views,
            num_input_views=num_input_views,
            view_split=view_split,
            holdout_every=holdout_every,
            frame_interval=frame_interval,
            segment_key=segment_key,
            condition=condition,
            loop=loop,
            labelled_points=labelled_points,
            fraction=fraction,
        )
