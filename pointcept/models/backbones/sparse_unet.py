"""The residual U-Net of sparse convolutions, with the parameter names of Pointcept's SpUNet-v1m1."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pointcept.models.backbones.base import Backbone, StageInfo
from pointcept.models.recomputation import recomputed
from pointcept.ops.sparse import (
    SparseConv3d,
    SparseInverseConv3d,
    SparseTensor,
    SubMConv3d,
    VoxelSet,
    voxelize,
)
from pointcept.registry import MODELS
from pointcept.structures import PointBatch


@MODELS.register("SpUNet-v1m1")
class SparseUNet(Backbone):
    """Sparse U-Net: a stem, S stages down (each halves the resolution), S stages up with skip connections.

    Points that share a voxel are averaged and get the same output. Submanifold convolutions start from a normal
    distribution of standard deviation 0.02, strided and inverse convolutions as their layers do. Batch norm needs two
    voxels at every resolution in training; evaluation takes any batch.

    Source: written from the description of Pointcept's SpUNet-v1m1; its checkpoints load strictly.

    Args:
        in_channels: Width of the input features.
        num_classes: Number of logits per point; 0 gives the decoder's features instead.
        base_channels: Width of the stem.
        channels: Widths of the S stages down, then of the S stages up, coarsest first.
        layers: Number of residual blocks of the same stages.
        norm_momentum: Share of each new batch in batch norm's running statistics. Runs of a few hundred steps need
            more than the default.

    Raises:
        ValueError: ``channels`` and ``layers`` do not describe the same even number of stages.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int = 0,
        base_channels: int = 32,
        channels: Sequence[int] = (32, 64, 128, 256, 256, 128, 96, 96),
        layers: Sequence[int] = (2, 3, 4, 6, 2, 2, 2, 2),
        norm_momentum: float = 0.01,
    ):
        super().__init__()
        if len(channels) != len(layers) or len(channels) % 2 or not channels:
            raise ValueError(
                "channels and layers must each have one entry per stage, as many down as up: got "
                f"channels={tuple(channels)} and layers={tuple(layers)}. Give both the same even length."
            )
        self.in_channels = in_channels
        num_stages = len(channels) // 2
        self._stage_channels = (*reversed(channels[num_stages:]), channels[num_stages - 1])  # finest first
        skip_channels = [base_channels, *channels[: num_stages - 1]]

        self.conv_input = _ConvNorm(SubMConv3d(in_channels, base_channels, 5, bias=False))
        self.down, self.enc, self.up, self.dec = (nn.ModuleList() for _ in range(4))
        for stage in range(num_stages):
            wide = channels[stage]
            self.down.append(_ConvNorm(SparseConv3d(skip_channels[stage], wide, bias=False)))
            self.enc.append(_blocks(wide, wide, layers[stage]))
            # Stage 0 of the decoder is the finest one: it comes last, and its entries stand at the end of the lists.
            coarse, fine = channels[-2 - stage], channels[-1 - stage]
            self.up.append(_ConvNorm(SparseInverseConv3d(coarse, fine, bias=False)))
            self.dec.append(_blocks(fine + skip_channels[stage], fine, layers[-1 - stage]))
        self.apply(_initialize)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.momentum = norm_momentum
        self.reset_head(num_classes)

    @property
    def stage_info(self) -> tuple[StageInfo, ...]:
        """The decoder's stages, finest first, then the encoder's last; each halves the resolution of the one before."""
        return tuple(StageInfo(channels, 2**stage) for stage, channels in enumerate(self._stage_channels))

    def reset_head(self, num_classes: int) -> None:
        """Replaces the last layer, ``final``; 0 gives features.

        Raises:
            ValueError: ``num_classes`` is negative.
        """
        if num_classes < 0:
            raise ValueError(f"num_classes must be at least 0: got {num_classes}. Use 0 for features.")
        self.num_classes = num_classes
        self.out_channels = num_classes or self._stage_channels[0]
        head = SubMConv3d(self._stage_channels[0], num_classes, 1) if num_classes else nn.Identity()
        self.final = head.apply(_initialize).to(self.conv_input[0].weight)

    def forward(self, points: PointBatch) -> PointBatch:
        """Logits, or features where ``num_classes`` is 0, of every point, in the order of the input.

        Raises:
            ValueError: the features' width is not ``in_channels``; or, in training, a resolution has fewer than two
                voxels.
        """
        levels, voxel_of_point = self._levels(points)
        x = self.final(levels[0])
        return points.replace(feat=x.features.index_select(0, voxel_of_point))

    def forward_stages(self, points: PointBatch) -> list[PointBatch]:
        """Features of the decoder's stages, finest first, and of the encoder's last, as :class:`Backbone` says.

        Raises:
            ValueError: as :meth:`forward`.
        """
        levels, _ = self._levels(points)
        return [_stage_points(points, x, info.stride) for x, info in zip(levels, self.stage_info)]

    def _levels(self, points: PointBatch) -> tuple[list[SparseTensor], Tensor]:
        """The last features of each resolution, finest first, and the finest voxel of each point."""
        if points.feat.shape[1] != self.in_channels:
            raise ValueError(
                f"SparseUNet was built for {self.in_channels} input features per point (in_channels): got feat of "
                f"shape {tuple(points.feat.shape)}. Change in_channels or the features that the transforms collect."
            )
        x, voxel_of_point = voxelize(points.feat, points.grid_coord, points.batch_index, points.batch_size)
        x = self.conv_input(x)
        skips = []
        for down, encode in zip(self.down, self.enc):
            skips.append(x)
            x = self._run(encode, down(x))
        levels = [x]
        for up, decode, skip in zip(reversed(self.up), reversed(self.dec), reversed(skips)):
            x = up(x, skip.voxels)
            x = self._run(decode, x.replace(torch.cat([x.features, skip.features], dim=1)))
            levels.insert(0, x)
        return levels, voxel_of_point

    def _run(self, blocks: nn.Sequential, x: SparseTensor) -> SparseTensor:
        if not (self.gradient_checkpointing and torch.is_grad_enabled()):
            return blocks(x)
        for block in blocks:
            x = recomputed(block, x)
        return x


