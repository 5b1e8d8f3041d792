"""Readers of data sets, transforms of their samples, and collation to batches."""

from pointcept.datasets.base import SceneDataset
from pointcept.datasets.collate import collate
from pointcept.datasets.concat import ConcatDataset
from pointcept.datasets.driving import NuScenesDrivingDataset, PandaSetDrivingDataset
from pointcept.datasets.frames import HOLDOUT_EVERY
from pointcept.datasets.mixed import MixedDataset
from pointcept.datasets.rgbd import RGBDSceneDataset
from pointcept.datasets.synthetic_rooms import SyntheticRoomDataset

__all__ = [
    "HOLDOUT_EVERY",
    "ConcatDataset",
    "MixedDataset",
    "NuScenesDrivingDataset",
    "PandaSetDrivingDataset",
    "RGBDSceneDataset",
    "SceneDataset",
    "SyntheticRoomDataset",
    "collate",
]
