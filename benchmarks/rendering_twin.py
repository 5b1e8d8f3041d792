"""The renderer written straight from the papers: what ``benchmarks.rendering`` measures the toolkit's against.

One scene after the other; a trilinear read of plain indexing, which autograd differentiates twice; the SDF's gradient
by autograd, so that training differentiates a derivative; every head, the 512-dimensional one too, at every sample.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pointcept.rendering.decoders import FieldDecoder
from pointcept.rendering.renderer import NeuSRenderer, Rendering
from pointcept.rendering.samplers import RayProbe
from pointcept.structures import FeatureVolume, RayBatch


def render(renderer: NeuSRenderer, volume: FeatureVolume, rays: RayBatch, seed: Tensor | None) -> Rendering:
    """What ``renderer`` renders, with its parameters and its sampler."""
    scenes = []
    for scene in range(volume.batch_size):
        part = slice(scene, scene + 1)
        scene_rays = RayBatch(**{name: value[part] for name, value in vars(rays).items()})
        scene_volume = FeatureVolume(volume.features[part], volume.box[part])
        scenes.append(_render_scene(renderer, scene_volume, scene_rays, None if seed is None else seed[part]))
    names = [name for name, value in vars(scenes[0]).items() if value is not None]
    return Rendering(**{name: torch.cat([getattr(scene, name) for scene in scenes]) for name in names})


def read(features: Tensor, box: Tensor, positions: Tensor) -> Tensor:
    """Trilinear values (M, C) of one volume (C, Z, Y, X) at positions (M, 3), zero outside."""
    channels = features.shape[0]
    shape = torch.tensor(features.shape[:0:-1], device=positions.device)
    place = (positions - box[0]) / (box[1] - box[0]) * shape - 0.5
    lower = place.detach().floor()
    fraction = place - lower
    flat = features.reshape(channels, -1)
    total = 0
    for corner in range(8):
        side = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2], device=positions.device)
        voxel = lower.long() + side
        weight = torch.where(side == 1, fraction, 1 - fraction).prod(dim=-1)
        weight = weight * ((voxel >= 0) & (voxel < shape)).all(dim=-1)
        x, y, z = torch.minimum(voxel.clamp(min=0), shape - 1).unbind(-1)
        total = total + flat[:, (z * shape[1] + y) * shape[0] + x] * weight
    return total.T


def decode(decoder: FieldDecoder, value: Tensor) -> Tensor:
    """What a decoder without a position input makes of its input, layer by layer."""
    hidden = decoder.inputs[0](value)
    for layer, following in zip(decoder.layers, decoder.inputs[1:], strict=True):
        hidden = layer(hidden)
        hidden = F.softplus(hidden, beta=100) if decoder.softplus else F.relu(hidden)
        hidden = hidden + following(value)
    return decoder.head(hidden)


def _render_scene(renderer: NeuSRenderer, volume: FeatureVolume, rays: RayBatch, seed: Tensor | None) -> Rendering:
    field = renderer.field
    geometry_volume, appearance_volume = volume.features[0].split(field.geometry_width)

    def along(distance: Tensor) -> Tensor:
        return (rays.origins[:, :, None] + rays.directions[:, :, None] * distance[..., None]).reshape(-1, 3)

    @torch.no_grad()
    def query_sdf(distance: Tensor) -> Tensor:
        geometry = read(geometry_volume, volume.box[0], along(distance))
        return decode(field.sdf_decoder, geometry)[:, 0].view(distance.shape)

    samples = renderer.sampler(rays, RayProbe(query_sdf), seed)
    distance = samples.middles
    positions = along(distance).requires_grad_()
    directions = rays.directions[:, :, None].expand(*distance.shape, 3)
    decoded = decode(field.sdf_decoder, read(geometry_volume, volume.box[0], positions))
    (gradient,) = torch.autograd.grad(decoded[:, 0].sum(), positions, create_graph=True)
    appearance = torch.cat((gradient, read(appearance_volume, volume.box[0], positions), decoded[:, 1:]), dim=-1)
    colored = torch.cat((appearance, directions.reshape(-1, 3)), dim=-1)
    color = torch.sigmoid(decode(field.color_decoder, colored)).view(*distance.shape, 3)
    feature = decode(field.feature_decoder, appearance).view(*distance.shape, -1)

    sdf, gradient = decoded[:, 0].view(distance.shape), gradient.view(*distance.shape, 3)
    slope = (gradient * directions).sum(dim=-1)
    weight = renderer.weighting(sdf, samples.lengths, slope)
    opacity = weight.sum(dim=-1)
    expected = (weight * distance).sum(dim=-1) / (opacity + 1e-10)
    return Rendering(
        color=(weight[..., None] * color).sum(dim=2),
        distance=expected.clamp(min=rays.near, max=rays.far),
        opacity=opacity,
        sample_distance=distance,
        sdf=sdf,
        weight=weight,
        normal=(weight[..., None] * F.normalize(gradient, dim=-1)).sum(dim=2),
        gradient=gradient,
        feature=(weight[..., None] * feature).sum(dim=2),
    )
