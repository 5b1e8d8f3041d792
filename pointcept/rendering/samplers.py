"""Where along each ray the field is evaluated."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pointcept.ops import random
from pointcept.registry import MODELS
from pointcept.rendering.weights import Weighting, weights_from_alpha
from pointcept.structures import RayBatch
from pointcept.structures.base import TensorStruct

_STRATIFIED_STREAM = 21
_IMPORTANCE_STREAM = 22


@dataclasses.dataclass(frozen=True)
class RayProbe:
    """What a sampler may ask about its rays. Anything but the SDF can be unknown; samplers say what they do then.

    Attributes:
        query_sdf: Gives the SDF (metres), without a gradient, at distances (metres) along the rays.
        weighting: Turns the SDF into weights; None if unknown.
        measured: Measured distance to the surface along each ray, metres, 0 = not measured. None if there are no
            measurements, as in evaluation.
        is_occupied: Whether the voxels at distances (metres) along the rays, or their neighbours, hold input points;
            None if unknown.
    """

    query_sdf: Callable[[Float[Tensor, "B R S"]], Float[Tensor, "B R S"]]
    weighting: Weighting | None = None
    measured: Float[Tensor, "B R"] | None = None
    is_occupied: Callable[[Float[Tensor, "B R S"]], Bool[Tensor, "B R S"]] | None = None


@dataclasses.dataclass(frozen=True)
class RaySamples(TensorStruct):
    """S intervals along each ray, in order, without gaps.

    Attributes:
        edges: Distances along the ray at which the intervals begin, and the end of the last, metres.
    """

    edges: Float[Tensor, "B R _E"]

    @property
    def starts(self) -> Float[Tensor, "B R S"]:
        """Distance at which each interval begins, metres."""
        return self.edges[..., :-1]

    @property
    def middles(self) -> Float[Tensor, "B R S"]:
        """Middle of each interval, metres."""
        return 0.5 * (self.edges[..., :-1] + self.edges[..., 1:])

    @property
    def lengths(self) -> Float[Tensor, "B R S"]:
        """Length of each interval, metres."""
        return self.edges[..., 1:] - self.edges[..., :-1]


class Sampler:
    """Base of the samplers: chooses the intervals of each ray. Numbers are drawn only where a seed is given."""

    def __call__(self, rays: RayBatch, probe: RayProbe, seed: Int[Tensor, "B"] | None) -> RaySamples:
        """Intervals for every ray.

        Args:
            rays: The rays; all, also invalid ones, have ``far > near``.
            probe: What is known along them.
            seed: One number per scene, to jitter the samples (training); None places them evenly (evaluation).
        """
        raise NotImplementedError


@MODELS.register()
class UniformSampler(Sampler):
    """Intervals of equal length between near and far; jittered edges where a seed is given (stratified).

    Args:
        num_samples: Intervals per ray.
        spacing: What is equally spaced: the distance ("linear"), its inverse ("disparity") or its logarithm ("log").
            The latter two put more samples near the camera.
    """

    def __init__(self, num_samples: int = 64, spacing: Literal["linear", "disparity", "log"] = "linear") -> None:
        if num_samples < 2:
            raise ValueError(f"num_samples must be at least 2 to form neighbours: got {num_samples}.")
        if spacing not in ("linear", "disparity", "log"):
            raise ValueError(f"spacing must be 'linear', 'disparity' or 'log': got {spacing!r}.")
        self.num_samples = num_samples
        self.spacing = spacing

    def __call__(self, rays: RayBatch, probe: RayProbe, seed: Int[Tensor, "B"] | None) -> RaySamples:
        """Intervals for every ray; ``probe`` is not used."""
        share = stratified_edges(rays, self.num_samples, seed, stream=_STRATIFIED_STREAM)
        near, far = rays.near[..., None], rays.far[..., None]
        if self.spacing == "linear":
            return RaySamples(edges=near + (far - near) * share)
        near = near.clamp(min=1e-4 * far)  # neither the inverse nor the logarithm of 0 exists
        if self.spacing == "disparity":
            return RaySamples(edges=1 / ((1 - share) / near + share / far))
        return RaySamples(edges=near * (far / near) ** share)


@MODELS.register()
class NeuSSampler(Sampler):
    """Uniform intervals, then more where the SDF changes sign (NeuS, arXiv 2106.10689, section 3.3 and appendix).

    The importance pass asks only for the SDF, without gradients, in the same frame as the field.

    Args:
        num_samples: Uniform intervals per ray.
        num_importance: Intervals added per ray.
        sharpness: Slope of the logistic function with which the coarse SDF is turned into opacity, 1/metre.
        coarse: Takes the place of the uniform intervals, for example an ``OccupancySampler``; ``num_samples`` is then
            not used.
    """

    def __init__(
        self,
        num_samples: int = 96,
        num_importance: int = 36,
        sharpness: float = 64.0,
        coarse: Sampler | None = None,
    ) -> None:
        if num_importance < 1:
            raise ValueError(f"num_importance must be at least 1: got {num_importance}. Use UniformSampler without it.")
        self.coarse = UniformSampler(num_samples) if coarse is None else coarse
        self.num_importance = num_importance
        self.sharpness = sharpness

    @torch.no_grad()
    def __call__(self, rays: RayBatch, probe: RayProbe, seed: Int[Tensor, "B"] | None) -> RaySamples:
        """Intervals for every ray, jittered where a seed is given."""
        coarse = self.coarse(rays, probe, seed)
        weights = coarse_weights(probe.query_sdf(coarse.starts), coarse.starts, self.sharpness)
        fine = resample(coarse, weights, self.num_importance, seed, stream=_IMPORTANCE_STREAM)
        return merge(coarse, fine)[0]


def stratified_edges(
    rays: RayBatch, num_samples: int, seed: Int[Tensor, "B"] | None, *, stream: int
) -> Float[Tensor, "B R _E"]:
    """Edges of equal intervals of 0..1, each moved within half an interval where a seed is given."""
    num_rays = rays.near.shape[1]
    edges = torch.linspace(0, 1, num_samples + 1, device=rays.near.device, dtype=rays.near.dtype)
    edges = edges.expand(rays.near.shape[0], num_rays, -1)
    if seed is None:
        return edges
    centers = 0.5 * (edges[..., 1:] + edges[..., :-1])
    lower = torch.cat((edges[..., :1], centers), dim=-1)
    upper = torch.cat((centers, edges[..., -1:]), dim=-1)
    shift = random.uniform(seed, (num_rays, num_samples + 1), stream=stream)
    return lower + (upper - lower) * shift.to(edges.dtype)


def resample(
    samples: RaySamples,
    weights: Float[Tensor, "B R S"],
    count: int,
    seed: Int[Tensor, "B"] | None,
    *,
    stream: int,
) -> RaySamples:
    """``count`` intervals whose edges follow the weights of others; one edge lies in each of ``count + 1`` strata."""
    number = count + 1
    if seed is None:
        shift = torch.full_like(samples.edges[..., :1], 0.5).expand(*samples.edges.shape[:2], number)
    else:
        shift = random.uniform(seed, (samples.edges.shape[1], number), stream=stream)
    quantile = (torch.arange(number, device=shift.device) + shift.to(samples.edges.dtype)) / number
    return RaySamples(edges=invert_histogram(samples.edges, weights, quantile))


def merge(first: RaySamples, second: RaySamples) -> tuple[RaySamples, Int[Tensor, "B R _S"]]:
    """Intervals that begin wherever one of either set does, and where each start was in both sets' starts together."""
    starts, order = torch.cat((first.starts, second.starts), dim=-1).sort(dim=-1)
    end = torch.maximum(first.edges[..., -1:], second.edges[..., -1:])
    return RaySamples(edges=torch.cat((starts, end), dim=-1)), order


