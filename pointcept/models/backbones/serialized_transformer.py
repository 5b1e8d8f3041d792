"""The U-shaped network of Point Transformer V3, whatever its embedding and its norms are."""

import dataclasses
import itertools
import math
import operator
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pointcept.models.backbones.base import Backbone, StageInfo
from pointcept.models.backbones.inputs import check_input
from pointcept.models.backbones.prompt_norm import Prompt
from pointcept.models.backbones.serialized_voxels import SerializedVoxels, segment_mean
from pointcept.models.backbones.stage_points import stage_points
from pointcept.models.backbones.transformer_blocks import Block, BlockOptions, NormFactory, Pooling, Unpooling
from pointcept.models.recomputation import recomputed
from pointcept.ops.serialization import ORDERS, serialize
from pointcept.ops.sparse import voxelize
from pointcept.registry import near_matches
from pointcept.structures import PointBatch


@dataclasses.dataclass(frozen=True)
class Stages:
    """The stages of an encoder or a decoder, finest first.

    Attributes:
        depths: Number of blocks.
        channels: Width.
        num_heads: Number of attention heads.
        patch_sizes: Points per attention window.
    """

    depths: Sequence[int]
    channels: Sequence[int]
    num_heads: Sequence[int]
    patch_sizes: Sequence[int]

    def check(self, count: int, prefix: str) -> None:
        """Raises ``ValueError`` unless every field has ``count`` entries; ``prefix`` is that of the parameters."""
        names = {"depths": "depths", "channels": "channels", "num_heads": "num_head", "patch_sizes": "patch_size"}
        for field, name in names.items():
            values = getattr(self, field)
            if len(values) != count:
                raise ValueError(
                    f"{prefix}_{name} must have one entry for each of the {count} stages: got {tuple(values)}. "
                    "Give as many as stride asks for (one stage more in the encoder than strides)."
                )


@dataclasses.dataclass(frozen=True)
class EncodedLevel:
    """What the encoder leaves behind at one resolution.

    Attributes:
        features: One row per voxel.
        level: The voxels.
        parent: The voxel of this level that each voxel of the next finer one (at the finest level: each point) lies in.
    """

    features: Float[Tensor, "_V _C"]
    level: SerializedVoxels
    parent: Int[Tensor, "_F"]


