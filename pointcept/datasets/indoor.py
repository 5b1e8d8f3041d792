"""The indoor benchmarks in Pointcept's layout: ScanNet, ScanNet200, S3DIS and Structured3D."""

import functools
from collections.abc import Sequence
from pathlib import Path

from pointcept.datasets.base import SceneDataset
from pointcept.datasets.label_lists import only_listed, read_scene_names
from pointcept.datasets.transforms.compose import Transform
from pointcept.registry import DATASETS


@DATASETS.register()
class ScanNetDataset(SceneDataset):
    """ScanNet with the 20 classes of its benchmark: ``<data_root>/<split>/<scene>/*.npy``, or ``<scene>.pth``.

    Args:
        split: As of :class:`SceneDataset`: ``train``, ``val`` or ``test``.
        data_root: Folder of the data set.
        transform: Applied in this order.
        condition: Name of the data set, for prompt-driven norms.
        loop: How often an epoch passes over the scenes.
        lr_file: Text file of the scenes to use, one per line (limited scenes); None uses all of the split.
        la_file: File of the points of each scene whose labels may be used (limited annotations), as
            ``labelled_points`` of :class:`CloudDataset`; None uses all labels.

    Raises:
        FileNotFoundError: a split or a file does not exist.
        ValueError: a split is empty, or a list does not suit it.
    """

    segment_file = "segment20"
    label_set = "scannet20"

    def __init__(
        self,
        *,
        split: str | Sequence[str] = "train",
        data_root: str | Path = "data/scannet",
        transform: Sequence[Transform] = (),
        condition: str = "ScanNet",
        loop: int = 1,
        lr_file: str | Path | None = None,
        la_file: str | Path | None = None,
    ) -> None:
        self._listed = None if lr_file is None else Path(lr_file)
        super().__init__(
            split=split,
            data_root=data_root,
            transform=transform,
            segment_key=self.segment_file,
            condition=condition,
            loop=loop,
            labelled_points=la_file,
            class_names=self.label_set,
        )

    def select(self, scenes: list[Path]) -> list[Path]:
        """The scenes that ``lr_file`` lists, or all."""
        return scenes if self._listed is None else only_listed(scenes, read_scene_names(self._listed), self._listed)


@DATASETS.register()
class ScanNet200Dataset(ScanNetDataset):
    """ScanNet's clouds with 200 classes (``segment200.npy``); everything else is as of :class:`ScanNetDataset`."""

    segment_file = "segment200"
    label_set = "scannet200"


class _RoomDataset(SceneDataset):
    """Rooms in folders that are part of their names, with classes in ``segment.npy``; what the two below share."""

    label_set: str
    joint: str

    def __init__(
        self,
        *,
        split: str | Sequence[str],
        data_root: str | Path,
        transform: Sequence[Transform] = (),
        condition: str,
        loop: int = 1,
        labelled_points: str | Path | None = None,
    ) -> None:
        super().__init__(
            split=split,
            data_root=data_root,
            transform=transform,
            segment_key="segment",
            condition=condition,
            loop=loop,
            labelled_points=labelled_points,
            class_names=self.label_set,
        )

    def name_of(self, scene: Path) -> str:
        """Names of the folder and of the room in it."""
        return f"{scene.parent.name}{self.joint}{super().name_of(scene)}"


@DATASETS.register()
class S3DISDataset(_RoomDataset):
    """S3DIS, ``<data_root>/<area>/<room>/*.npy`` or ``<room>.pth``; a room is named ``Area_5-office_1``.

    Args:
        split: One or more of ``Area_1`` .. ``Area_6``. Testing on one area and training on the others, for each area in
            turn, is 6-fold cross-validation.
        data_root: Folder of the data set.
        transform: Applied in this order.
        condition: Name of the data set, for prompt-driven norms.
        loop: How often an epoch passes over the rooms.
        labelled_points: As of :class:`CloudDataset`.

    Raises:
        FileNotFoundError: an area or a file does not exist.
        ValueError: an area is empty.
    """

    label_set = "s3dis"
    joint = "-"
    __init__ = functools.partialmethod(
        _RoomDataset.__init__,
        split=("Area_1", "Area_2", "Area_3", "Area_4", "Area_6"),
        data_root="data/s3dis",
        condition="S3DIS",
    )


@DATASETS.register()
class Structured3DDataset(_RoomDataset):
    """Structured3D, ``<data_root>/<split>/<scene>/<room>/*.npy`` or ``<room>.pth``, with 25 classes.

    Args:
        split: As of :class:`SceneDataset`: ``train``, ``val`` or ``test``.
        data_root: Folder of the data set.
        transform: Applied in this order.
        condition: Name of the data set, for prompt-driven norms.
        loop: How often an epoch passes over the rooms.
        labelled_points: As of :class:`CloudDataset`.

    Raises:
        FileNotFoundError: a split or a file does not exist.
        ValueError: a split is empty.
    """

    depth = 2
    label_set = "structured3d"
    joint = "_"
    __init__ = functools.partialmethod(
        _RoomDataset.__init__, split="train", data_root="data/structured3d", condition="Structured3D"
    )
