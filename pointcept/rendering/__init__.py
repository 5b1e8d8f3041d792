"""Differentiable volume rendering: rays, samplers, fields, renderers and losses."""

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
from pointcept.rendering.renderer import NeuSRenderer, Rendering
from pointcept.rendering.samplers import NeuSSampler, UniformSampler

__all__ = [
    "ColorLoss",
    "DepthLoss",
    "EikonalLoss",
    "FreeSpaceLoss",
    "NeuSRenderer",
    "NeuSSampler",
    "RayContrastLoss",
    "RaySampler",
    "Rendering",
    "RenderingLoss",
    "SDFField",
    "SDFLoss",
    "UniformSampler",
]