class SerializedTransformer(Backbone):
    """Encoder, and decoder unless it is left out, over serialized voxels. Points of one voxel are averaged.

    Pointcept keeps the class head outside of these networks; it is called ``seg_head`` here as there.

    Args:
        embedding: Maps the input features of voxels to ``enc.channels[0]``.
        in_channels: Width of the input features.
        order: Names of the curves.
        stride: Step in resolution between the stages.
        enc: Stages of the encoder.
        dec: Stages of the decoder; None leaves it out.
        options: What all blocks have in common.
        make_norm: Makes the norms between the stages.
        drop_path: Largest probability of dropping a residual; it rises with the depth of the block.
        shuffle_orders: Whether, in training, the curves change places at every resolution.
        hyper_column_levels: Without decoder: the number of levels that the features climb back.
        encode_skip: Whether the first positional encoding of each decoder stage sees the encoder's features alone. The
            weights of PT-v3m1 were trained so, those of PT-v3m2 were not.
        continue_curves: Whether coarse voxels keep the curves of fine ones; otherwise curves are drawn anew.
    """

    encoder_parts = ("embedding", "enc")

    def __init__(
        self,
        embedding: nn.Module,
        *,
        in_channels: int,
        order: Sequence[str],
        stride: Sequence[int],
        enc: Stages,
        dec: Stages | None,
        options: BlockOptions,
        make_norm: NormFactory,
        drop_path: float,
        shuffle_orders: bool,
        hyper_column_levels: int,
        encode_skip: bool,
        continue_curves: bool,
    ):
        super().__init__()
        order = (order,) if isinstance(order, str) else tuple(order)
        _check_arguments(order, stride, drop_path, continue_curves)
        num_stages = len(stride) + 1
        enc.check(num_stages, "enc")
        if not 0 <= hyper_column_levels < num_stages or (dec is not None and hyper_column_levels):
            raise ValueError(
                f"hyper_column_levels must lie between 0 and {num_stages - 1}, and be 0 with a decoder: got "
                f"{hyper_column_levels}. Set enc_mode=True to leave the decoder out."
            )
        self.in_channels = in_channels
        self.order = order
        self.stride = tuple(stride)
        self.shuffle_orders = shuffle_orders
        self.hyper_column_levels = hyper_column_levels
        self.encode_skip = encode_skip
        self.continue_curves = continue_curves
        self.embedding = embedding

        rates = _drop_path_rates(enc.depths, drop_path)
        self.enc = nn.ModuleDict()
        for stage in range(num_stages):
            blocks = nn.ModuleDict()
            if stage > 0:
                blocks["down"] = Pooling(enc.channels[stage - 1], enc.channels[stage], make_norm)
            self.enc[f"enc{stage}"] = _add_blocks(blocks, enc, stage, options, rates[stage], len(order))
        self.dec = None
        self._output_stage = 0
        if dec is None:
            self._output_stage = num_stages - 1 - hyper_column_levels
            self._stage_channels = tuple(
                sum(enc.channels[stage:]) if stage >= self._output_stage else enc.channels[stage]
                for stage in range(num_stages)
            )
            self.reset_head(0)
            return
        dec.check(num_stages - 1, "dec")
        self._stage_channels = (*dec.channels, enc.channels[-1])
        rates = _drop_path_rates(dec.depths, drop_path)
        coarse = [*dec.channels[1:], enc.channels[-1]]
        self.dec = nn.ModuleDict()
        for stage in reversed(range(num_stages - 1)):
            up = Unpooling(coarse[stage], enc.channels[stage], dec.channels[stage], make_norm)
            blocks = nn.ModuleDict({"up": up})
            self.dec[f"dec{stage}"] = _add_blocks(blocks, dec, stage, options, rates[stage][::-1], len(order))
        self.reset_head(0)

    @property
    def stage_info(self) -> tuple[StageInfo, ...]:
        """The decoder's stages, finest first, then the encoder's last; without decoder those of the encoder."""
        strides = itertools.accumulate(self.stride, operator.mul, initial=1)
        return tuple(StageInfo(*entry) for entry in zip(self._stage_channels, strides, strict=True))

    def reset_head(self, num_classes: int) -> None:
        """Replaces the last layer, ``seg_head``, a linear map of the features; 0 gives features.

        Raises:
            ValueError: ``num_classes`` is negative.
        """
        if num_classes < 0:
            raise ValueError(f"num_classes must be at least 0: got {num_classes}. Use 0 for features.")
        channels = self._stage_channels[self._output_stage]
        self.num_classes = num_classes
        self.out_channels = num_classes or channels
        like = next(self.embedding.parameters())
        self.seg_head = nn.Linear(channels, num_classes).to(like) if num_classes else nn.Identity()

    def forward(self, points: PointBatch, mask: Bool[Tensor, "N"] | None = None) -> PointBatch:
        """Features, or logits, of every point in the order of the input; of coarse voxels where there is no decoder.

        Args:
            points: The batch.
            mask: Points whose features are replaced by the learned mask token, where the network has one. A voxel is
                masked if one of its points is.

        Returns:
            With decoder, or climbing back to the finest level: ``points`` with ``out_channels`` features. Otherwise
            the voxels of the level climbed to, as a batch: ``coord`` is the mean position of their points (of the
            voxels below them), ``grid_coord`` their index there, without labels. They stand in the order of
            the first curve (``PT-v3m1``), or of cloud, x, y and z (``PT-v3m2``), as in Pointcept.

        Raises:
            ValueError: the features' width is not ``in_channels``, or one is no finite number (checked on the CPU);
                points are masked but there is no mask token; the batch does not name its data sets, where norms depend
                on them; or, in training, a resolution has fewer than two voxels for a batch norm.
        """
        levels = self.encode(points, mask)
        stage = self._output_stage
        features = self.seg_head(self._stage_features(levels)[stage])
        if stage == 0:
            return points.replace(feat=features.index_select(0, levels[0].parent))
        return self._coarse_batch(points, levels[: stage + 1], features)

    def forward_stages(self, points: PointBatch) -> list[PointBatch]:
        """Features of the decoder's stages, finest first, and of the encoder's last, as :class:`Backbone` says.

        Without decoder, those of the encoder's stages; of the levels climbed back to, with what they were joined to.

        Raises:
            ValueError: as :meth:`forward`.
        """
        levels = self.encode(points)
        stages, voxel_of_point = [], torch.arange(points.num_points, device=points.feat.device)
        for encoded, features in zip(levels, self._stage_features(levels), strict=True):
            voxel_of_point = encoded.parent.index_select(0, voxel_of_point)
            stages.append(stage_points(points, features, encoded.level.voxels, voxel_of_point))
        return stages

    def encode(self, points: PointBatch, mask: Bool[Tensor, "N"] | None = None) -> list[EncodedLevel]:
        """What every stage of the encoder makes of the batch, finest first."""
        check_input(points, self.in_channels, type(self).__name__)
        if mask is not None and self.embedding.mask_token is None:
            raise ValueError(
                f"Points can be masked where a network has a mask token: this {type(self).__name__} has no mask token. "
                "Build PT-v3m2 with mask_token=True."
            )
        x, parent = voxelize(points.feat, points.grid_coord, points.batch_index, points.batch_size)
        voxels = x.voxels
        codes = serialize(
            voxels.coord[:, 1:], voxels.batch_index, voxels.batch_size, self.order, alignment=math.prod(self.stride)
        )
        level = SerializedVoxels(voxels, codes, self.draw_curves(), self.make_prompt(points))
        if mask is not None:
            mask = torch.zeros(len(voxels), dtype=torch.long, device=mask.device).index_add(0, parent, mask.long()) > 0
        features = self.embedding(x.features, level, mask)
        levels = []
        for stage, blocks in enumerate(self.enc.values()):
            if stage > 0:
                orders = None if self.continue_curves else self.order
                level, parent = level.pool(self.stride[stage - 1], self.draw_curves(), orders=orders)
                features = blocks["down"](features, parent, level)
            features = self._run(blocks, features, level)
            levels.append(EncodedLevel(features, level, parent))
        return levels

    def draw_curves(self) -> list[int]:
        """The curves that the blocks of the next resolution follow: shuffled in training if asked for."""
        count = len(self.order)
        return torch.randperm(count).tolist() if self.training and self.shuffle_orders else list(range(count))

    def make_prompt(self, points: PointBatch) -> Prompt | None:
        """What the norms need to know of the batch; None for ordinary norms."""
        return None

    def _stage_features(self, levels: list[EncodedLevel]) -> list[Tensor]:
        """The last features of the voxels of every level, finest first, before the head."""
        features = [encoded.features for encoded in levels]
        if self.dec is None:
            for stage in reversed(range(self._output_stage, len(levels) - 1)):
                coarse = features[stage + 1].index_select(0, levels[stage + 1].parent)
                features[stage] = torch.cat([features[stage], coarse], dim=1)
            return features
        for stage, blocks in zip(reversed(range(len(levels) - 1)), self.dec.values(), strict=True):
            coarse, fine = levels[stage + 1], levels[stage]
            x, skip = blocks["up"](features[stage + 1], coarse.level, fine.features, fine.level, coarse.parent)
            features[stage] = self._run(blocks, x, fine.level, skip if self.encode_skip else None)
        return features

    def _run(
        self, blocks: nn.ModuleDict, features: Tensor, level: SerializedVoxels, encoded: Tensor | None = None
    ) -> Float[Tensor, "V C"]:
        is_saving = self.gradient_checkpointing and torch.is_grad_enabled()
        for block in blocks.values():
            if isinstance(block, Block):
                inputs = (features, level, encoded)
                features, encoded = recomputed(block, *inputs) if is_saving else block(*inputs), None
        return features

    def _coarse_batch(
        self, points: PointBatch, levels: list[EncodedLevel], features: Float[Tensor, "V C"]
    ) -> PointBatch:
        coord = points.coord
        for encoded in levels:
            coord = segment_mean(coord, encoded.parent, len(encoded.level.voxels))
        level = levels[-1].level
        grid_coord = level.voxels.coord[:, 1:]
        if self.continue_curves:
            order = torch.argsort(level.codes[0])
            coord, grid_coord, features = (rows.index_select(0, order) for rows in (coord, grid_coord, features))
        return PointBatch(coord, grid_coord, features, level.counts.cumsum(0), condition=points.condition)