def coarse_weights(
    sdf: Float[Tensor, "*batch S"], distance: Float[Tensor, "*batch S"], sharpness: float
) -> Float[Tensor, "*batch S"]:
    """Rendering weights from SDF values alone; the slope between neighbours stands in for the gradient.

    Between neighbours the smaller of the last two slopes is used, clipped to [-1000, 0], as in NeuS's released sampler.
    The last sample has no successor and weight 0.
    """
    previous_sdf, next_sdf = sdf[..., :-1], sdf[..., 1:]
    step = distance[..., 1:] - distance[..., :-1]
    slope = (next_sdf - previous_sdf) / (step + 1e-5)
    before = torch.cat((torch.zeros_like(slope[..., :1]), slope[..., :-1]), dim=-1)
    slope = torch.minimum(before, slope).clamp(-1e3, 0.0)
    middle = 0.5 * (previous_sdf + next_sdf)
    entering = torch.sigmoid((middle - 0.5 * slope * step) * sharpness)
    leaving = torch.sigmoid((middle + 0.5 * slope * step) * sharpness)
    alpha = (entering - leaving + 1e-5) / (entering + 1e-5)
    return torch.cat((weights_from_alpha(alpha), torch.zeros_like(alpha[..., :1])), dim=-1)


def invert_histogram(
    edges: Float[Tensor, "*batch _E"], weights: Float[Tensor, "*batch S"], quantile: Float[Tensor, "*batch Q"]
) -> Float[Tensor, "*batch Q"]:
    """Positions at which the cumulative histogram reaches each quantile (inverse transform sampling).

    A ray whose weights sum to less than 1e-5 has the difference spread evenly, so that it is sampled uniformly.
    """
    deficit = (1e-5 - weights.sum(dim=-1, keepdim=True)).clamp(min=0)
    weights = weights + deficit / weights.shape[-1]
    probability = weights / weights.sum(dim=-1, keepdim=True)
    cumulative = torch.cumsum(probability, dim=-1).clamp(max=1.0)
    cumulative = torch.cat((torch.zeros_like(cumulative[..., :1]), cumulative), dim=-1).contiguous()
    last = edges.shape[-1] - 1
    above = torch.searchsorted(cumulative, quantile.contiguous(), right=True).clamp(max=last)
    below = (above - 1).clamp(min=0)
    low, high = cumulative.gather(-1, below), cumulative.gather(-1, above)
    width = high - low
    share = (quantile - low) / torch.where(width < 1e-5, torch.ones_like(width), width)
    left, right = edges.gather(-1, below), edges.gather(-1, above)
    return left + share.clamp(0, 1) * (right - left)
