"""Semantic segmentation that adapts a pre-trained attention backbone by low-rank adapters."""

from collections.abc import Sequence

from torch import nn

from pointcept.models.lora import add_lora
from pointcept.models.segmentation.losses import SegmentationLoss
from pointcept.models.segmentation.segmentor import Segmentor
from pointcept.registry import MODELS


@MODELS.register("DefaultLORASegmentorV2")
class LoRASegmentor(Segmentor):
    """A segmentor of whose backbone only low-rank adapters train, and whose head trains as a whole.

    The backbone stays in evaluation mode, so adapters have no dropout.

    Args:
        backbone: Has linear layers named as ``lora_targets``.
        num_classes: Number of classes; None takes the backbone's own.
        criteria: Losses; their sum is minimised.
        decoder_channels: Width of a decoder over all resolutions; None has one linear layer.
        backbone_out_channels: Accepted for Pointcept's configs, and checked.
        lora_r: Rank of the adapters.
        lora_alpha: Their scale times the rank.
        lora_targets: How the names of the layers to adapt end.

    Raises:
        ValueError: the backbone has no such layer, or as for a segmentor.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int | None = None,
        criteria: Sequence[SegmentationLoss] = (),
        decoder_channels: int | None = None,
        backbone_out_channels: int | None = None,
        lora_r: int = 8,
        lora_alpha: float = 16.0,
        lora_targets: Sequence[str] = ("attn.qkv", "attn.proj"),
    ) -> None:
        super().__init__(
            backbone,
            num_classes,
            criteria,
            decoder_channels=decoder_channels,
            backbone_out_channels=backbone_out_channels,
        )
        add_lora(self.backbone, rank=lora_r, alpha=lora_alpha, targets=lora_targets)
