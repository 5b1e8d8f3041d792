"""Semantic segmentation with any backbone."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pointcept.models.backbones.base import Backbone
from pointcept.models.freezing import freeze, freeze_parts
from pointcept.models.segmentation.losses import CrossEntropyLoss, SegmentationLoss, segmentation_losses
from pointcept.models.segmentation.stage_decoder import StageDecoder, feature_norm
from pointcept.registry import MODELS
from pointcept.structures import PointBatch, SceneBatch


@MODELS.register("DefaultSegmentorV2", "DefaultSegmentor")
class Segmentor(nn.Module):
    """A backbone and a head that gives one logit per class and point.

    The head, ``seg_head``, is one linear layer on the backbone's features; or a decoder; or nothing, where the backbone
    itself gives logits. Parameter names are Pointcept's, so its checkpoints load.

    Args:
        backbone: Maps a ``PointBatch`` to one with ``backbone.out_channels`` features at the same points.
        num_classes: Number of classes; None takes the backbone's own.
        criteria: Losses; their sum is minimised. Cross-entropy by default.
        decoder_channels: Width of a decoder that joins the features of all of the backbone's resolutions at every
            point; None has the linear layer instead.
        freeze_backbone: Train the head alone: the backbone's weights, batch norm statistics and drop path are fixed.
        freeze_encoder: The same for the backbone's encoder alone; its decoder and the head train.
        normalize_features: Put a batch norm without weights before the linear layer, as linear probes do, so that a
            probe does not depend on the scale of the features (MAE, arXiv 2111.06377, appendix A.1).
        hyper_column: The linear layer sees the features of all of the backbone's resolutions, not the finest alone.
        backbone_out_channels: Accepted for Pointcept's configs, and checked.

    Raises:
        ValueError: the numbers of classes or channels contradict each other, or the backbone cannot do what is asked.

    Attributes:
        head_prefixes: How the names of weights begin that depend on the number of classes.
    """

    head_prefixes = ("seg_head.", "backbone.seg_head.", "backbone.final.")

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int | None = None,
        criteria: Sequence[SegmentationLoss] = (),
        decoder_channels: int | None = None,
        freeze_backbone: bool = False,
        freeze_encoder: bool = False,
        backbone_out_channels: int | None = None,
        normalize_features: bool = False,
        hyper_column: bool = False,
    ) -> None:
        super().__init__()
        own_classes = getattr(backbone, "num_classes", 0)
        self.num_classes = num_classes or own_classes
        _check(backbone, own_classes, num_classes, backbone_out_channels)
        needs_stages = {
            "decoder_channels": decoder_channels is not None,
            "hyper_column": hyper_column,
            "freeze_encoder": freeze_encoder,
        }
        for argument in (name for name, is_needed in needs_stages.items() if is_needed):
            _require_stages(backbone, argument)
        if (normalize_features or hyper_column) and (own_classes or decoder_channels is not None):
            raise ValueError(
                "normalize_features and hyper_column need a linear head: got a backbone with logits, or "
                "decoder_channels. Set num_classes=0 in the backbone and leave decoder_channels out."
            )
        self.backbone = backbone
        if decoder_channels is not None or hyper_column:
            self.seg_head = StageDecoder(backbone, decoder_channels, self.num_classes, normalize_features)
        elif own_classes:
            self.seg_head = nn.Identity()
        else:
            linear = nn.Linear(backbone.out_channels, self.num_classes)
            norm = feature_norm(backbone.out_channels)
            self.seg_head = nn.Sequential(norm, linear) if normalize_features else linear
        self.criteria = nn.ModuleList(criteria or [CrossEntropyLoss()])
        if freeze_backbone:
            freeze(self.backbone)
        elif freeze_encoder:
            freeze_parts(self.backbone, self.backbone.encoder_parts)

    def forward(self, batch: SceneBatch) -> dict[str, Tensor]:
        """Loss terms in training, ``logits`` (N, num_classes) in evaluation.

        Raises:
            ValueError: the batch has no points, or in training no labels; labels are out of range (checked where it
                does not wait for a device); or the backbone gave features of other points.
        """
        if batch.points is None:
            raise ValueError(f"A segmentor needs point clouds: the batch of {batch.name} has none.")
        logits = self.logits(batch.points)
        if not self.training:
            return {"logits": logits}
        target = batch.points.segment
        if target is None:
            raise ValueError(
                f"Training a segmentor needs labels: the batch of {batch.name} has none. Set segment_key in the data "
                "set, and keep 'segment' in Collect(keys=...)."
            )
        if target.device.type == "cpu":
            require_classes(target, self.num_classes, batch.name)
        return segmentation_losses(self.criteria, logits, target)

    def logits(self, points: PointBatch) -> Float[Tensor, "N K"]:
        """One logit per class of every point."""
        if isinstance(self.seg_head, StageDecoder):
            return self.seg_head(points, self.backbone.forward_stages(points))
        features = self.backbone(points).feat
        if features.shape[0] != points.num_points:
            raise ValueError(
                f"A segmentor needs features of every point: {type(self.backbone).__name__} gave "
                f"{features.shape[0]} rows for {points.num_points} points. Use a backbone with decoder, "
                "hyper_column_levels up to the finest level, or decoder_channels."
            )
        return self.seg_head(features)


def require_classes(target: Tensor, num_classes: int, names: Sequence[str]) -> None:
    """Checks that every label is -1 or a class.

    Raises:
        ValueError: some are not; the message counts them.
    """
    wrong = target[(target < -1) | (target >= num_classes)]
    if wrong.numel():
        values, counts = torch.unique(wrong, return_counts=True)
        listed = ", ".join(f"{v} ({c} points)" for v, c in zip(values.tolist()[:8], counts.tolist()[:8], strict=True))
        raise ValueError(
            f"Labels must lie in -1..{num_classes - 1}: {wrong.numel()} of {target.numel()} points of {list(names)} "
            f"have {listed}. Map the labels when reading, or correct num_classes."
        )


def _check(backbone: nn.Module, own_classes: int, num_classes: int | None, out_channels: int | None) -> None:
    if (num_classes if num_classes is not None else own_classes) < 1:
        raise ValueError(f"num_classes must be at least 1: got {num_classes}. Give it, or a backbone with classes.")
    if own_classes and num_classes not in (None, own_classes):
        raise ValueError(
            f"The backbone of a segmentor must give features or logits of its classes: it has "
            f"num_classes={own_classes} for {num_classes}. Set num_classes=0 in the backbone."
        )
    if out_channels not in (None, backbone.out_channels):
        raise ValueError(
            f"backbone_out_channels must be the backbone's {backbone.out_channels}: got {out_channels}. Leave it out."
        )


def _require_stages(backbone: nn.Module, argument: str) -> None:
    if not isinstance(backbone, Backbone):
        raise ValueError(
            f"{argument} needs a backbone that tells its stages: {type(backbone).__name__} is no Backbone. Derive it "
            f"from pointcept.models.backbones.Backbone, or leave {argument} out."
        )
