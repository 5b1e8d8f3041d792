"""The layers of Point Transformer V3: embeddings, blocks, and the steps between resolutions."""

import contextlib
import dataclasses
from collections import OrderedDict
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pointcept.models.backbones.prompt_norm import normalize
from pointcept.models.backbones.serialized_voxels import SerializedVoxels, segment_max
from pointcept.ops.attention import patch_attention, relative_position_bias
from pointcept.ops.sparse import SparseTensor, SubMConv3d

NormFactory = Callable[[int], nn.Module]


@dataclasses.dataclass(frozen=True)
class BlockOptions:
    """What all blocks of a network have in common. The fields are described at ``PointTransformerV3``."""

    make_norm: NormFactory
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    qk_scale: float | None = None
    attn_drop: float = 0.0
    proj_drop: float = 0.0
    layer_scale: float | None = None
    pre_norm: bool = True
    enable_rpe: bool = False
    enable_flash: bool = True
    upcast: bool = False


class SparseEmbedding(nn.Module):
    """Submanifold convolution over 5 x 5 x 5 voxels, norm and GELU."""

    mask_token = None

    def __init__(self, in_channels: int, channels: int, make_norm: NormFactory):
        super().__init__()
        conv = SubMConv3d(in_channels, channels, 5, bias=False)
        self.stem = nn.Sequential(OrderedDict(conv=conv, norm=make_norm(channels), act=nn.GELU()))

    def forward(self, features: Tensor, level: SerializedVoxels, mask: None = None) -> Float[Tensor, "V C"]:
        """First features of each voxel."""
        conv, norm, act = self.stem
        features = conv(SparseTensor(features, level.voxels)).features
        return act(normalize(norm, features, level.prompt, level.voxels))


class LinearEmbedding(nn.Module):
    """Linear map, norm and GELU; masked voxels get a learned token instead."""

    def __init__(self, in_channels: int, channels: int, make_norm: NormFactory, *, mask_token: bool):
        super().__init__()
        linear = nn.Linear(in_channels, channels)
        self.stem = nn.Sequential(OrderedDict(linear=linear, norm=make_norm(channels), act=nn.GELU()))
        self.mask_token = nn.Parameter(torch.zeros(1, channels)) if mask_token else None

    def forward(
        self, features: Tensor, level: SerializedVoxels, mask: Bool[Tensor, "V"] | None = None
    ) -> Float[Tensor, "V C"]:
        """First features of each voxel."""
        features = self.stem(features)
        return features if mask is None else torch.where(mask[:, None], self.mask_token.to(features.dtype), features)


class Block(nn.Module):
    """Positional encoding by a sparse convolution, windowed attention and an MLP, each around a residual."""

    def __init__(
        self,
        channels: int,
        num_heads: int,
        patch_size: int,
        options: BlockOptions,
        *,
        drop_path: float,
        order_index: int,
    ):
        super().__init__()
        self.pre_norm = options.pre_norm
        make_norm = options.make_norm
        self.cpe = nn.Sequential(SubMConv3d(channels, channels, 3), nn.Linear(channels, channels), make_norm(channels))
        self.norm1 = nn.Sequential(make_norm(channels))
        self.ls1 = nn.Sequential(_layer_scale(channels, options))
        self.attn = SerializedAttention(channels, num_heads, patch_size, options, order_index=order_index)
        self.norm2 = nn.Sequential(make_norm(channels))
        self.ls2 = nn.Sequential(_layer_scale(channels, options))
        self.mlp = nn.Sequential(MLP(channels, int(channels * options.mlp_ratio), options.proj_drop))
        self.drop_path = DropPath(drop_path)

    def forward(
        self, x: Float[Tensor, "V C"], level: SerializedVoxels, encoded: Float[Tensor, "V C"] | None = None
    ) -> Float[Tensor, "V C"]:
        """New features of each voxel.

        Args:
            x: Features of each voxel.
            level: The voxels.
            encoded: What the positional encoding is computed from instead of ``x``.
        """
        conv, linear, norm = self.cpe
        encoding = linear(conv(SparseTensor(x if encoded is None else encoded, level.voxels)).features)
        x = x + normalize(norm, encoding, level.prompt, level.voxels)
        x = self._residual(x, level, self.norm1[0], lambda y: self.ls1(self.attn(y, level)))
        return self._residual(x, level, self.norm2[0], lambda y: self.ls2(self.mlp(y)))

    def _residual(
        self, x: Tensor, level: SerializedVoxels, norm: nn.Module, function: Callable[[Tensor], Tensor]
    ) -> Tensor:
        y = normalize(norm, x, level.prompt, level.voxels) if self.pre_norm else x
        x = x + self.drop_path(function(y), level)
        return x if self.pre_norm else normalize(norm, x, level.prompt, level.voxels)


