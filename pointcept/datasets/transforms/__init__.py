"""Transforms of samples: each returns a changed copy and takes its randomness from the generator it is given."""

from pointcept.datasets.transforms.color import (
    ChromaticAutoContrast,
    ChromaticJitter,
    ChromaticTranslation,
    NormalizeColor,
)
from pointcept.datasets.transforms.compose import EmptyCloudError, Transform, apply_transforms
from pointcept.datasets.transforms.feature_maps import LoadFeatureMaps
from pointcept.datasets.transforms.features import Collect
from pointcept.datasets.transforms.geometry import (
    CenterShift,
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
    "EmptyCloudError",
    "GridSample",
    "LoadFeatureMaps",
    "NormalizeColor",
    "PointRangeFilter",
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
    "Transform",
    "UnifyLabels",
    "apply_transforms",
]
