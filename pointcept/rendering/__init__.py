"""Differentiable volume rendering: rays, samplers, fields, renderers and losses."""

from pointcept.rendering.background import SkyColor
from pointcept.rendering.error_bounded import ErrorBoundedSampler
from pointcept.rendering.feature_losses import FeatureCosineLoss, RayContrastLoss, SemanticLoss
from pointcept.rendering.fields import SDFField
from pointcept.rendering.guided_samplers import DepthGuidedSampler, OccupancySampler
from pointcept.rendering.losses import (
    ColorLoss,
    DepthLoss,
    EikonalLoss,
    FreeSpaceLoss,
    NormalLoss,
    RenderingLoss,
    SDFLoss,
    SmoothnessLoss,
)
from pointcept.rendering.rays import RaySampler
from pointcept.rendering.renderer import NeuSRenderer, Rendering, VolumeRenderer
from pointcept.rendering.samplers import NeuSSampler, RayProbe, UniformSampler
from pointcept.rendering.schedules import WeightRamp
from pointcept.rendering.weights import DensityWeighting, NeuSWeighting, UniSurfWeighting, VolSDFWeighting

__all__ = [
    "ColorLoss",
    "DensityWeighting",
    "DepthGuidedSampler",
    "DepthLoss",
    "EikonalLoss",
    "ErrorBoundedSampler",
    "FeatureCosineLoss",
    "FreeSpaceLoss",
    "NeuSRenderer",
    "NeuSSampler",
    "NeuSWeighting",
    "NormalLoss",
    "OccupancySampler",
    "RayContrastLoss",
    "RayProbe",
    "RaySampler",
    "Rendering",
    "RenderingLoss",
    "SDFField",
    "SDFLoss",
    "SemanticLoss",
    "SkyColor",
    "SmoothnessLoss",
    "UniSurfWeighting",
    "UniformSampler",
    "VolSDFWeighting",
    "VolumeRenderer",
    "WeightRamp",
]
