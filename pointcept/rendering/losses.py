"""What the rendering is compared with: one small class per term.

Each term gives a sum and the number of things summed; ``Ponder`` divides by the number over all processes, so that the
loss of a batch does not depend on how it is spread over them. Invalid rays and rays without a measurement contribute
neither to the sum nor to the number.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pointcept.registry import LOSSES
from pointcept.rendering.renderer import Rendering
from pointcept.rendering.schedules import WeightRamp
from pointcept.structures import RayBatch, RayTargets

SumAndCount = tuple[Float[Tensor, ""], Float[Tensor, ""]]


def masked_sum(value: Tensor, mask: Tensor) -> SumAndCount:
    """Sum of the values where ``mask`` holds, whatever the others are, and how many that were."""
    return torch.where(mask, value, torch.zeros_like(value)).sum(), mask.sum().to(value.dtype)


class RenderingLoss(nn.Module):
    """A weighted term of the rendering loss; ``name`` is its key in the logs.

    Args:
        weight: Factor of the term, a number or a function of the run's progress.

    Attributes:
        compares: Which part of the rendered feature it looks at: that which is compared with class embeddings, that
            which is compared with a teacher's features, or none.
    """

    name: str
    compares: Literal["class", "teacher"] | None = None

    def __init__(self, weight: float | WeightRamp) -> None:
        super().__init__()
        self.weight = weight

    @property
    def uses_labels(self) -> bool:
        """Whether its targets come from labels."""
        return self.compares == "class"

    def weight_at(self, progress: float | None) -> float:
        """Factor of the term when the fraction ``progress`` of the run is done; None if that is unknown.

        Raises:
            ValueError: the weight depends on a progress that is unknown.
        """
        if not isinstance(self.weight, WeightRamp):
            return float(self.weight)
        if progress is None:
            raise ValueError(
                f"The weight of {self.name} changes over the run, so the model must be told the progress: got None. "
                "Call set_progress(step / total_steps) before every step."
            )
        return self.weight(progress)

    def forward(self, rendering: Rendering, targets: RayTargets, rays: RayBatch) -> SumAndCount:
        """Sum of the unweighted term over what it applies to, and how many that were."""
        raise NotImplementedError


@LOSSES.register()
class ColorLoss(RenderingLoss):
    """Mean over valid rays and channels of |rendered - target|, 0..1, no unit (PonderV2, eq. 8)."""

    name = "color_loss"

    def __init__(self, weight: float | WeightRamp = 10.0) -> None:
        super().__init__(weight)

    def forward(self, rendering: Rendering, targets: RayTargets, rays: RayBatch) -> SumAndCount:
        """Sum over valid rays, averaged over the channels."""
        return masked_sum((rendering.color - targets.color).abs().mean(dim=-1), rays.valid)


@LOSSES.register()
class DepthLoss(RenderingLoss):
    """Mean over measured rays of |rendered - measured distance|, metres (PonderV2, eq. 9).

    A surface measured beyond the scene box cannot be rendered: such rays do not count here. That nothing lies in front
    of it is what ``FreeSpaceLoss`` says.
    """

    name = "depth_loss"

    def __init__(self, weight: float | WeightRamp = 1.0) -> None:
        super().__init__(weight)

    def forward(self, rendering: Rendering, targets: RayTargets, rays: RayBatch) -> SumAndCount:
        """Sum over rays whose surface was measured inside the box."""
        inside = rays.valid & (targets.distance > 0) & (targets.distance <= rays.far)
        return masked_sum((rendering.distance - targets.distance).abs(), inside)


@LOSSES.register()
class SDFLoss(RenderingLoss):
    """Near a measured surface the SDF is the signed distance to it along the ray (Azinovic et al., arXiv 2104.04532).

    Mean of |t + sdf(t) - d|, metres, over samples t with |t - d| <= truncation.

    Args:
        weight: Factor of the term.
        truncation_m: Half width of the band around the surface, metres.
    """

    name = "sdf_loss"

    def __init__(self, weight: float | WeightRamp = 10.0, truncation_m: float = 0.2) -> None:
        super().__init__(weight)
        self.truncation_m = truncation_m

    def forward(self, rendering: Rendering, targets: RayTargets, rays: RayBatch) -> SumAndCount:
        """Sum over the samples in the band, metres."""
        measured = (rays.valid & (targets.distance > 0))[..., None]
        ahead = targets.distance[..., None] - rendering.sample_distance
        return masked_sum((rendering.sdf - ahead).abs(), measured & (ahead.abs() <= self.truncation_m))


@LOSSES.register()
class FreeSpaceLoss(RenderingLoss):
    """In front of the band the SDF is at least the truncation (Azinovic et al., arXiv 2104.04532).

    Mean of max(truncation - sdf(t), 0), metres, over samples t < d - truncation.

    Args:
        weight: Factor of the term.
        truncation_m: Half width of the band around the surface, metres.
    """

    name = "free_space_loss"

    def __init__(self, weight: float | WeightRamp = 1.0, truncation_m: float = 0.2) -> None:
        super().__init__(weight)
        self.truncation_m = truncation_m

    def forward(self, rendering: Rendering, targets: RayTargets, rays: RayBatch) -> SumAndCount:
        """Sum over the samples in free space, metres."""
        measured = (rays.valid & (targets.distance > 0))[..., None]
        free = rendering.sample_distance < targets.distance[..., None] - self.truncation_m
        return masked_sum(F.relu(self.truncation_m - rendering.sdf), measured & free)


@LOSSES.register()
class EikonalLoss(RenderingLoss):
    """A signed distance has a gradient of length 1: mean over samples of (|g| - 1)^2, no unit (IGR, 2002.10099)."""

    name = "eikonal_loss"

    def __init__(self, weight: float | WeightRamp = 0.01) -> None:
        super().__init__(weight)

    def forward(self, rendering: Rendering, targets: RayTargets, rays: RayBatch) -> SumAndCount:
        """Sum over the samples of valid rays."""
        squared_length = _require_gradient(self, rendering).square().sum(dim=-1)
        length = torch.sqrt(squared_length.clamp(min=1e-12))
        return masked_sum((length - 1).square(), rays.valid[..., None].expand_as(length))


@LOSSES.register()
class NormalLoss(RenderingLoss):
    """Mean over valid rays with a measured normal of 1 - cos(rendered, measured), 0..2, no unit (MonoSDF, 2206.00665).

    For small angles it is half of the squared angle in radians. ``RaySampler(with_normals=True)`` makes the targets
    from depth; normals of any other source can be given in ``RayTargets``.

    Args:
        weight: Factor of the term.
    """

    name = "normal_loss"

    def __init__(self, weight: float | WeightRamp = 0.1) -> None:
        super().__init__(weight)

    def forward(self, rendering: Rendering, targets: RayTargets, rays: RayBatch) -> SumAndCount:
        """Sum over valid rays with a measured normal."""
        if targets.normal is None:
            raise ValueError("NormalLoss needs target normals: got none. Set with_normals=True in the RaySampler.")
        if rendering.normal is None:
            raise ValueError("NormalLoss needs rendered normals: got none. Set another gradient than 'none'.")
        cosine = (F.normalize(rendering.normal, dim=-1) * targets.normal).sum(dim=-1)
        return masked_sum(1 - cosine, rays.valid & (targets.normal != 0).any(dim=-1))


@LOSSES.register()
class SmoothnessLoss(RenderingLoss):
    """Near the surface the normal changes slowly: mean of |n(t_(i+1)) - n(t_i)|^2 over neighbouring samples, no unit.

    Counted are neighbours on one ray that are both within the band. UNISURF (arXiv 2104.10078, eq. 10) compares with a
    random point nearby; the next sample on the ray needs no further read of the field.

    Args:
        weight: Factor of the term.
        band_m: Half width of the band around the zero level of the rendered SDF, metres.
    """

    name = "smoothness_loss"

    def __init__(self, weight: float | WeightRamp = 0.01, band_m: float = 0.1) -> None:
        super().__init__(weight)
        self.band_m = band_m

    def forward(self, rendering: Rendering, targets: RayTargets, rays: RayBatch) -> SumAndCount:
        """Sum over neighbouring samples in the band."""
        gradient = _require_gradient(self, rendering)
        normal = gradient / torch.sqrt(gradient.square().sum(dim=-1, keepdim=True).clamp(min=1e-12))
        near = rendering.sdf.abs() <= self.band_m
        both = near[..., 1:] & near[..., :-1] & rays.valid[..., None]
        return masked_sum((normal[..., 1:, :] - normal[..., :-1, :]).square().sum(dim=-1), both)


def _require_gradient(loss: RenderingLoss, rendering: Rendering) -> Float[Tensor, "B R S 3"]:
    if rendering.gradient is None:
        raise ValueError(
            f"{type(loss).__name__} needs the gradient of the SDF: got none. Set gradient='analytic' in the field."
        )
    return rendering.gradient
