"""The residual U-Net of sparse convolutions, with the parameter names of Pointcept's SpUNet-v1m1."""

import functools
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from pointcept.models.backbones.base import Backbone, StageInfo
from pointcept.models.backbones.inputs import check_input
from pointcept.models.backbones.prompt_norm import (
    CONDITIONS,
    Prompt,
    PromptNorm,
    PromptNormFactory,
    make_prompt,
    normalize,
)
from pointcept.models.backbones.stage_points import stage_points
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
        make_norm: Makes the norm for a number of channels; None for batch norms.

    Raises:
        ValueError: ``channels`` and ``layers`` do not describe the same even number of stages.
    """

    encoder_parts = ("conv_input", "down", "enc")

    def __init__(
        self,
        in_channels: int,
        num_classes: int = 0,
        base_channels: int = 32,
        channels: Sequence[int] = (32, 64, 128, 256, 256, 128, 96, 96),
        layers: Sequence[int] = (2, 3, 4, 6, 2, 2, 2, 2),
        norm_momentum: float = 0.01,
        make_norm: Callable[[int], nn.Module] | None = None,
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
        make_norm = functools.partial(batch_norm, momentum=norm_momentum) if make_norm is None else make_norm

        self.conv_input = _ConvNorm(SubMConv3d(in_channels, base_channels, 5, bias=False), make_norm)
        self.down, self.enc, self.up, self.dec = (nn.ModuleList() for _ in range(4))
        for stage in range(num_stages):
            wide = channels[stage]
            self.down.append(_ConvNorm(SparseConv3d(skip_channels[stage], wide, bias=False), make_norm))
            self.enc.append(_blocks(wide, wide, layers[stage], make_norm))
            # Stage 0 of the decoder is the finest one: it comes last, and its entries stand at the end of the lists.
            coarse, fine = channels[-2 - stage], channels[-1 - stage]
            self.up.append(_ConvNorm(SparseInverseConv3d(coarse, fine, bias=False), make_norm))
            self.dec.append(_blocks(fine + skip_channels[stage], fine, layers[-1 - stage], make_norm))
        self.apply(_initialize)
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
            ValueError: the features' width is not ``in_channels``, or one is no finite number (checked on the CPU); or,
                in training, a resolution has fewer than two voxels; or, where norms depend on data sets, the batch
                does not name them.
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

    def make_prompt(self, points: PointBatch) -> Prompt | None:
        """What the norms need to know of the batch; None for ordinary norms."""
        return None

    def _levels(self, points: PointBatch) -> tuple[list[SparseTensor], Tensor]:
        """The last features of each resolution, finest first, and the finest voxel of each point."""
        check_input(points, self.in_channels, type(self).__name__)
        prompt = self.make_prompt(points)
        x, voxel_of_point = voxelize(points.feat, points.grid_coord, points.batch_index, points.batch_size)
        x = self.conv_input(x, prompt)
        skips = []
        for down, encode in zip(self.down, self.enc):
            skips.append(x)
            x = self._run(encode, down(x, prompt), prompt)
        levels = [x]
        for up, decode, skip in zip(reversed(self.up), reversed(self.dec), reversed(skips)):
            x = up(x, prompt, skip.voxels)
            x = self._run(decode, x.replace(torch.cat([x.features, skip.features], dim=1)), prompt)
            levels.insert(0, x)
        return levels, voxel_of_point

    def _run(self, blocks: nn.Sequential, x: SparseTensor, prompt: Prompt | None) -> SparseTensor:
        is_saving = self.gradient_checkpointing and torch.is_grad_enabled()
        for block in blocks:
            x = recomputed(block, x, prompt) if is_saving else block(x, prompt)
        return x


@MODELS.register("SpUNet-v1m3")
class PromptSparseUNet(SparseUNet):
    """Sparse U-Net with prompt-driven norms, for training on several data sets at once (arXiv 2308.09718).

    Every batch norm becomes one norm per data set (``norm_decouple``), followed by a shift and scale computed from the
    data set's learned context vector (``norm_adaptive``), which ``embedding_table`` holds. A batch may mix data sets.

    Source: written from the description of Pointcept's SpUNet-v1m3; its checkpoints load strictly, together with the
    context vectors, which Pointcept keeps outside the backbone under the same name.

    Args:
        in_channels: See :class:`SparseUNet`, like the other parameters that are not listed here.
        num_classes: Number of logits per point; 0 gives the decoder's features instead.
        base_channels: Width of the stem.
        channels: Widths of the stages.
        layers: Number of residual blocks of the stages.
        conditions: Names of the data sets, as in ``PointBatch.condition``.
        norm_decouple: Whether each data set has norms of its own.
        norm_adaptive: Whether norms are followed by a shift and scale.
        norm_affine: Whether the batch norms have a weight and bias.
        context_channels: Width of the context vectors.
        zero_init: Whether shift and scale begin as the identity.
        norm_momentum: Share of each new batch in the running statistics.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int = 0,
        base_channels: int = 32,
        channels: Sequence[int] = (32, 64, 128, 256, 256, 128, 96, 96),
        layers: Sequence[int] = (2, 3, 4, 6, 2, 2, 2, 2),
        conditions: Sequence[str] = CONDITIONS,
        norm_decouple: bool = True,
        norm_adaptive: bool = True,
        norm_affine: bool = False,
        context_channels: int = 256,
        zero_init: bool = True,
        norm_momentum: float = 0.01,
    ):
        make_norm = PromptNormFactory(
            functools.partial(batch_norm, momentum=norm_momentum, affine=norm_affine),
            len(conditions),
            decouple=norm_decouple,
            context_channels=context_channels if norm_adaptive else 0,
            zero_init=zero_init,
            name="bns" if norm_decouple else "bn",
        )
        super().__init__(in_channels, num_classes, base_channels, channels, layers, make_norm=make_norm)
        self.conditions = tuple(conditions)
        self.embedding_table = nn.Embedding(len(conditions), context_channels) if norm_adaptive else None

    def make_prompt(self, points: PointBatch) -> Prompt:
        """The data set and the context vector of each cloud."""
        return make_prompt(points, self.conditions, self.embedding_table)


