"""Small typed containers for samples, batches, rays and volumes."""

from pointcept.structures.cameras import CameraBatch
from pointcept.structures.origin import OriginBatch
from pointcept.structures.points import PointBatch
from pointcept.structures.rays import RayBatch, RayTargets
from pointcept.structures.sample import PointSample, Views
from pointcept.structures.scenes import SceneBatch
from pointcept.structures.volume import FeatureVolume

__all__ = [
    "CameraBatch",
    "FeatureVolume",
    "OriginBatch",
    "PointBatch",
    "PointSample",
    "RayBatch",
    "RayTargets",
    "SceneBatch",
    "Views",
]
