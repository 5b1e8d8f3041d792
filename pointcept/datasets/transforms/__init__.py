"""Transforms of samples: each returns a changed copy and takes its randomness from the generator it is given."""

from pointcept.datasets.transforms.color import (
    ChromaticAutoContrast,
    ChromaticJitter,
    ChromaticTranslation,
    NormalizeColor,
    RandomColorDrop,
)
from pointcept.datasets.transforms.compose import EmptyCloudError, Transform, apply_transforms
from pointcept.datasets.transforms.elastic import ElasticDistortion
from pointcept.datasets.transforms.feature_maps import LoadFeatureMaps
from pointcept.datasets.transforms.features import Collect, FillMissing, ToTensor
from pointcept.datasets.transforms.geometry import (
    CenterShift,
    PointClip,
    RandomFlip,
    RandomJitter,
    RandomRotate,
    RandomRotateTargetAngle,
    RandomScale,
    RandomShift,
)
from pointcept.datasets.transforms.labels import UnifyLabels
from pointcept.datasets.transforms.sampling import (
    GridSample,
    PointRangeFilter,
    RandomDropout,
    ShufflePoint,
    SphereCrop,
)
from pointcept.datasets.transforms.views import RandomViewColor, RandomViewCrop, RandomViewFlip

__all__ = [
    "CenterShift",
    "ChromaticAutoContrast",
    "ChromaticJitter",
    "ChromaticTranslation",
    "Collect",
    "ElasticDistortion",
    "EmptyCloudError",
    "FillMissing",
    "GridSample",
    "LoadFeatureMaps",
    "NormalizeColor",
    "PointClip",
    "PointRangeFilter",
    "RandomColorDrop",
    "RandomDropout",
    "RandomFlip",
    "RandomJitter",
    "RandomRotate",
    "RandomRotateTargetAngle",
    "RandomScale",
    "RandomShift",
    "RandomViewColor",
    "RandomViewCrop",
    "RandomViewFlip",
    "ShufflePoint",
    "SphereCrop",
    "ToTensor",
    "Transform",
    "UnifyLabels",
    "apply_transforms",
]
