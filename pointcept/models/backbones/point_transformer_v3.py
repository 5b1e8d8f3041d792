"""Point Transformer V3 with the parameter names of Pointcept's PT-v3m1 and PT-v3m2, and sizes to train from scratch."""

import functools
import inspect
from collections.abc import Callable, Sequence

from torch import nn

from pointcept.models.backbones.prompt_norm import CONDITIONS, Prompt, PromptNormFactory, make_prompt
from pointcept.models.backbones.serialized_transformer import SerializedTransformer, Stages
from pointcept.models.backbones.sparse_unet import batch_norm
from pointcept.models.backbones.transformer_blocks import BlockOptions, LinearEmbedding, SparseEmbedding
from pointcept.ops.sparse import SubMConv3d
from pointcept.registry import MODELS
from pointcept.structures import PointBatch

# Width of the context vectors of prompt-driven norms in all of Pointcept's checkpoints.
_CONTEXT_CHANNELS = 256


@MODELS.register("PT-v3m1")
class PointTransformerV3(SerializedTransformer):
    """Point Transformer V3: attention in windows along space-filling curves (arXiv 2312.10035).

    Source: written from the paper and the description of Pointcept's PT-v3m1; its checkpoints load strictly, those with
    adaptive norms together with the context vectors, which Pointcept keeps outside under the same name.

    Args:
        in_channels: Width of the input features.
        num_classes: Number of logits per point; 0 gives features. The layer that makes them, ``seg_head``, stands
            beside the backbone in Pointcept's checkpoints.
        order: Curves, from ``z``, ``z-trans``, ``hilbert`` and ``hilbert-trans``; block i of a stage follows curve i.
        stride: Step in resolution between the stages, powers of two.
        enc_depths: Number of blocks of each stage of the encoder, finest first.
        enc_channels: Widths of these stages.
        enc_num_head: Numbers of attention heads of these stages.
        enc_patch_size: Points per attention window of these stages.
        dec_depths: The same of the decoder, finest first; one stage fewer.
        dec_channels: See ``dec_depths``; the first one is the width of the output.
        dec_num_head: See ``dec_depths``.
        dec_patch_size: See ``dec_depths``.
        mlp_ratio: Hidden width of the MLPs over that of the stage.
        qkv_bias: Whether queries, keys and values have a bias.
        qk_scale: Factor of the attention scores; None for the inverse root of the head's width.
        attn_drop: Probability with which an attention weight is dropped in training.
        proj_drop: Probability with which an output of attention and MLP is dropped in training.
        drop_path: Largest probability with which, in training, a residual is left out for a whole cloud.
        pre_norm: Whether norms stand before attention and MLP rather than after them.
        shuffle_orders: Whether, in training, the curves change places at every resolution. Evaluation never shuffles.
        enable_rpe: Whether attention scores get a learned bias for the relative position.
        enable_flash: Whether torch may choose its flash kernels; results do not depend on it but for rounding.
        upcast_attention: Whether attention is computed in float32 under mixed precision.
        upcast_softmax: The same; torch's kernels sum in float32 in any case.
        enc_mode: Whether to leave the decoder out; see :meth:`forward` for what the output is then.
        cls_mode: Older name of ``enc_mode``.
        hyper_column_levels: With ``enc_mode``: number of levels that features climb back, each joined to those of the
            voxels inside it. As many as there are strides gives features of every point.
        pdnorm_bn: Whether the norms between stages depend on the data set of each cloud (arXiv 2308.09718).
        pdnorm_ln: Whether the norms inside blocks do.
        pdnorm_decouple: Whether each data set has such norms of its own.
        pdnorm_adaptive: Whether such norms are followed by a shift and scale from the data set's context vector.
        pdnorm_affine: Whether such norms have a weight and bias.
        pdnorm_conditions: Names of the data sets, as in ``PointBatch.condition``.
        norm_momentum: Share of each new batch in batch norm's running statistics. Runs of a few hundred steps need
            more than the default.

    Raises:
        ValueError: stages, heads, strides or curves do not fit each other.
    """

    def __init__(
        self,
        in_channels: int = 6,
        num_classes: int = 0,
        order: Sequence[str] | str = ("z", "z-trans"),
        stride: Sequence[int] = (2, 2, 2, 2),
        enc_depths: Sequence[int] = (2, 2, 2, 6, 2),
        enc_channels: Sequence[int] = (32, 64, 128, 256, 512),
        enc_num_head: Sequence[int] = (2, 4, 8, 16, 32),
        enc_patch_size: Sequence[int] = (48, 48, 48, 48, 48),
        dec_depths: Sequence[int] = (2, 2, 2, 2),
        dec_channels: Sequence[int] = (64, 64, 128, 256),
        dec_num_head: Sequence[int] = (4, 4, 8, 16),
        dec_patch_size: Sequence[int] = (48, 48, 48, 48),
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        drop_path: float = 0.3,
        pre_norm: bool = True,
        shuffle_orders: bool = True,
        enable_rpe: bool = False,
        enable_flash: bool = True,
        upcast_attention: bool = False,
        upcast_softmax: bool = False,
        enc_mode: bool = False,
        cls_mode: bool = False,
        hyper_column_levels: int = 0,
        pdnorm_bn: bool = False,
        pdnorm_ln: bool = False,
        pdnorm_decouple: bool = True,
        pdnorm_adaptive: bool = False,
        pdnorm_affine: bool = True,
        pdnorm_conditions: Sequence[str] = CONDITIONS,
        norm_momentum: float = 0.01,
    ):
        has_prompt = pdnorm_bn or pdnorm_ln

        def norms(make_norm: Callable[[int], nn.Module], prompted: bool) -> PromptNormFactory:
            return PromptNormFactory(
                make_norm,
                len(pdnorm_conditions) if prompted else 0,
                decouple=pdnorm_decouple,
                context_channels=_CONTEXT_CHANNELS if pdnorm_adaptive else 0,
            )

        make_batch_norm = functools.partial(batch_norm, momentum=norm_momentum, affine=pdnorm_affine or not pdnorm_bn)
        make_layer_norm = functools.partial(nn.LayerNorm, elementwise_affine=pdnorm_affine or not pdnorm_ln)
        make_norm = norms(make_batch_norm, pdnorm_bn)
        is_encoder = enc_mode or cls_mode
        super().__init__(
            SparseEmbedding(in_channels, enc_channels[0], make_norm),
            in_channels=in_channels,
            order=order,
            stride=stride,
            enc=Stages(enc_depths, enc_channels, enc_num_head, enc_patch_size),
            dec=None if is_encoder else Stages(dec_depths, dec_channels, dec_num_head, dec_patch_size),
            options=BlockOptions(
                norms(make_layer_norm, pdnorm_ln),
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                qk_scale=qk_scale,
                attn_drop=attn_drop,
                proj_drop=proj_drop,
                pre_norm=pre_norm,
                enable_rpe=enable_rpe,
                enable_flash=enable_flash,
                upcast=upcast_attention or upcast_softmax,
            ),
            make_norm=make_norm,
            drop_path=drop_path,
            shuffle_orders=shuffle_orders,
            hyper_column_levels=hyper_column_levels,
            encode_skip=True,
            continue_curves=True,
        )
        self.conditions = tuple(pdnorm_conditions) if has_prompt else ()
        is_adaptive = has_prompt and pdnorm_adaptive
        self.embedding_table = nn.Embedding(len(pdnorm_conditions), _CONTEXT_CHANNELS) if is_adaptive else None
        self.reset_head(num_classes)

    def make_prompt(self, points: PointBatch) -> Prompt | None:
        """The data set and the context vector of each cloud; None for ordinary norms."""
        return make_prompt(points, self.conditions, self.embedding_table) if self.conditions else None