class SerializedAttention(nn.Module):
    """Multi-head attention inside windows along one of the curves (arXiv 2312.10035, section 4)."""

    def __init__(self, channels: int, num_heads: int, patch_size: int, options: BlockOptions, *, order_index: int):
        super().__init__()
        if channels % num_heads:
            raise ValueError(
                f"The channels of a stage must be a multiple of its heads: got {channels} channels for {num_heads} "
                "heads. Change enc_num_head, dec_num_head or the channels."
            )
        self.num_heads = num_heads
        self.patch_size = patch_size
        self.order_index = order_index
        self.options = options
        self.qkv = nn.Linear(channels, 3 * channels, bias=options.qkv_bias)
        self.proj = nn.Linear(channels, channels)
        self.proj_drop = nn.Dropout(options.proj_drop)
        self.rpe = RelativePositions(patch_size, num_heads) if options.enable_rpe else None

    def forward(self, x: Float[Tensor, "V C"], level: SerializedVoxels) -> Float[Tensor, "V C"]:
        """Attention of each voxel to those of its window."""
        options = self.options
        order, inverse = level.order(self.order_index)
        qkv = self.qkv(x)
        dtype, precision = qkv.dtype, contextlib.nullcontext()
        if options.upcast:
            qkv, precision = qkv.float(), torch.autocast(qkv.device.type, enabled=False)
        with precision:
            result = patch_attention(
                qkv.view(x.shape[0], 3, self.num_heads, -1 if x.shape[0] else x.shape[1] // self.num_heads),
                level.windows(self.patch_size),
                order,
                inverse,
                bias=None if self.rpe is None else self.rpe.of_voxels(level),
                scale=options.qk_scale,
                dropout=options.attn_drop if self.training else 0.0,
                fused=options.enable_flash,
            )
        return self.proj_drop(self.proj(result.to(dtype)))


class RelativePositions(nn.Module):
    """A learned bias of the attention scores for the difference of voxel index along each axis."""

    def __init__(self, patch_size: int, num_heads: int):
        super().__init__()
        radius = int((4 * patch_size) ** (1 / 3) * 2)
        self.rpe_table = nn.Parameter(torch.empty(3 * (2 * radius + 1), num_heads))
        nn.init.trunc_normal_(self.rpe_table, std=0.02)

    def of_voxels(self, level: SerializedVoxels) -> Callable[[Tensor], Tensor]:
        """A function from the voxels (W, L) of windows to the bias (W, H, L, L)."""
        grid_coord = level.voxels.coord[:, 1:]

        def bias(rows: Tensor) -> Tensor:
            windows = grid_coord.index_select(0, rows.reshape(-1)).view(*rows.shape, 3)
            return relative_position_bias(self.rpe_table, windows)

        return bias


class MLP(nn.Module):
    """Two linear maps around a GELU."""

    def __init__(self, channels: int, hidden_channels: int, drop: float):
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden_channels)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_channels, channels)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Float[Tensor, "V C"]) -> Float[Tensor, "V C"]:
        """New features, row by row."""
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


class DropPath(nn.Module):
    """In training, leaves a residual out for whole clouds, and scales it up for the others (arXiv 1603.09382)."""

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    def forward(self, x: Float[Tensor, "V C"], level: SerializedVoxels) -> Float[Tensor, "V C"]:
        """The residual, zero for the clouds that it is dropped for."""
        if not self.training or self.probability == 0:
            return x
        kept = torch.rand(level.voxels.batch_size, 1, device=x.device) >= self.probability
        factor = kept.to(x.dtype) / max(1 - self.probability, torch.finfo(x.dtype).eps)
        return x * factor.index_select(0, level.batch_index)

    def extra_repr(self) -> str:
        """The probability, for printing."""
        return f"{self.probability:.3f}"


class Pooling(nn.Module):
    """Linear map, maximum over the voxels inside each coarse voxel, norm and GELU."""

    def __init__(self, in_channels: int, out_channels: int, make_norm: NormFactory):
        super().__init__()
        self.proj = nn.Linear(in_channels, out_channels)
        self.norm = nn.Sequential(make_norm(out_channels))
        self.act = nn.Sequential(nn.GELU())

    def forward(self, x: Float[Tensor, "V C"], parent: Tensor, coarse: SerializedVoxels) -> Float[Tensor, "W D"]:
        """Features of the coarse voxels; ``parent`` is the one that each fine voxel lies in."""
        x = segment_max(self.proj(x), parent, len(coarse.voxels))
        return self.act(normalize(self.norm[0], x, coarse.prompt, coarse.voxels))


class Unpooling(nn.Module):
    """Adds the features of each coarse voxel to those of the voxels inside it, both after linear map, norm and GELU."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, make_norm: NormFactory):
        super().__init__()
        self.proj = nn.Sequential(nn.Linear(in_channels, out_channels), make_norm(out_channels), nn.GELU())
        self.proj_skip = nn.Sequential(nn.Linear(skip_channels, out_channels), make_norm(out_channels), nn.GELU())

    def forward(
        self,
        x: Float[Tensor, "W C"],
        coarse: SerializedVoxels,
        skip: Float[Tensor, "V S"],
        fine: SerializedVoxels,
        parent: Tensor,
    ) -> tuple[Float[Tensor, "V D"], Float[Tensor, "V D"]]:
        """Features of the fine voxels, and what the fine voxels alone contribute to them."""
        x = _project(self.proj, x, coarse)
        skip = _project(self.proj_skip, skip, fine)
        return skip + x.index_select(0, parent), skip


class LayerScale(nn.Module):
    """A learned factor per channel (arXiv 2103.17239)."""

    def __init__(self, channels: int, initial: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), initial))

    def forward(self, x: Float[Tensor, "V C"]) -> Float[Tensor, "V C"]:
        """Scaled features."""
        return x * self.gamma


def _layer_scale(channels: int, options: BlockOptions) -> nn.Module:
    return nn.Identity() if options.layer_scale is None else LayerScale(channels, options.layer_scale)


def _project(layers: nn.Sequential, x: Tensor, level: SerializedVoxels) -> Tensor:
    linear, norm, act = layers
    return act(normalize(norm, linear(x), level.prompt, level.voxels))
