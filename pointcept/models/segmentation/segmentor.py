"""Semantic segmentation with any backbone."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pointcept.models.freezing import freeze
from pointcept.models.segmentation.losses import CrossEntropyLoss, SegmentationLoss
from pointcept.registry import MODELS
from pointcept.structures import SceneBatch


@MODELS.register("DefaultSegmentorV2")
class Segmentor(nn.Module):
    """A backbone and a head that gives one logit per class and point.

    Args:
        backbone: Maps a ``PointBatch`` to one with ``backbone.out_channels`` features at the same points.
        num_classes: Number of classes.
        criteria: Losses; their sum is minimised. Cross-entropy by default.
        head: Maps features (N, ``backbone.out_channels``) to logits (N, ``num_classes``); one linear layer by default.
        freeze_backbone: Train the head alone: the backbone's weights, batch norm statistics and drop path are fixed.
        backbone_out_channels: Accepted for Pointcept's configs, and checked.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        criteria: Sequence[SegmentationLoss] = (),
        head: nn.Module | None = None,
        freeze_backbone: bool = False,
        backbone_out_channels: int | None = None,
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1: got {num_classes}.")
        if getattr(backbone, "num_classes", 0) > 0:
            raise ValueError(
                f"The backbone of a segmentor must give features: it has num_classes={backbone.num_classes}. "
                "Set num_classes=0 in the backbone."
            )
        if backbone_out_channels not in (None, backbone.out_channels):
            raise ValueError(
                f"backbone_out_channels must be the backbone's {backbone.out_channels}: got {backbone_out_channels}."
            )
        self.backbone = backbone
        self.num_classes = num_classes
        self.head = nn.Linear(backbone.out_channels, num_classes) if head is None else head
        self.criteria = nn.ModuleList(criteria or [CrossEntropyLoss()])
        if freeze_backbone:
            freeze(self.backbone)

    def forward(self, batch: SceneBatch) -> dict[str, Tensor]:
        """Loss terms in training, ``logits`` (N, num_classes) in evaluation.

        Raises:
            ValueError: the batch has no points, or in training no labels; or labels are out of range (checked where it
                does not wait for a device).
        """
        if batch.points is None:
            raise ValueError(f"A segmentor needs point clouds: the batch of {batch.name} has none.")
        logits = self.head(self.backbone(batch.points).feat)
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
        return {criterion.name: criterion(logits, target) for criterion in self.criteria}


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
            f"Labels must lie in -1..{num_classes - 1}: {wrong.numel()} of {target.numel()} points of {list(names)} have "
            f"{listed}. Map the labels when reading, or correct num_classes."
        )