def batch_norm(channels: int, *, momentum: float = 0.01, affine: bool = True) -> nn.BatchNorm1d:
    """Batch norm with the constants that Pointcept's backbones share."""
    return nn.BatchNorm1d(channels, eps=1e-3, momentum=momentum, affine=affine)


class _ConvNorm(nn.Sequential):
    """Convolution, norm and ReLU; the parameters are called ``0`` and ``1``, or ``conv`` and ``bn`` with prompts."""

    def __init__(self, conv: SubMConv3d | SparseConv3d | SparseInverseConv3d, make_norm: Callable[[int], nn.Module]):
        norm = make_norm(conv.out_channels)
        names = ("conv", "bn") if isinstance(norm, PromptNorm) else ("0", "1")
        super().__init__(OrderedDict(zip(names, (conv, norm), strict=True)))

    def forward(self, x: SparseTensor, prompt: Prompt | None, fine: VoxelSet | None = None) -> SparseTensor:
        conv, norm = self
        x = conv(x) if fine is None else conv(x, fine)
        return x.replace(torch.relu_(normalize(norm, x.features, prompt, x.voxels)))


class _ResidualBlock(nn.Module):
    """Two submanifold convolutions around an identity, or a linear map where the width changes."""

    def __init__(self, in_channels: int, out_channels: int, make_norm: Callable[[int], nn.Module]):
        super().__init__()
        self.is_identity = in_channels == out_channels
        if not self.is_identity:
            conv, norm = SubMConv3d(in_channels, out_channels, 1, bias=False), make_norm(out_channels)
            if isinstance(norm, PromptNorm):
                self.proj_conv, self.proj_norm = conv, norm
            else:
                self.proj = nn.Sequential(conv, norm)
        self.conv1 = SubMConv3d(in_channels, out_channels, 3, bias=False)
        self.bn1 = make_norm(out_channels)
        self.conv2 = SubMConv3d(out_channels, out_channels, 3, bias=False)
        self.bn2 = make_norm(out_channels)

    def forward(self, x: SparseTensor, prompt: Prompt | None) -> SparseTensor:
        if self.is_identity:
            shortcut = x.features
        else:
            conv, norm = self.proj if hasattr(self, "proj") else (self.proj_conv, self.proj_norm)
            shortcut = normalize(norm, conv(x).features, prompt, x.voxels)
        y = self.conv1(x)
        y = self.conv2(y.replace(torch.relu_(normalize(self.bn1, y.features, prompt, x.voxels))))
        return y.replace(torch.relu_(normalize(self.bn2, y.features, prompt, x.voxels).add_(shortcut)))


def _blocks(in_channels: int, out_channels: int, count: int, make_norm: Callable[[int], nn.Module]) -> nn.Sequential:
    """The residual blocks of a stage, called ``block0``, ``block1``, ..."""
    blocks = nn.Sequential()
    for index in range(count):
        block = _ResidualBlock(out_channels if index else in_channels, out_channels, make_norm)
        blocks.add_module(f"block{index}", block)
    return blocks


def _stage_points(points: PointBatch, x: SparseTensor, stride: int) -> PointBatch:
    """Voxels of one resolution as points; ``x.voxels`` are those of the given stride, in their order."""
    grid_coord = torch.div(points.grid_coord, stride, rounding_mode="floor")
    voxels, voxel_of_point = VoxelSet.from_points(grid_coord, points.batch_index, points.batch_size)
    return stage_points(points, x.features, voxels, voxel_of_point)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, SubMConv3d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
