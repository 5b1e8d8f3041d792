"""Samples placed by a bound on the error that they make in the opacity (VolSDF)."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pointcept.registry import MODELS
from pointcept.rendering.samplers import RayProbe, RaySamples, Sampler, UniformSampler, merge, resample
from pointcept.rendering.weights import VolSDFWeighting, laplace_density, weights_from_density
from pointcept.structures import RayBatch

_MAX_GROWTH = 1e6
_ROUND_STREAM = 31  # and one more for each further round


@MODELS.register()
class ErrorBoundedSampler(Sampler):
    """Adds samples where the bound on the opacity's error is large, then draws from the weights (VolSDF, algorithm 1).

    The bound shrinks as the scale beta of the density grows. Each ray starts with the beta at which its uniform samples
    are good enough, adds samples, and finds by bisection how much smaller beta may be, until the weighting's own beta
    is reached or the rounds are over. A ray that is done early gets intervals without length, so the work is the same
    for all, no ray depends on others, and nothing is read back from the device.

    Args:
        num_samples: Intervals drawn from the weights.
        num_evaluated: Uniform intervals at the start, and intervals added in each round.
        num_extra: Uniform intervals added at the end.
        error: Bound on the error of the opacity.
        num_bisections: Steps of the search for beta.
        num_rounds: Evaluations of the SDF.
    """

    def __init__(
        self,
        num_samples: int = 64,
        num_evaluated: int = 128,
        num_extra: int = 32,
        error: float = 0.1,
        num_bisections: int = 10,
        num_rounds: int = 5,
    ) -> None:
        if not error > 0:
            raise ValueError(f"error must be positive: got {error}.")
        if num_samples < 1 or num_rounds < 1:
            raise ValueError(f"num_samples and num_rounds must be at least 1: got {num_samples} and {num_rounds}.")
        self.uniform = UniformSampler(num_evaluated)
        self.extra = UniformSampler(num_extra)
        self.num_samples = num_samples
        self.error = error
        self.num_bisections = num_bisections
        self.num_rounds = num_rounds

    @torch.no_grad()
    def __call__(self, rays: RayBatch, probe: RayProbe, seed: Int[Tensor, "B"] | None) -> RaySamples:
        """Intervals for every ray, jittered where a seed is given.

        Raises:
            ValueError: the weights are not VolSDF's, which the bound is for.
        """
        if not isinstance(probe.weighting, VolSDFWeighting):
            raise ValueError(
                f"ErrorBoundedSampler needs VolSDFWeighting: got {type(probe.weighting).__name__}. "
                "Use NeuSSampler with other weightings."
            )
        goal = probe.weighting.beta
        samples = self.uniform(rays, probe, seed)
        beta = (samples.lengths.square().sum(dim=-1) / (4 * math.log1p(self.error))).sqrt()  # lemma 2
        sdf = probe.query_sdf(samples.starts)
        for number in range(self.num_rounds):
            nearest = nearest_distance(sdf, samples.lengths)
            beta = self._smallest_beta(goal, beta, sdf, nearest, samples.lengths)
            if number + 1 == self.num_rounds:
                break
            is_unfinished = (beta > goal)[..., None]
            weights = opacity_error(beta, sdf, nearest, samples.lengths)
            added = resample(samples, weights, self.uniform.num_samples, seed, stream=_ROUND_STREAM + number)
            added = RaySamples(edges=torch.where(is_unfinished, added.edges, samples.edges[..., -1:]))
            new_sdf = probe.query_sdf(added.starts)
            samples, order = merge(samples, added)
            sdf = torch.cat((sdf, new_sdf), dim=-1).gather(-1, order)
        weights = weights_from_density(laplace_density(sdf, beta[..., None]), samples.lengths)
        drawn = resample(samples, weights, self.num_samples, seed, stream=_ROUND_STREAM + self.num_rounds)
        return merge(drawn, self.extra(rays, probe, seed))[0]

    def _smallest_beta(
        self,
        goal: Float[Tensor, ""],
        beta: Float[Tensor, "B R"],
        sdf: Float[Tensor, "B R S"],
        nearest: Float[Tensor, "B R S"],
        length: Float[Tensor, "B R S"],
    ) -> Float[Tensor, "B R"]:
        reached = opacity_error(goal.expand_as(beta), sdf, nearest, length).amax(dim=-1) <= self.error
        high = torch.where(reached, goal, beta)
        low = goal.expand_as(high)
        for _ in range(self.num_bisections):
            middle = 0.5 * (low + high)
            good = opacity_error(middle, sdf, nearest, length).amax(dim=-1) <= self.error
            high, low = torch.where(good, middle, high), torch.where(good, low, middle)
        return high


def nearest_distance(sdf: Float[Tensor, "*batch S"], length: Float[Tensor, "*batch S"]) -> Float[Tensor, "*batch S"]:
    """Lower bound of the distance between an interval and the surface, from the SDF at its ends (VolSDF, theorem 1).

    No surface lies within balls of the radii |sdf| around both ends. Where the sign changes the bound is 0. The last
    interval, whose end was not evaluated, has that of the one before.
    """
    side, first, second = length[..., :-1], sdf[..., :-1].abs(), sdf[..., 1:].abs()
    half = 0.5 * (side + first + second)
    area = (half * (half - side) * (half - first) * (half - second)).clamp(min=0).sqrt()  # Heron's formula
    height = torch.where(first + second > side, 2 * area / side.clamp(min=1e-12), torch.zeros_like(side))
    height = torch.where(side.square() + second.square() <= first.square(), second, height)
    height = torch.where(side.square() + first.square() <= second.square(), first, height)
    height = torch.where(sdf[..., :-1] * sdf[..., 1:] > 0, height, torch.zeros_like(height))
    return torch.cat((height, height[..., -1:]), dim=-1)


def opacity_error(
    beta: Float[Tensor, "*batch"],
    sdf: Float[Tensor, "*batch S"],
    nearest: Float[Tensor, "*batch S"],
    length: Float[Tensor, "*batch S"],
) -> Float[Tensor, "*batch S"]:
    """Bound on the error of the opacity up to each interval, its density taken as constant (VolSDF, eq. 15).

    Args:
        beta: Scale of the Laplace density, metres.
        sdf: Signed distance at the starts of the intervals, metres.
        nearest: What ``nearest_distance`` gives for them, metres.
        length: Their lengths, metres.
    """
    scale = beta[..., None]
    thickness = laplace_density(sdf, scale) * length
    before = torch.cumsum(thickness, dim=-1) - thickness
    section = torch.exp(-nearest / scale) * length.square() / (4 * scale.square())
    growth = torch.exp(torch.cumsum(section, dim=-1)).clamp(max=_MAX_GROWTH) - 1
    return growth * torch.exp(-before)
