"""Driving data: LiDAR sweeps with the images of the cameras around the car."""

from pointcept.datasets.driving.base import DrivingDataset, DrivingIndex
from pointcept.datasets.driving.nuscenes import NuScenesDrivingDataset
from pointcept.datasets.driving.pandaset import PandaSetDrivingDataset

__all__ = ["DrivingDataset", "DrivingIndex", "NuScenesDrivingDataset", "PandaSetDrivingDataset"]
