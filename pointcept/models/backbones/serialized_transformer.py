"""The U-shaped network of Point Transformer V3, whatever its embedding and its norms are."""

import dataclasses
import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pointcept.models.backbones.inputs import check_input
from pointcept.models.backbones.prompt_norm import Prompt
from pointcept.models.backbones.serialized_voxels import SerializedVoxels, segment_mean
from pointcept.models.backbones.transformer_blocks import Block, BlockOptions, NormFactory, Pooling, Unpooling
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


class SerializedTransformer(nn.Module):
    """Encoder, and decoder unless it is left out, over serialized voxels. Points of one voxel are averaged.

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
        if dec is None:
            self.out_channels = sum(enc.channels[num_stages - 1 - hyper_column_levels :])
            return
        dec.check(num_stages - 1, "dec")
        self.out_channels = dec.channels[0]
        rates = _drop_path_rates(dec.depths, drop_path)
        coarse = [*dec.channels[1:], enc.channels[-1]]
        self.dec = nn.ModuleDict()
        for stage in reversed(range(num_stages - 1)):
            up = Unpooling(coarse[stage], enc.channels[stage], dec.channels[stage], make_norm)
            blocks = nn.ModuleDict({"up": up})
            self.dec[f"dec{stage}"] = _add_blocks(blocks, dec, stage, options, rates[stage][::-1], len(order))

    def forward(self, points: PointBatch, mask: Bool[Tensor, "N"] | None = None) -> PointBatch:
        """Features of every point in the order of the input; those of coarse voxels where there is no decoder.

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
        if self.dec is not None:
            return points.replace(feat=self._decode(levels).index_select(0, levels[0].parent))
        features, stage = levels[-1].features, len(levels) - 1
        for _ in range(self.hyper_column_levels):
            features = features.index_select(0, levels[stage].parent)
            stage -= 1
            features = torch.cat([levels[stage].features, features], dim=1)
        if stage == 0:
            return points.replace(feat=features.index_select(0, levels[0].parent))
        return self._coarse_batch(points, levels[: stage + 1], features)

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
            features = _run_blocks(blocks, features, level)
            levels.append(EncodedLevel(features, level, parent))
        return levels

    def draw_curves(self) -> list[int]:
        """The curves that the blocks of the next resolution follow: shuffled in training if asked for."""
        count = len(self.order)
        return torch.randperm(count).tolist() if self.training and self.shuffle_orders else list(range(count))

    def make_prompt(self, points: PointBatch) -> Prompt | None:
        """What the norms need to know of the batch; None for ordinary norms."""
        return None

    def _decode(self, levels: list[EncodedLevel]) -> Float[Tensor, "V C"]:
        features = levels[-1].features
        for blocks, coarse, fine in zip(self.dec.values(), levels[:0:-1], levels[-2::-1], strict=True):
            features, skip = blocks["up"](features, coarse.level, fine.features, fine.level, coarse.parent)
            features = _run_blocks(blocks, features, fine.level, skip if self.encode_skip else None)
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


def _run_blocks(
    blocks: nn.ModuleDict, features: Tensor, level: SerializedVoxels, encoded: Tensor | None = None
) -> Tensor:
    for block in blocks.values():
        if isinstance(block, Block):
            features, encoded = block(features, level, encoded), None
    return features


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
