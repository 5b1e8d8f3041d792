"""What the dense 2D tasks share: a backbone, a neck and one linear layer, for every pixel of every view."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pointcept.evaluation.image_metrics import inside_view
from pointcept.models.freezing import freeze
from pointcept.structures import CameraBatch, SceneBatch
from ponder2d.backbones import padded_size
from ponder2d.encoder import present_views

_HEAD_STD = 0.01


class DensePredictor(nn.Module):
    """Predicts some values for every pixel of the views of a batch, each view on its own.

    The names of backbone and neck are those of ``ImageVolumeEncoder``: from a checkpoint of pre-training both are
    loaded, as far as their shapes agree.

    Args:
        backbone: Maps images to feature maps.
        neck: Joins the maps to one.
        out_channels: Values per pixel.
        freeze_backbone: Train neck and head alone: the backbone's weights, statistics of batch norms and drop path are
            fixed. With a ``LinearNeck`` this is a linear probe.

    Attributes:
        head_prefixes: How the names of weights begin that depend on the task.
    """

    head_prefixes = ("head.",)

    def __init__(self, backbone: nn.Module, neck: nn.Module, out_channels: int, freeze_backbone: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = small_start(nn.Conv2d(neck.out_channels, out_channels, 1))
        if freeze_backbone:
            freeze(self.backbone)

    def predict(self, cameras: CameraBatch) -> Float[Tensor, "B V K H W"]:
        """The head's values, bilinear between the pixels of the neck's map; zero in views that a scene lacks."""
        batch, views, _, height, width = cameras.image.shape
        present = present_views(cameras)
        image = cameras.image.flatten(0, 1).index_select(0, present)
        values = self.head(self.neck(self.backbone(image))).float()
        padded = padded_size((height, width), self.backbone.divisor)
        values = F.interpolate(values, size=padded, mode="bilinear", align_corners=False)[..., :height, :width]
        spread = values.new_zeros(batch * views, *values.shape[1:]).index_copy(0, present, values)
        return spread.unflatten(0, (batch, views))


def small_start(head: nn.Module) -> nn.Module:
    """A linear layer with weights near 0: whatever the scale of pre-trained features, no prediction is extreme."""
    nn.init.normal_(head.weight, std=_HEAD_STD)
    nn.init.zeros_(head.bias)
    return head


def task_views(batch: SceneBatch) -> CameraBatch:
    """The views that a dense task predicts for.

    Raises:
        ValueError: there are none.
    """
    if batch.cameras is None:
        raise ValueError(
            f"A 2D task needs images: the batch of {list(batch.name)} has none. Set num_views in the data set."
        )
    return batch.cameras


def view_pixels(cameras: CameraBatch) -> Bool[Tensor, "B V H W"]:
    """Pixels that belong to a view and not to its padding."""
    return inside_view(cameras.size_px, *cameras.image.shape[-2:])


def require_finite(name: str, values: Float[Tensor, "B V H W"], inside: Bool[Tensor, "B V H W"], scenes: tuple) -> None:
    """Checks a prediction before it is scored.

    Raises:
        ValueError: it is not finite somewhere inside a view; names the scenes.
    """
    wrong = (~torch.isfinite(values) & inside).flatten(1).sum(dim=1).tolist()
    if any(wrong):
        counts = {scene: count for scene, count in zip(scenes, wrong, strict=True) if count}
        raise ValueError(
            f"Predicted {name} must be finite: got nan or inf in this many pixels of these scenes: {counts}. Check the "
            "weights; a smaller learning rate often helps."
        )
