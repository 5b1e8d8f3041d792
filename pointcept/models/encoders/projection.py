"""Dense 3D networks that turn pooled features into the volume that is rendered."""

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pointcept.registry import MODELS


class NormConvReLU(nn.Module):
    """Batch norm, 3 x 3 x 3 convolution, ReLU: the order in which the released PonderV2 network applies them."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.batchnorm = nn.BatchNorm3d(in_channels)
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)

    def forward(self, features: Float[Tensor, "B _C Z Y X"]) -> Float[Tensor, "B _O Z Y X"]:
        """Features of the same grid."""
        return F.relu(self.conv(self.batchnorm(features)))


class _Encoder(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, *, pool: bool) -> None:
        super().__init__()
        self.pool = pool
        self.basic_module = NormConvReLU(in_channels, out_channels)

    def forward(self, features: Tensor) -> Tensor:
        return self.basic_module(F.max_pool3d(features, 2, ceil_mode=True) if self.pool else features)


class _Upsampling(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.upsample = nn.ConvTranspose3d(in_channels, out_channels, kernel_size=3, stride=2, padding=1)

    def forward(self, features: Tensor, size: torch.Size) -> Tensor:
        return self.upsample(features, output_size=size)


class _Decoder(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.upsampling = _Upsampling(in_channels, out_channels)
        self.basic_module = NormConvReLU(out_channels, out_channels)

    def forward(self, skip: Tensor, features: Tensor) -> Tensor:
        return self.basic_module(skip + self.upsampling(features, skip.shape[2:]))


@MODELS.register("UNet3D-v1m2")
class ProjectionUNet(nn.Module):
    """A dense U-Net with one convolution per level and skips that are added.

    The structure of PonderV2's UNet3D-v1m2, whose state dicts load unchanged.

    Args:
        in_channels: Channels of the pooled features.
        out_channels: Channels of the volume.
        channels: Channels of each level; every level halves the grid, rounding up.
    """

    def __init__(self, in_channels: int, out_channels: int, channels: tuple[int, ...] = (32, 64, 128, 256)) -> None:
        super().__init__()
        if not channels:
            raise ValueError("channels must name the width of at least one level: got none.")
        self.out_channels = out_channels
        widths = (in_channels, *channels)
        self.encoders = nn.ModuleList(
            _Encoder(narrow, wide, pool=level > 0) for level, (narrow, wide) in enumerate(itertools.pairwise(widths))
        )
        self.decoders = nn.ModuleList(_Decoder(wide, narrow) for wide, narrow in itertools.pairwise(reversed(channels)))
        self.final_conv = nn.Conv3d(channels[0], out_channels, kernel_size=1)

    def forward(self, features: Float[Tensor, "B _C Z Y X"]) -> Float[Tensor, "B _O Z Y X"]:
        """Refined features of the same grid."""
        skips = []
        for encoder in self.encoders:
            features = encoder(features)
            skips.append(features)
        for decoder, skip in zip(self.decoders, reversed(skips[:-1]), strict=True):
            features = decoder(skip, features)
        return self.final_conv(features)
