"""What the rendering is compared with: one small class per term.

Each term gives a sum and the number of things summed; ``Ponder`` divides by the number over all processes, so that the
loss of a batch does not depend on how it is spread over them. Invalid rays and rays without a measurement contribute
neither to the sum nor to the number.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pointcept.registry import LOSSES
from pointcept.rendering.renderer import Rendering
from pointcept.structures import RayBatch, RayTargets

SumAndCount = tuple[Float[Tensor, ""], Float[Tensor, ""]]


def _masked_sum(value: Tensor, mask: Tensor) -> SumAndCount:
    return torch.where(mask, value, torch.zeros_like(value)).sum(), mask.sum().to(value.dtype)


class RenderingLoss:
    """A weighted term of the rendering loss; ``name`` is its key in the logs."""

    name: str

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def __call__(self, rendering: Rendering, targets: RayTargets, rays: RayBatch) -> SumAndCount:
        """Sum of the unweighted term over what it applies to, and how many that were."""
        raise NotImplementedError


@LOSSES.register()
class ColorLoss(RenderingLoss):
    """Mean over valid rays and channels of |rendered - target| (PonderV2, eq. 8)."""

    name = "color_loss"

    def __init__(self, weight: float = 10.0) -> None:
        super().__init__(weight)

    def __call__(self, rendering: Rendering, targets: RayTargets, rays: RayBatch) -> SumAndCount:
        """Sum over valid rays, averaged over the channels."""
        return _masked_sum((rendering.color - targets.color).abs().mean(dim=-1), rays.valid)


@LOSSES.register()
class DepthLoss(RenderingLoss):
    """Mean over measured rays of |rendered - measured distance|, metres (PonderV2, eq. 9)."""

    name = "depth_loss"

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight)

    def __call__(self, rendering: Rendering, targets: RayTargets, rays: RayBatch) -> SumAndCount:
        """Sum over measured rays."""
        return _masked_sum((rendering.distance - targets.distance).abs(), rays.valid & (targets.distance > 0))


@LOSSES.register()
class SDFLoss(RenderingLoss):
    """Near a measured surface the SDF is the signed distance to it along the ray (Azinovic et al., arXiv 2104.04532).

    Mean of |t + sdf(t) - d| over samples t with |t - d| <= truncation.

    Args:
        weight: Factor of the term.
        truncation_m: Half width of the band around the surface, metres.
    """

    name = "sdf_loss"

    def __init__(self, weight: float = 10.0, truncation_m: float = 0.2) -> None:
        super().__init__(weight)
        self.truncation_m = truncation_m

    def __call__(self, rendering: Rendering, targets: RayTargets, rays: RayBatch) -> SumAndCount:
        """Sum over the samples in the band, metres."""
        measured = (rays.valid & (targets.distance > 0))[..., None]
        ahead = targets.distance[..., None] - rendering.sample_distance
        return _masked_sum((rendering.sdf - ahead).abs(), measured & (ahead.abs() <= self.truncation_m))


@LOSSES.register()
class FreeSpaceLoss(RenderingLoss):
    """In front of the band the SDF is at least the truncation (Azinovic et al., arXiv 2104.04532).

    Mean of max(truncation - sdf(t), 0) over samples t < d - truncation.

    Args:
        weight: Factor of the term.
        truncation_m: Half width of the band around the surface, metres.
    """

    name = "free_space_loss"

    def __init__(self, weight: float = 1.0, truncation_m: float = 0.2) -> None:
        super().__init__(weight)
        self.truncation_m = truncation_m

    def __call__(self, rendering: Rendering, targets: RayTargets, rays: RayBatch) -> SumAndCount:
        """Sum over the samples in free space, metres."""
        measured = (rays.valid & (targets.distance > 0))[..., None]
        free = rendering.sample_distance < targets.distance[..., None] - self.truncation_m
        return _masked_sum(F.relu(self.truncation_m - rendering.sdf), measured & free)


@LOSSES.register()
class EikonalLoss(RenderingLoss):
    """A signed distance has a gradient of length 1: mean over samples of (|g| - 1)^2 (IGR, arXiv 2002.10099)."""

    name = "eikonal_loss"

    def __init__(self, weight: float = 0.01) -> None:
        super().__init__(weight)

    def __call__(self, rendering: Rendering, targets: RayTargets, rays: RayBatch) -> SumAndCount:
        """Sum over the samples of valid rays."""
        squared_length = rendering.gradient.square().sum(dim=-1)
        length = torch.sqrt(squared_length.clamp(min=1e-12))
        return _masked_sum((length - 1).square(), rays.valid[..., None].expand_as(length))


@LOSSES.register()
class RayContrastLoss(RenderingLoss):
    """Each ray's feature should be nearest to its own target among those of all rays (InfoNCE, arXiv 1807.03748).

    Cross-entropy of the rendered, normalised features' products with all target features, divided by the temperature.
    Rays without a measured distance or with an all-zero target are no queries, but their targets are candidates, as
    in PonderV2.

    Args:
        weight: Factor of the term.
        temperature: Divides the products.
    """

    name = "feature_loss"

    def __init__(self, weight: float = 0.1, temperature: float = 0.01) -> None:
        super().__init__(weight)
        self.temperature = temperature

    def __call__(self, rendering: Rendering, targets: RayTargets, rays: RayBatch) -> SumAndCount:
        """Sum over rays with a target feature."""
        if rendering.feature is None or targets.feature is None:
            raise ValueError(
                "RayContrastLoss needs rendered and target features: got "
                f"{'no' if rendering.feature is None else 'a'} rendered and "
                f"{'no' if targets.feature is None else 'a'} target feature. Set the field's feature_channels and give "
                "the rays target features."
            )
        rendered = F.normalize(rendering.feature.flatten(0, 1), dim=-1)
        target = targets.feature.flatten(0, 1)
        logits = rendered @ target.T / self.temperature
        own = torch.arange(target.shape[0], device=target.device)
        query = (target != 0).any(dim=-1) & (rays.valid & (targets.distance > 0)).flatten()
        return _masked_sum(F.cross_entropy(logits, own, reduction="none"), query)