@MODELS.register("PT-v3m2")
class LayerNormPointTransformerV3(SerializedTransformer):
    """Point Transformer V3 with layer norms and a linear embedding, the network of Sonata and Concerto.

    No result depends on statistics of a batch, and no sparse convolution comes before the first block. Curves are drawn
    anew at every resolution. Linear maps and convolutions start from a normal distribution of standard deviation 0.02.

    Source: written from the description of Pointcept's PT-v3m2 (arXiv 2503.16429); its checkpoints load strictly.

    Args:
        in_channels: Width of the input features; see :class:`PointTransformerV3` for those not listed here.
        num_classes: Number of logits per point; 0 gives features.
        order: Curves.
        stride: Step in resolution between the stages.
        enc_depths: Number of blocks of each stage of the encoder.
        enc_channels: Widths of these stages.
        enc_num_head: Numbers of heads of these stages.
        enc_patch_size: Points per attention window of these stages.
        dec_depths: The same of the decoder.
        dec_channels: See ``dec_depths``.
        dec_num_head: See ``dec_depths``.
        dec_patch_size: See ``dec_depths``.
        mlp_ratio: Hidden width of the MLPs over that of the stage.
        qkv_bias: Whether queries, keys and values have a bias.
        qk_scale: Factor of the attention scores; None for the inverse root of the head's width.
        attn_drop: Probability with which an attention weight is dropped in training.
        proj_drop: Probability with which an output of attention and MLP is dropped in training.
        drop_path: Largest probability of leaving out a residual for a whole cloud.
        layer_scale: Initial value of the learned factors of the residuals; None for no such factors.
        pre_norm: Whether norms stand before attention and MLP rather than after them.
        shuffle_orders: Whether, in training, the curves change places at every resolution.
        enable_rpe: Whether attention scores get a learned bias for the relative position.
        enable_flash: Whether torch may choose its flash kernels.
        upcast_attention: Whether attention is computed in float32 under mixed precision.
        upcast_softmax: The same.
        traceable: Taken for Pointcept's configs; what each voxel came from can always be traced (:meth:`encode`).
        mask_token: Whether there is a learned token for the masked points of :meth:`forward`.
        enc_mode: Whether to leave the decoder out.
        hyper_column_levels: With ``enc_mode``: number of levels that features climb back.
        freeze_encoder: Whether embedding and encoder keep their weights, and stay in evaluation mode.

    Raises:
        ValueError: stages, heads, strides or curves do not fit each other.
    """

    def __init__(
        self,
        in_channels: int = 6,
        num_classes: int = 0,
        order: Sequence[str] | str = ("z", "z-trans"),
        stride: Sequence[int] = (2, 2, 2, 2),
        enc_depths: Sequence[int] = (2, 2, 2, 6, 2),
        enc_channels: Sequence[int] = (32, 64, 128, 256, 512),
        enc_num_head: Sequence[int] = (2, 4, 8, 16, 32),
        enc_patch_size: Sequence[int] = (48, 48, 48, 48, 48),
        dec_depths: Sequence[int] = (2, 2, 2, 2),
        dec_channels: Sequence[int] = (64, 64, 128, 256),
        dec_num_head: Sequence[int] = (4, 4, 8, 16),
        dec_patch_size: Sequence[int] = (48, 48, 48, 48),
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        drop_path: float = 0.3,
        layer_scale: float | None = None,
        pre_norm: bool = True,
        shuffle_orders: bool = True,
        enable_rpe: bool = False,
        enable_flash: bool = True,
        upcast_attention: bool = False,
        upcast_softmax: bool = False,
        traceable: bool = True,
        mask_token: bool = False,
        enc_mode: bool = False,
        hyper_column_levels: int = 0,
        freeze_encoder: bool = False,
    ):
        super().__init__(
            LinearEmbedding(in_channels, enc_channels[0], nn.LayerNorm, mask_token=mask_token),
            in_channels=in_channels,
            order=order,
            stride=stride,
            enc=Stages(enc_depths, enc_channels, enc_num_head, enc_patch_size),
            dec=None if enc_mode else Stages(dec_depths, dec_channels, dec_num_head, dec_patch_size),
            options=BlockOptions(
                nn.LayerNorm,
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                qk_scale=qk_scale,
                attn_drop=attn_drop,
                proj_drop=proj_drop,
                layer_scale=layer_scale,
                pre_norm=pre_norm,
                enable_rpe=enable_rpe,
                enable_flash=enable_flash,
                upcast=upcast_attention or upcast_softmax,
            ),
            make_norm=nn.LayerNorm,
            drop_path=drop_path,
            shuffle_orders=shuffle_orders,
            hyper_column_levels=hyper_column_levels,
            encode_skip=False,
            continue_curves=False,
        )
        self.freeze_encoder = freeze_encoder
        if freeze_encoder:
            self.embedding.requires_grad_(False)
            self.enc.requires_grad_(False)
        self.apply(_initialize)
        self.reset_head(num_classes)

    def train(self, mode: bool = True) -> "LayerNormPointTransformerV3":
        """Sets the mode of all modules; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.freeze_encoder:
            self.embedding.eval()
            self.enc.eval()
        return self


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | SubMConv3d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _preset(name: str, summary: str, **defaults: object) -> Callable[..., PointTransformerV3]:
    """Registers a factory of :class:`PointTransformerV3` with other defaults, each of which can still be given."""

    def make(**arguments: object) -> PointTransformerV3:
        return PointTransformerV3(**{**defaults, **arguments})

    parameters = inspect.signature(PointTransformerV3).parameters.values()
    make.__signature__ = inspect.Signature(
        [p.replace(default=defaults.get(p.name, p.default), kind=p.KEYWORD_ONLY) for p in parameters],
        return_annotation=PointTransformerV3,
    )
    make.__name__ = make.__qualname__ = name
    make.__doc__ = summary
    return MODELS.register()(make)


_ALL_ORDERS = ("z", "z-trans", "hilbert", "hilbert-trans")

ptv3_tiny = _preset(
    "ptv3_tiny",
    "Point Transformer V3 with heads of 32 channels for small scenes and slow machines: 4 resolutions, 64 features.",
    order=_ALL_ORDERS,
    stride=(2, 2, 2),
    enc_depths=(1, 1, 2, 1),
    enc_channels=(32, 64, 96, 128),
    enc_num_head=(1, 2, 3, 4),
    enc_patch_size=(256, 256, 256, 256),
    dec_depths=(1, 1, 1),
    dec_channels=(64, 64, 96),
    dec_num_head=(2, 2, 3),
    dec_patch_size=(256, 256, 256),
    drop_path=0.1,
)
ptv3_small = _preset(
    "ptv3_small",
    "Point Transformer V3 with heads of 32 channels, half the blocks and a narrower bottom than the base size.",
    order=_ALL_ORDERS,
    enc_depths=(1, 1, 2, 3, 1),
    enc_channels=(32, 64, 128, 192, 256),
    enc_num_head=(1, 2, 4, 6, 8),
    enc_patch_size=(1024,) * 5,
    dec_depths=(1, 1, 1, 1),
    dec_channels=(64, 64, 128, 192),
    dec_num_head=(2, 2, 4, 6),
    dec_patch_size=(1024,) * 4,
)
ptv3_base = _preset(
    "ptv3_base",
    "Point Transformer V3 of the paper's size with heads of 32 channels instead of 16, to train from scratch.",
    order=_ALL_ORDERS,
    enc_num_head=(1, 2, 4, 8, 16),
    enc_patch_size=(1024,) * 5,
    dec_num_head=(2, 2, 4, 8),
    dec_patch_size=(1024,) * 4,
)
ptv3_large = _preset(
    "ptv3_large",
    "Point Transformer V3 with heads of 32 channels and the widths of the large published encoders.",
    order=_ALL_ORDERS,
    enc_depths=(3, 3, 3, 12, 3),
    enc_channels=(64, 128, 256, 512, 768),
    enc_num_head=(2, 4, 8, 16, 24),
    enc_patch_size=(1024,) * 5,
    dec_channels=(64, 96, 192, 384),
    dec_num_head=(2, 3, 6, 12),
    dec_patch_size=(1024,) * 4,
)