def _stage_points(points: PointBatch, x: SparseTensor, stride: int) -> PointBatch:
    """Voxels of one resolution as points; ``x.voxels`` are those of the given stride, in their order."""
    grid_coord = torch.div(points.grid_coord, stride, rounding_mode="floor")
    voxels, voxel_of_point = VoxelSet.from_points(grid_coord, points.batch_index, points.batch_size)
    coord = points.coord.new_zeros(len(voxels), 3).index_add(0, voxel_of_point, points.coord)
    count = coord.new_zeros(len(voxels)).index_add(0, voxel_of_point, torch.ones_like(points.coord[:, 0]))
    clouds = torch.bincount(voxels.batch_index, minlength=points.batch_size)
    return PointBatch(
        coord=coord / count[:, None],
        grid_coord=voxels.coord[:, 1:],
        feat=x.features,
        offset=clouds.cumsum(0),
        condition=points.condition,
    )


class _ConvNorm(nn.Sequential):
    """Convolution, batch norm and ReLU; the parameters are called ``0`` and ``1``."""

    def __init__(self, conv: SubMConv3d | SparseConv3d | SparseInverseConv3d):
        super().__init__(conv, _norm(conv.out_channels))

    def forward(self, x: SparseTensor, fine: VoxelSet | None = None) -> SparseTensor:
        conv, norm = self
        x = conv(x) if fine is None else conv(x, fine)
        return x.replace(torch.relu_(_normalize(norm, x.features)))


class _ResidualBlock(nn.Module):
    """Two submanifold convolutions around an identity, or a linear map where the width changes."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.proj = (
            nn.Identity()
            if in_channels == out_channels
            else nn.Sequential(SubMConv3d(in_channels, out_channels, 1, bias=False), _norm(out_channels))
        )
        self.conv1 = SubMConv3d(in_channels, out_channels, 3, bias=False)
        self.bn1 = _norm(out_channels)
        self.conv2 = SubMConv3d(out_channels, out_channels, 3, bias=False)
        self.bn2 = _norm(out_channels)

    def forward(self, x: SparseTensor) -> SparseTensor:
        if isinstance(self.proj, nn.Identity):
            shortcut = x.features
        else:
            conv, norm = self.proj
            shortcut = _normalize(norm, conv(x).features)
        y = self.conv1(x)
        y = self.conv2(y.replace(torch.relu_(_normalize(self.bn1, y.features))))
        return y.replace(torch.relu_(_normalize(self.bn2, y.features).add_(shortcut)))


def _blocks(in_channels: int, out_channels: int, count: int) -> nn.Sequential:
    blocks = nn.Sequential()
    for index in range(count):
        blocks.add_module(f"block{index}", _ResidualBlock(out_channels if index else in_channels, out_channels))
    return blocks


def _norm(channels: int) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(channels, eps=1e-3, momentum=0.01)


def _normalize(norm: nn.Module, features: Tensor) -> Tensor:
    if norm.training and isinstance(norm, nn.BatchNorm1d) and features.shape[0] < 2:
        raise ValueError(
            "Batch norm needs at least two voxels at every resolution in training: got "
            f"{features.shape[0]}. Use larger crops or more clouds per batch, or leave such clouds out."
        )
    return norm(features)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, SubMConv3d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
