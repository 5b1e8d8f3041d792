"""Readers of data sets, transforms of their samples, and collation to batches."""

from pointcept.datasets.base import SceneDataset
from pointcept.datasets.collate import collate
from pointcept.datasets.concat import ConcatDataset
from pointcept.datasets.driving import NuScenesDrivingDataset, PandaSetDrivingDataset
from pointcept.datasets.frames import HOLDOUT_EVERY
from pointcept.datasets.indoor import S3DISDataset, ScanNet200Dataset, ScanNetDataset, Structured3DDataset
from pointcept.datasets.lidar import NuScenesDataset, SemanticKITTIDataset
from pointcept.datasets.mixed import MixedDataset
from pointcept.datasets.point_files import PointFileDataset
from pointcept.datasets.rgbd import RGBDSceneDataset
from pointcept.datasets.synthetic_rooms import SyntheticRoomDataset

__all__ = [
    "HOLDOUT_EVERY",
    "ConcatDataset",
    "MixedDataset",
    "NuScenesDataset",
    "NuScenesDrivingDataset",
    "PandaSetDrivingDataset",
    "PointFileDataset",
    "RGBDSceneDataset",
    "S3DISDataset",
    "ScanNet200Dataset",
    "ScanNetDataset",
    "SceneDataset",
    "SemanticKITTIDataset",
    "Structured3DDataset",
    "SyntheticRoomDataset",
    "collate",
]
