"""Depth as a distribution over bins: the bins, the heads that predict it, and its supervision by measured depth."""

import dataclasses
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from pointcept.registry import MODELS
from pointcept.structures import CameraBatch


@MODELS.register()
class DepthBins:
    """Intervals of z-depth.

    Args:
        near_m: Lower edge of the first bin, metres.
        far_m: Upper edge of the last bin, metres.
        num_bins: D.
        spacing: ``"uniform"``: equal widths; ``"log"``: equal ratios; ``"linear"``: widths that grow linearly (LID;
            Tang et al., Center3D, 2020, eq. 5).

    Attributes:
        edges: (D + 1,) metres.
    """

    def __init__(
        self,
        near_m: float,
        far_m: float,
        num_bins: int,
        spacing: Literal["uniform", "log", "linear"] = "uniform",
    ) -> None:
        if not 0 < near_m < far_m or num_bins < 2:
            raise ValueError(
                f"Depth bins need 0 < near_m < far_m and at least 2 bins: got {near_m}, {far_m} and {num_bins}."
            )
        step = torch.linspace(0, 1, num_bins + 1, dtype=torch.float64)
        if spacing == "uniform":
            edges = near_m + (far_m - near_m) * step
        elif spacing == "log":
            edges = near_m * (far_m / near_m) ** step
        elif spacing == "linear":
            index = step * num_bins
            edges = near_m + (far_m - near_m) * index * (index + 1) / (num_bins * (num_bins + 1))
        else:
            raise ValueError(f"spacing must be 'uniform', 'log' or 'linear': got {spacing!r}.")
        self.near_m, self.far_m, self.num_bins, self.spacing = near_m, far_m, num_bins, spacing
        self.edges = edges.float()

    @property
    def centers(self) -> Float[Tensor, "D"]:
        """Middle of each bin, metres."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])


@dataclasses.dataclass(frozen=True)
class DepthDistribution:
    """Where along its line of sight each pixel of a feature map sees its surface.

    Attributes:
        probability: Non-negative, sums to 1 over the bins.
        edges: Of the bins, metres of z-depth.
    """

    probability: Float[Tensor, "B V D h w"]
    edges: Float[Tensor, "E"]

    @property
    def centers(self) -> Float[Tensor, "D"]:
        """Middle of each bin, metres."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    def bin_of(self, depth: Float[Tensor, "*shape"]) -> Tensor:
        """Index of the bin of each depth; -1 below the first and D beyond the last."""
        return torch.searchsorted(self.edges, depth.contiguous(), right=True) - 1


class _DepthHead(nn.Module):
    """What the heads share: logits over the bins, per pixel, and their softmax."""

    def __init__(self, in_channels: int, bins: DepthBins) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.register_buffer("edges", bins.edges, persistent=False)

    def logits(self, features: Float[Tensor, "N C h w"]) -> Float[Tensor, "N D h w"]:
        raise NotImplementedError

    def forward(self, features: Float[Tensor, "B V C h w"]) -> DepthDistribution:
        """The distribution at every pixel."""
        logits = self.logits(features.flatten(0, 1))
        return DepthDistribution(logits.softmax(dim=1).unflatten(0, features.shape[:2]), self.edges)


@MODELS.register()
class DepthHead(_DepthHead):
    """One 1 x 1 convolution and a softmax over the bins.

    Args:
        in_channels: Width of the feature map.
        bins: The depth bins.
    """

    def __init__(self, in_channels: int, bins: DepthBins) -> None:
        super().__init__(in_channels, bins)
        self.classifier = nn.Conv2d(in_channels, bins.num_bins, 1)

    def logits(self, features: Float[Tensor, "N C h w"]) -> Float[Tensor, "N D h w"]:
        """One logit per bin."""
        return self.classifier(features)


@MODELS.register()
class ASPPDepthHead(_DepthHead):
    """A convolution, atrous spatial pyramid pooling (Chen et al., 2017), and a 1 x 1 convolution to the bins.

    Args:
        in_channels: Width of the feature map.
        bins: The depth bins.
        hidden_channels: Width between.
        rates: Dilations of the pyramid, pixels of the feature map.
    """

    def __init__(
        self, in_channels: int, bins: DepthBins, hidden_channels: int = 96, rates: tuple[int, ...] = (2, 4, 8)
    ) -> None:
        super().__init__(in_channels, bins)
        self.reduce = nn.Sequential(
            nn.Conv2d(in_channels, hidden_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(hidden_channels),
            nn.ReLU(),
        )
        self.pyramid = ASPP(hidden_channels, list(rates), out_channels=hidden_channels)
        self.classifier = nn.Conv2d(hidden_channels, bins.num_bins, 1)

    def logits(self, features: Float[Tensor, "N C h w"]) -> Float[Tensor, "N D h w"]:
        """One logit per bin."""
        return self.classifier(self.pyramid(self.reduce(features)))


def depth_targets(cameras: CameraBatch, height: int, width: int) -> Float[Tensor, "B V h w"]:
    """Smallest measured depth of each cell of a feature map (metres, 0 = none), the nearest surface in it."""
    depth = torch.where(cameras.depth > 0, cameras.depth, torch.inf)
    nearest = -F.adaptive_max_pool2d(-depth, (height, width))
    return torch.where(torch.isfinite(nearest), nearest, 0.0)


def depth_supervision(distribution: DepthDistribution, cameras: CameraBatch) -> Float[Tensor, ""]:
    """Mean of -log(probability of the measured bin) over the pixels of the feature map that have depth within the bins.

    Args:
        distribution: What a depth head gives for the cameras' images.
        cameras: Measured depth; LiDAR's is sparse, and each cell counts its nearest point.
    """
    target = depth_targets(cameras, *distribution.probability.shape[-2:])
    index = distribution.bin_of(target)
    num_bins = distribution.probability.shape[2]
    known = (target > 0) & (index >= 0) & (index < num_bins)
    chosen = distribution.probability.gather(2, index.clamp(0, num_bins - 1)[:, :, None])[:, :, 0]
    value = -chosen.clamp(min=1e-6).log()
    return torch.where(known, value, 0.0).sum() / known.sum().clamp(min=1)


def with_measured(distribution: DepthDistribution, cameras: CameraBatch) -> DepthDistribution:
    """The distribution with all probability at the measured depth, where that lies within the bins.

    It is shared by the two bins whose centres are nearest to it, so that its mean is the measured depth.
    """
    target = depth_targets(cameras, *distribution.probability.shape[-2:])
    centers = distribution.centers
    known = (target >= distribution.edges[0]) & (target < distribution.edges[-1])
    upper = torch.searchsorted(centers, target).clamp(1, len(centers) - 1)
    low, high = centers[upper - 1], centers[upper]
    part = ((target - low) / (high - low)).clamp(0, 1)[:, :, None]
    measured = torch.zeros_like(distribution.probability)
    measured = measured.scatter(2, upper[:, :, None] - 1, (1 - part).to(measured))
    measured = measured.scatter_add(2, upper[:, :, None], part.to(measured))
    probability = torch.where(known[:, :, None], measured, distribution.probability)
    return dataclasses.replace(distribution, probability=probability)
