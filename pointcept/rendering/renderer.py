"""Differentiable rendering: a feature volume and rays become colour, depth, normals and features."""

import dataclasses
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pointcept.registry import MODELS
from pointcept.rendering.fields import SDFField
from pointcept.rendering.samplers import NeuSSampler, RaySamples, UniformSampler
from pointcept.structures import FeatureVolume, RayBatch
from pointcept.structures.base import TensorStruct


@dataclasses.dataclass(frozen=True)
class Rendering(TensorStruct):
    """What R rays of each of B scenes see, and the S samples per ray that it was made of.

    Attributes:
        color: RGB, 0..1, black where nothing was hit.
        distance: Expected distance along the ray, metres.
        opacity: Sum of the weights, 0..1.
        normal: Weighted mean of the unit normals, world frame; shorter than 1 where they disagree.
        feature: Rendered feature, or None.
        sample_distance: Distance along the ray at which the field was evaluated, metres.
        sdf: Signed distance there, metres.
        gradient: Its gradient in space.
        weight: Weight of each sample.
    """

    color: Float[Tensor, "B R 3"]
    distance: Float[Tensor, "B R"]
    opacity: Float[Tensor, "B R"]
    normal: Float[Tensor, "B R 3"]
    feature: Float[Tensor, "B R _F"] | None
    sample_distance: Float[Tensor, "B R S"]
    sdf: Float[Tensor, "B R S"]
    gradient: Float[Tensor, "B R S 3"]
    weight: Float[Tensor, "B R S"]


def neus_alpha(
    sdf: Float[Tensor, "*batch S"],
    cosine: Float[Tensor, "*batch S"],
    length: Float[Tensor, "*batch S"],
    sharpness: Float[Tensor, ""],
) -> Float[Tensor, "*batch S"]:
    """Opacity of each interval (NeuS, arXiv 2106.10689, eq. 13).

    Args:
        sdf: Signed distance at the sample, metres.
        cosine: Slope of the SDF along the ray; only approaching surfaces (negative) are opaque.
        length: Length of the interval, metres; the SDF is extrapolated by half of it to both sides.
        sharpness: Slope of the logistic function, 1/metre.
    """
    half_step = cosine.clamp(max=0) * length * 0.5
    entering = torch.sigmoid((sdf - half_step) * sharpness)
    leaving = torch.sigmoid((sdf + half_step) * sharpness)
    return ((entering - leaving + 1e-5) / (entering + 1e-5)).clamp(0, 1)


def weights_from_alpha(alpha: Float[Tensor, "*batch S"]) -> Float[Tensor, "*batch S"]:
    """Weight of each sample: its opacity times the transmittance of all samples before it."""
    transmittance = torch.cumprod(1 - alpha + 1e-7, dim=-1)
    return alpha * torch.cat((torch.ones_like(alpha[..., :1]), transmittance[..., :-1]), dim=-1)


def composite(values: Float[Tensor, "B R S _D"], weight: Float[Tensor, "B R S"]) -> Float[Tensor, "B R _D"]:
    """Weighted sum along each ray; colour, normals and features all use it."""
    return torch.einsum("brsd,brs->brd", values, weight)


@MODELS.register("NeuSModel")
class NeuSRenderer(nn.Module):
    """Renders a signed distance field by NeuS (arXiv 2106.10689), in float32 whatever the surrounding precision.

    Args:
        field: Signed distance, colour and features of the volume.
        sampler: Where along the rays the field is evaluated.
        sample_position: Evaluate at the middle of each interval, or at its start as PonderV2 does.
    """

    def __init__(
        self,
        field: SDFField,
        sampler: NeuSSampler | UniformSampler,
        sample_position: Literal["middle", "start"] = "middle",
    ) -> None:
        super().__init__()
        self.field = field
        self.sampler = sampler
        self.sample_position = sample_position

    def forward(self, volume: FeatureVolume, rays: RayBatch, seed: Int[Tensor, "B"] | None) -> Rendering:
        """Render the rays; ``seed`` jitters the samples (training), None places them evenly."""
        if rays.origins.shape[0] != volume.batch_size:
            raise ValueError(
                f"Rays and volume must hold the same scenes: got {rays.origins.shape[0]} and {volume.batch_size}."
            )
        with torch.autocast(device_type=volume.box.device.type, enabled=False):
            volume = volume.replace(features=volume.features.to(volume.box.dtype))
            rows = self.field.branches(volume)
            return self._render(volume, rows, rays, seed)

    def render_chunks(self, volume: FeatureVolume, rays: RayBatch, *, chunk_size: int) -> list[Rendering]:
        """Render many rays without gradients, ``chunk_size`` rays of each scene at a time, samples placed evenly."""
        with torch.no_grad(), torch.autocast(device_type=volume.box.device.type, enabled=False):
            volume = volume.replace(features=volume.features.to(volume.box.dtype))
            rows = self.field.branches(volume)
            renderings = []
            for start in range(0, rays.near.shape[1], chunk_size):
                part = slice(start, start + chunk_size)
                chunk = RayBatch(
                    origins=rays.origins[:, part],
                    directions=rays.directions[:, part],
                    near=rays.near[:, part],
                    far=rays.far[:, part],
                    valid=rays.valid[:, part],
                )
                renderings.append(self._render(volume, rows, chunk, None))
            return renderings

    def _render(
        self, volume: FeatureVolume, rows: tuple[Tensor, Tensor], rays: RayBatch, seed: Tensor | None
    ) -> Rendering:
        def query_sdf(distance: Float[Tensor, "B R S"]) -> Float[Tensor, "B R S"]:
            positions = _along(rays, distance)
            return self.field.query_sdf(volume, rows[0], positions.flatten(1, 2)).reshape(distance.shape)

        samples: RaySamples = self.sampler(rays, query_sdf, seed)
        distance = samples.middles if self.sample_position == "middle" else samples.starts
        positions = _along(rays, distance)
        directions = rays.directions[:, :, None].expand(positions.shape)
        field = self.field(volume, rows, positions.flatten(1, 2), directions.flatten(1, 2))

        shape = distance.shape
        sdf, gradient = field.sdf.reshape(shape), field.gradient.reshape(*shape, 3)
        cosine = (gradient * directions).sum(dim=-1)
        weight = weights_from_alpha(neus_alpha(sdf, cosine, samples.lengths, self.field.sharpness))
        opacity = weight.sum(dim=-1)
        expected = (weight * distance).sum(dim=-1) / (opacity + 1e-10)
        feature = None
        if field.feature is not None:
            hidden = composite(field.feature.reshape(*shape, -1), weight)
            feature = self.field.decode_feature(hidden, opacity)
        return Rendering(
            color=composite(field.color.reshape(*shape, 3), weight),
            distance=expected.clamp(min=rays.near, max=rays.far),
            opacity=opacity,
            normal=composite(torch.nn.functional.normalize(gradient, dim=-1), weight),
            feature=feature,
            sample_distance=distance,
            sdf=sdf,
            gradient=gradient,
            weight=weight,
        )


def _along(rays: RayBatch, distance: Float[Tensor, "B R S"]) -> Float[Tensor, "B R S 3"]:
    return rays.origins[:, :, None] + rays.directions[:, :, None] * distance[..., None]
