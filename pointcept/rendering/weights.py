"""How much each sample of a ray counts: NeuS, VolSDF, UniSurf and plain density behind one interface.

A weighting turns the field's values at the samples of a ray into weights that sum to at most 1. It owns what is learned
for that (a sharpness, a scale); the field knows nothing of it. All take the field's first output s, positive in free
space and negative inside things.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pointcept.registry import MODELS


class Weighting(nn.Module):
    """Base of the weightings.

    Attributes:
        needs_slope: Whether ``forward`` is better with the slope of the field along the ray.
    """

    needs_slope = False

    def forward(
        self,
        sdf: Float[Tensor, "B R S"],
        length: Float[Tensor, "B R S"],
        slope: Float[Tensor, "B R S"] | None,
    ) -> Float[Tensor, "B R S"]:
        """Weight of each sample.

        Args:
            sdf: The field's first output at the samples; metres where it is a signed distance.
            length: Length of the interval that the sample stands for, metres.
            slope: Derivative of the field along the ray, or None if the field has no gradient.
        """
        raise NotImplementedError


@MODELS.register()
class NeuSWeighting(Weighting):
    """Opacity from the decrease of a logistic function of the SDF over the interval (NeuS, arXiv 2106.10689, eq. 13).

    Without the slope the SDF at the ends of an interval is that between neighbouring samples (the discrete form).

    Args:
        initial_sharpness: Slope of the logistic function at the start, 1/metre. It is learned.
    """

    needs_slope = True

    def __init__(self, initial_sharpness: float = 20.0) -> None:
        super().__init__()
        _require_positive("initial_sharpness", initial_sharpness)
        self.log_sharpness = nn.Parameter(torch.tensor(initial_sharpness).log() / 10)

    @property
    def sharpness(self) -> Float[Tensor, ""]:
        """Slope of the logistic function that turns the SDF into opacity, 1/metre."""
        return torch.exp(10 * self.log_sharpness).clamp(1e-6, 1e6)

    def forward(
        self,
        sdf: Float[Tensor, "B R S"],
        length: Float[Tensor, "B R S"],
        slope: Float[Tensor, "B R S"] | None,
    ) -> Float[Tensor, "B R S"]:
        """Weight of each sample."""
        if slope is None:
            ends = 0.5 * (sdf[..., 1:] + sdf[..., :-1])
            ends = torch.cat((sdf[..., :1], ends, sdf[..., -1:]), dim=-1)
            slope = (ends[..., 1:] - ends[..., :-1]) / length.clamp(min=1e-6)
        return weights_from_alpha(neus_alpha(sdf, slope, length, self.sharpness))


@MODELS.register()
class VolSDFWeighting(Weighting):
    """Density from the Laplace distribution's cumulative function of the SDF (VolSDF, arXiv 2106.12052, eq. 2).

    Density (1/metre) is ``1/beta`` deep inside, half of that on the surface, and falls to 0 outside within ``beta``.

    Args:
        initial_beta_m: Scale of the distribution at the start, metres. It is learned.
        min_beta_m: Its lower bound, metres.
    """

    def __init__(self, initial_beta_m: float = 0.1, min_beta_m: float = 1e-4) -> None:
        super().__init__()
        _require_positive("min_beta_m", min_beta_m)
        _require_positive("initial_beta_m - min_beta_m", initial_beta_m - min_beta_m)
        self.raw_beta = nn.Parameter(torch.tensor(initial_beta_m - min_beta_m))
        self.min_beta_m = min_beta_m

    @property
    def beta(self) -> Float[Tensor, ""]:
        """Scale of the distribution, metres."""
        return self.raw_beta.abs() + self.min_beta_m

    def forward(
        self,
        sdf: Float[Tensor, "B R S"],
        length: Float[Tensor, "B R S"],
        slope: Float[Tensor, "B R S"] | None,
    ) -> Float[Tensor, "B R S"]:
        """Weight of each sample; the slope is not used."""
        return weights_from_density(laplace_density(sdf, self.beta), length)


@MODELS.register()
class UniSurfWeighting(Weighting):
    """Occupancy from a fixed logistic function of the field (UNISURF, arXiv 2104.10078, eq. 4).

    The weight does not depend on the interval's length: the first occupied sample hides those behind it.

    Args:
        sharpness: Slope of the logistic function, 1/metre.
    """

    def __init__(self, sharpness: float = 10.0) -> None:
        super().__init__()
        _require_positive("sharpness", sharpness)
        self.sharpness = sharpness

    def forward(
        self,
        sdf: Float[Tensor, "B R S"],
        length: Float[Tensor, "B R S"],
        slope: Float[Tensor, "B R S"] | None,
    ) -> Float[Tensor, "B R S"]:
        """Weight of each sample; lengths and slope are not used."""
        return weights_from_alpha(torch.sigmoid(-self.sharpness * sdf))


@MODELS.register()
class DensityWeighting(Weighting):
    """Plain density ``scale softplus(-s)``, 1/metre (NeRF, arXiv 2003.08934, with the softplus of Mip-NeRF).

    The field's first output is then no distance: terms that take it for one (SDF, free space, eikonal) do not apply.

    Args:
        scale: Density per unit of the field's output, 1/metre.
    """

    def __init__(self, scale: float = 10.0) -> None:
        super().__init__()
        _require_positive("scale", scale)
        self.scale = scale

    def forward(
        self,
        sdf: Float[Tensor, "B R S"],
        length: Float[Tensor, "B R S"],
        slope: Float[Tensor, "B R S"] | None,
    ) -> Float[Tensor, "B R S"]:
        """Weight of each sample; the slope is not used."""
        return weights_from_density(self.scale * F.softplus(-sdf), length)


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


def laplace_density(sdf: Float[Tensor, "*batch S"], beta: Float[Tensor, "*#scale"]) -> Float[Tensor, "*batch S"]:
    """``1/beta`` times the cumulative Laplace distribution of ``-sdf``, 1/metre (VolSDF, eq. 2 and 3).

    Args:
        sdf: Signed distance, metres.
        beta: Scale of the distribution, metres; broadcast against ``sdf``.
    """
    tail = 0.5 * torch.exp(-sdf.abs() / beta)
    return torch.where(sdf > 0, tail, 1 - tail) / beta


def weights_from_alpha(alpha: Float[Tensor, "*batch S"]) -> Float[Tensor, "*batch S"]:
    """Weight of each sample: its opacity times the transmittance of all samples before it.

    A product would be its own formula, but its gradient waits for the device to look for zeros.
    """
    thickness = -torch.log(1 - alpha + 1e-7)
    return alpha * torch.exp(-F.pad(thickness[..., :-1], (1, 0)).cumsum(-1))


def weights_from_density(
    density: Float[Tensor, "*batch S"], length: Float[Tensor, "*batch S"]
) -> Float[Tensor, "*batch S"]:
    """Weight of each sample of constant density (1/metre) over its interval (metres) (Max, 1995; NeRF, eq. 3)."""
    thickness = density * length
    before = torch.cumsum(thickness, dim=-1) - thickness
    return torch.exp(-before) * -torch.expm1(-thickness)


def _require_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be positive: got {value}.")
