"""Samples placed by what is known before rendering: measured depth, and which voxels hold input points."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pointcept.registry import MODELS
from pointcept.rendering.samplers import (
    RayProbe,
    RaySamples,
    Sampler,
    UniformSampler,
    merge,
    resample,
    stratified_edges,
)
from pointcept.structures import FeatureVolume, RayBatch

_BAND_STREAM = 41
_FREE_STREAM = 42
_OCCUPANCY_STREAM = 43


@MODELS.register()
class DepthGuidedSampler(Sampler):
    """Most samples around the measured surface, some in the free space before it, the rest along the whole ray.

    A ray whose surface was not measured, or lies outside the scene's box, gets as many uniform intervals. It needs no
    query of the field. In evaluation nothing is measured, and a renderer that used the depth would be scored on its
    own input: there ``unmeasured`` takes its place.

    Args:
        num_band: Intervals within ``band_m`` of the measured surface.
        num_free: Intervals between the start of the ray and the band.
        num_uniform: Intervals along the whole ray, which also cover what is behind the surface.
        band_m: Half width of the band, metres; best that of the losses' truncation.
        unmeasured: Sampler for when there are no measurements; None gives uniform intervals, as many as above.
    """

    def __init__(
        self,
        num_band: int = 24,
        num_free: int = 12,
        num_uniform: int = 12,
        band_m: float = 0.2,
        unmeasured: Sampler | None = None,
    ) -> None:
        if min(num_band, num_free) < 1:
            raise ValueError(f"num_band and num_free must be at least 1: got {num_band} and {num_free}.")
        if not band_m > 0:
            raise ValueError(f"band_m must be positive, metres: got {band_m}.")
        self.num_band, self.num_free, self.band_m = num_band, num_free, band_m
        self.share = UniformSampler(num_uniform)
        self.uniform = UniformSampler(num_band + num_free + num_uniform)
        self.unmeasured = self.uniform if unmeasured is None else unmeasured

    @torch.no_grad()
    def __call__(self, rays: RayBatch, probe: RayProbe, seed: Int[Tensor, "B"] | None) -> RaySamples:
        """Intervals for every ray, jittered where a seed is given."""
        if probe.measured is None:
            return self.unmeasured(rays, probe, seed)
        distance = probe.measured
        is_known = (distance > rays.near) & (distance < rays.far)
        distance = torch.where(is_known, distance, rays.far)
        begin = torch.maximum(distance - self.band_m, rays.near)
        end = torch.minimum(distance + self.band_m, rays.far)

        def between(low: Tensor, high: Tensor, count: int, stream: int) -> RaySamples:
            share = stratified_edges(rays, count, seed, stream=stream)
            return RaySamples(edges=low[..., None] + (high - low)[..., None] * share)

        band = between(begin, end, self.num_band, _BAND_STREAM)
        free = between(rays.near, begin, self.num_free, _FREE_STREAM)
        guided = merge(merge(band, free)[0], self.share(rays, probe, seed))[0]
        uniform = self.uniform(rays, probe, seed)
        return RaySamples(edges=torch.where(is_known[..., None], guided.edges, uniform.edges))


@MODELS.register()
class OccupancySampler(Sampler):
    """Skips empty space: intervals where the ray passes voxels that hold input points, or neighbours of such.

    It needs no query of the field. A ray that meets no such voxel is sampled uniformly.

    Args:
        num_samples: Intervals per ray.
        num_probes: Equally spaced places per ray at which the voxels are looked up; best about one per voxel.
        empty_share: Fraction of the intervals spread over the whole ray, because the cloud is not complete.
    """

    def __init__(self, num_samples: int = 64, num_probes: int = 128, empty_share: float = 0.2) -> None:
        if num_samples < 2:
            raise ValueError(f"num_samples must be at least 2 to form neighbours: got {num_samples}.")
        if not 0 < empty_share <= 1:
            raise ValueError(f"empty_share must be above 0 and at most 1: got {empty_share}.")
        self.num_samples = num_samples
        self.probes = UniformSampler(num_probes)
        self.empty_share = empty_share

    @torch.no_grad()
    def __call__(self, rays: RayBatch, probe: RayProbe, seed: Int[Tensor, "B"] | None) -> RaySamples:
        """Intervals for every ray, jittered where a seed is given.

        Raises:
            ValueError: the volume does not know which of its voxels hold points.
        """
        if probe.is_occupied is None:
            raise ValueError(
                "OccupancySampler needs a volume that knows its occupied voxels: got one without. "
                "Use PointVolumeEncoder, or set FeatureVolume.occupied."
            )
        grid = self.probes(rays, probe, None)
        occupied = probe.is_occupied(grid.middles).to(grid.edges.dtype)
        occupied = occupied / occupied.sum(dim=-1, keepdim=True).clamp(min=1)
        weights = (1 - self.empty_share) * occupied + self.empty_share / occupied.shape[-1]
        return resample(grid, weights, self.num_samples, seed, stream=_OCCUPANCY_STREAM)


def grow(occupied: Bool[Tensor, "B Z Y X"]) -> Bool[Tensor, "B Z Y X"]:
    """The voxels that are occupied or touch one that is."""
    return torch.nn.functional.max_pool3d(occupied.to(torch.float32), kernel_size=3, stride=1, padding=1) > 0


def look_up(
    volume: FeatureVolume, values: Bool[Tensor, "B Z Y X"], positions: Float[Tensor, "B M 3"]
) -> Bool[Tensor, "B M"]:
    """Value of the voxel at each position (metres, world frame); False outside the grid."""
    voxel = ((positions - volume.box[:, None, 0]) / volume.voxel_size[:, None]).floor()
    size_x, size_y, size_z = volume.grid_shape
    x, y, z = voxel.unbind(-1)
    inside = (x >= 0) & (x < size_x) & (y >= 0) & (y < size_y) & (z >= 0) & (z < size_z)
    index = (z.clamp(0, size_z - 1) * size_y + y.clamp(0, size_y - 1)) * size_x + x.clamp(0, size_x - 1)
    return values.flatten(1).gather(1, index.long()) & inside
