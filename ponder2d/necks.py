"""Necks: the maps of a backbone joined to one."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pointcept.registry import MODELS


@MODELS.register()
class FeaturePyramid(nn.Module):
    """Joins feature maps, coarse to fine, to one map (Lin et al., Feature Pyramid Networks, 2017).

    A 1 x 1 convolution per map, a sum from the coarsest to the finest, and a 3 x 3 convolution. Where the finest map is
    coarser than wanted, as with plain transformers, transposed convolutions of stride 2 follow (Li et al., ViTDet,
    2022).

    Args:
        in_channels: Width of each map, finest first: ``TimmBackbone.channels``.
        in_strides: Stride of each map: ``TimmBackbone.strides``.
        out_channels: Width of the result.
        out_stride: The result has at most this stride where the maps are coarser; None: that of the finest map.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        out_channels: int = 64,
        out_stride: int | None = None,
    ) -> None:
        super().__init__()
        if not in_channels or len(in_channels) != len(in_strides):
            raise ValueError(
                f"A pyramid needs one width and one stride per map: got {tuple(in_channels)} and {tuple(in_strides)}."
            )
        self.out_channels = out_channels
        self.laterals = nn.ModuleList(nn.Conv2d(width, out_channels, 1) for width in in_channels)
        steps: list[nn.Module] = []
        stride = float(in_strides[0])
        while out_stride is not None and stride > out_stride:
            steps += [nn.ConvTranspose2d(out_channels, out_channels, 2, stride=2), nn.GELU()]
            stride /= 2
        self.upsampling = nn.Sequential(*steps)
        self.smooth = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, maps: Sequence[Float[Tensor, "N _C _h _w"]]) -> Float[Tensor, "N _O _H _W"]:
        """One map, which covers what the maps cover."""
        joined = self.laterals[-1](maps[-1])
        for lateral, finer in zip(reversed(self.laterals[:-1]), reversed(maps[:-1]), strict=True):
            joined = lateral(finer) + F.interpolate(joined, size=finer.shape[-2:], mode="nearest")
        return self.smooth(self.upsampling(joined))


@MODELS.register()
class LinearNeck(nn.Module):
    """A linear function of the feature maps, for linear probes.

    Each map is normalised per channel, without learned scale (a batch norm as in the linear probe of He et al., MAE,
    2022), goes through a 1 x 1 convolution, and is resized to the finest map, where all are summed. Under a linear head
    this equals one linear layer on the maps resized and put side by side (Oquab et al., DINOv2, 2023, "+ms").

    Args:
        in_channels: Width of each map, finest first: ``TimmBackbone.channels``.
        in_strides: Accepted so that necks can be exchanged; the maps' own sizes are used.
        out_channels: Width of the result.
    """

    def __init__(self, in_channels: Sequence[int], in_strides: Sequence[int] = (), out_channels: int = 64) -> None:
        super().__init__()
        if not in_channels:
            raise ValueError("in_channels must have one width per map: got none.")
        self.out_channels = out_channels
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, affine=False) for width in in_channels)
        self.projections = nn.ModuleList(nn.Conv2d(width, out_channels, 1) for width in in_channels)

    def forward(self, maps: Sequence[Float[Tensor, "N _C _h _w"]]) -> Float[Tensor, "N _O _H _W"]:
        """One map of the size of the finest."""
        size = maps[0].shape[-2:]
        parts = [
            F.interpolate(projection(norm(one)), size=size, mode="bilinear", align_corners=False)
            for norm, projection, one in zip(self.norms, self.projections, maps, strict=True)
        ]
        return torch.stack(parts).sum(dim=0)