def _add_blocks(
    blocks: nn.ModuleDict, stages: Stages, stage: int, options: BlockOptions, rates: list[float], num_orders: int
) -> nn.ModuleDict:
    for index, rate in enumerate(rates):
        blocks[f"block{index}"] = Block(
            stages.channels[stage],
            stages.num_heads[stage],
            stages.patch_sizes[stage],
            options,
            drop_path=rate,
            order_index=index % num_orders,
        )
    return blocks


def _drop_path_rates(depths: Sequence[int], largest: float) -> list[list[float]]:
    """Rates from 0 to ``largest``, linear in the number of the block, by stage."""
    rates = iter(torch.linspace(0, largest, sum(depths), device="cpu").tolist())
    return [[next(rates) for _ in range(depth)] for depth in depths]


def _check_arguments(order: Sequence[str], stride: Sequence[int], drop_path: float, continue_curves: bool) -> None:
    for name in order:
        if name not in ORDERS:
            raise ValueError(
                f"order must name curves among {', '.join(ORDERS)}: got {name!r}. {near_matches(name, ORDERS)}"
            )
    if not order:
        raise ValueError(
            f"order must name at least one curve among {', '.join(ORDERS)}: got none. Add for example 'z'."
        )
    for step in stride:
        if step < 1 or (continue_curves and step & (step - 1)):
            what = "powers of two" if continue_curves else "positive"
            raise ValueError(f"The entries of stride must be {what}: got {tuple(stride)}. Use 2.")
    if not 0 <= drop_path < 1:
        raise ValueError(f"drop_path must be a probability below 1: got {drop_path}. Use 0.3, or 0 to switch it off.")
