"""Differentiable volume rendering: rays, samplers, fields, renderers and losses."""

from pointcept.rendering.error_bounded import ErrorBoundedSampler
from pointcept.rendering.fields import SDFField
from pointcept.rendering.losses import (
    ColorLoss,
    DepthLoss,
    EikonalLoss,
    FreeSpaceLoss,
    RayContrastLoss,
    RenderingLoss,
    SDFLoss,
)
from pointcept.rendering.rays import RaySampler
from pointcept.rendering.renderer import NeuSRenderer, Rendering, VolumeRenderer
from pointcept.rendering.samplers import NeuSSampler, RayProbe, UniformSampler
from pointcept.rendering.weights import DensityWeighting, NeuSWeighting, UniSurfWeighting, VolSDFWeighting

__all__ = [
    "ColorLoss",
    "DepthLoss",
    "DensityWeighting",
    "EikonalLoss",
    "ErrorBoundedSampler",
    "FreeSpaceLoss",
    "NeuSRenderer",
    "NeuSSampler",
    "NeuSWeighting",
    "RayContrastLoss",
    "RayProbe",
    "RaySampler",
    "Rendering",
    "RenderingLoss",
    "SDFField",
    "SDFLoss",
    "UniSurfWeighting",
    "UniformSampler",
    "VolSDFWeighting",
    "VolumeRenderer",
]
