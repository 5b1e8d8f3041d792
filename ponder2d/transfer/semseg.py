"""Semantic segmentation of images: the model and its evaluator."""

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor, nn

from pointcept.evaluation.segmentation import SemanticSegmentationEvaluator
from pointcept.models.segmentation.losses import CrossEntropyLoss, SegmentationLoss, segmentation_losses
from pointcept.registry import EVALUATORS, MODELS
from pointcept.structures import CameraBatch, SceneBatch
from ponder2d.transfer.dense import DensePredictor, task_views, view_pixels


@MODELS.register()
class ImageSegmentor(DensePredictor):
    """Gives every pixel of the views one logit per class.

    Args:
        backbone: Maps images to feature maps.
        neck: Joins the maps to one.
        num_classes: Number of classes.
        criteria: Losses over the labelled pixels; their sum is minimised. Cross-entropy by default.
        freeze_backbone: See :class:`DensePredictor`.

    Raises:
        ValueError: there is no class.
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        num_classes: int,
        criteria: Sequence[SegmentationLoss] = (),
        freeze_backbone: bool = False,
    ) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1: got {num_classes}.")
        super().__init__(backbone, neck, num_classes, freeze_backbone)
        self.num_classes = num_classes
        self.criteria = nn.ModuleList(criteria or [CrossEntropyLoss()])

    def forward(self, batch: SceneBatch) -> dict[str, Tensor]:
        """Loss terms in training; ``logits`` (B, V, K, H, W) in evaluation.

        Raises:
            ValueError: the batch has no views, or in training no labels or labels out of range (checked where it does
                not wait for a device).
        """
        cameras = task_views(batch)
        logits = self.predict(cameras)
        if not self.training:
            return {"logits": logits}
        target = labels_of(cameras, batch.name)
        if target.device.type == "cpu":
            require_labels(target, self.num_classes, batch.name)
        return segmentation_losses(self.criteria, pixel_rows(logits), target.flatten())


@EVALUATORS.register()
class ImageSegmentationEvaluator(SemanticSegmentationEvaluator):
    """Mean IoU, mean accuracy and overall accuracy over all labelled pixels of all views together.

    The figures are those of ``SemSegEvaluator``, with pixels for points.
    """

    def update(self, output: dict[str, Tensor], batch: SceneBatch) -> None:
        """Add the pixels of a batch.

        Args:
            output: ``logits`` (B, V, K, H, W) of the batch's views.
            batch: The scenes with the labels of their views.

        Raises:
            ValueError: there are no predictions or no labels, or they do not belong together.
        """
        cameras = task_views(batch)
        target = labels_of(cameras, batch.name)
        if "logits" not in output or output["logits"].ndim != 5:
            raise ValueError(
                f"The model's output must have 'logits' (B, V, K, H, W) to be scored as a segmentation of images: got "
                f"{ {key: tuple(value.shape) for key, value in output.items()} }. Evaluate an ImageSegmentor."
            )
        pred = output["logits"].argmax(dim=2)
        inside = view_pixels(cameras)
        require_labels(target, self.num_classes, batch.name)
        self.add(pred[inside], target[inside])


def labels_of(cameras: CameraBatch, scenes: Sequence[str]) -> Int[Tensor, "B V H W"]:
    """Class of each pixel, -1 = none.

    Raises:
        ValueError: the views have no labels.
    """
    if cameras.segment is None:
        raise ValueError(
            f"Segmentation needs labels of the views: the batch of {list(scenes)} has none. The frames need a folder "
            "label/ beside color/, and the data set a segment_key."
        )
    return cameras.segment


def require_labels(target: Int[Tensor, "B ..."], num_classes: int, scenes: Sequence[str]) -> None:
    """Checks that every label is -1 or a class.

    Raises:
        ValueError: some are not; names the scenes and the labels.
    """
    wrong = (target < -1) | (target >= num_classes)
    if wrong.any():
        names = [
            name for name, any_wrong in zip(scenes, wrong.flatten(1).any(dim=1).tolist(), strict=True) if any_wrong
        ]
        raise ValueError(
            f"Labels must lie in -1..{num_classes - 1}: {int(wrong.sum())} of {target.numel()} of {names} are "
            f"{target[wrong].unique().tolist()[:8]}. Map the labels when reading, or correct num_classes."
        )


def pixel_rows(values: Float[Tensor, "B V K H W"]) -> Float[Tensor, "N K"]:
    """One row per pixel, in the order b, v, row, column."""
    return values.permute(0, 1, 3, 4, 2).flatten(0, 3)
