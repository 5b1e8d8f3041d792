"""The evaluator of semantic segmentation: figures that follow from one confusion matrix."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from pointcept.datasets.labels import label_set
from pointcept.registry import EVALUATORS
from pointcept.structures import SceneBatch
from pointcept.utils.distributed import all_reduce_sum


def confusion_matrix(
    pred: Int[Tensor, "N"], target: Int[Tensor, "M"], num_classes: int, ignore_index: int = -1
) -> Int[Tensor, "K K"]:
    """Number of points of every pair of true class (row) and predicted class (column).

    Args:
        pred: Class of each point, 0..``num_classes`` - 1.
        target: True class of the same points; those of ``ignore_index`` count nowhere.
        num_classes: K.
        ignore_index: Label of points that do not count.

    Raises:
        ValueError: different lengths, or a class out of range.
    """
    if pred.shape != target.shape:
        raise ValueError(
            f"Predictions and labels must be of the same points: got {len(pred)} and {len(target)}. Predict for the "
            "points that the labels belong to."
        )
    keep = target != ignore_index
    pred, target = pred[keep], target[keep]
    for what, value in (("Labels", target), ("Predictions", pred)):
        wrong = int(((value < 0) | (value >= num_classes)).sum())
        if wrong:
            raise ValueError(
                f"{what} must lie in 0..{num_classes - 1}: {wrong} of {len(value)} points do not, with values from "
                f"{int(value.min())} to {int(value.max())}. Map the labels when reading, or correct num_classes."
            )
    return torch.bincount(target * num_classes + pred, minlength=num_classes**2).reshape(num_classes, num_classes)


@EVALUATORS.register("SemSegEvaluator")
class SemanticSegmentationEvaluator:
    """Mean IoU, mean accuracy and overall accuracy over all labelled points of the data set together.

    A point counts once, at full resolution where the batch knows its original points: then every original point has the
    prediction of the point that stands for it. A class is present if a point is labelled or predicted as it. ``mIoU``
    and ``mAcc`` are means over the classes that are present (``mAcc``: that have labels); ``mIoU_all`` and
    ``mAcc_all`` count the others as 0, as Pointcept does.

    Args:
        num_classes: Number of classes.
        class_names: Their names, for the table, or the name of a known label set; numbers by default.

    Attributes:
        total: The confusion matrix of all processes; set by :meth:`compute`.

    Raises:
        ValueError: the number of names is not that of the classes, or there is no such label set.
    """

    main_metric = "mIoU"
    higher_is_better = True

    def __init__(self, num_classes: int, class_names: Sequence[str] | str | None = None) -> None:
        if isinstance(class_names, str):
            class_names = label_set(class_names)
        names = [str(index) for index in range(num_classes)] if class_names is None else list(class_names)
        if len(names) != num_classes:
            raise ValueError(
                f"class_names must name all {num_classes} classes: got {len(names)} names. Correct either."
            )
        self.num_classes = num_classes
        self.class_names = tuple(names)
        self.reset()

    def reset(self) -> None:
        """Forget every point."""
        self._confusion: Tensor | None = None

    def update(self, output: dict[str, Tensor], batch: SceneBatch) -> None:
        """Add the points of a batch.

        Args:
            output: ``logits`` (N, K) of the batch's points, or ``pred`` (N,), their classes.
            batch: The scenes with their labels.

        Raises:
            ValueError: there are no predictions or no labels, or they do not belong together.
        """
        pred = predicted_classes(output)
        if batch.origin is not None and batch.origin.segment is not None:
            pred, target = pred.index_select(0, batch.origin.inverse), batch.origin.segment
        elif batch.points is not None and batch.points.segment is not None:
            target = batch.points.segment
        else:
            raise ValueError(
                f"Scoring a segmentation needs labels: the batch of {batch.name} has none. Set segment_key."
            )
        self.add(pred, target)

    def add(self, pred: Int[Tensor, "N"], target: Int[Tensor, "M"]) -> None:
        """Add points by their predicted and true classes."""
        self.add_confusion(confusion_matrix(pred, target, self.num_classes))

    def add_confusion(self, confusion: Int[Tensor, "K K"]) -> None:
        """Add points that were counted before, rows true and columns predicted."""
        self._confusion = confusion if self._confusion is None else self._confusion + confusion

    def confusion(self) -> Int[Tensor, "K K"]:
        """The matrix over all processes, rows true and columns predicted. Every process must call it."""
        empty = torch.zeros(self.num_classes, self.num_classes, dtype=torch.int64)
        return all_reduce_sum(empty if self._confusion is None else self._confusion.cpu())

    def compute(self) -> dict[str, float]:
        """``mIoU, mAcc, allAcc, mIoU_all, mAcc_all``, fractions, over all processes.

        Raises:
            ValueError: no labelled point was evaluated.
        """
        self.total = self.confusion()
        confusion = self.total.double()
        if confusion.sum() == 0:
            raise ValueError(
                "At least one labelled point must be evaluated: got none. Check the split and segment_key."
            )
        hit, labelled, predicted = confusion.diagonal(), confusion.sum(dim=1), confusion.sum(dim=0)
        union = labelled + predicted - hit
        iou, accuracy = hit / union.clamp(min=1), hit / labelled.clamp(min=1)
        return {
            "mIoU": float(iou.sum() / (union > 0).sum()),
            "mAcc": float(accuracy.sum() / (labelled > 0).sum()),
            "allAcc": float(hit.sum() / labelled.sum()),
            "mIoU_all": float(iou.mean()),
            "mAcc_all": float(accuracy.mean()),
        }

    def table(self) -> str:
        """IoU, accuracy and share of the labelled points of each class, after :meth:`compute`."""
        confusion = self.total.double()
        hit, labelled = confusion.diagonal(), confusion.sum(dim=1)
        union = labelled + confusion.sum(dim=0) - hit
        width = max(len(name) for name in self.class_names)
        lines = [f"{'class':<{width}}    IoU    acc  share"]
        for index, name in enumerate(self.class_names):
            present, has_labels = bool(union[index] > 0), bool(labelled[index] > 0)
            iou = f"{float(hit[index] / union[index]):6.3f}" if present else "     -"
            accuracy = f"{float(hit[index] / labelled[index]):6.3f}" if has_labels else "     -"
            lines.append(f"{name:<{width}} {iou} {accuracy} {float(labelled[index] / labelled.sum()):6.3f}")
        return "\n".join(lines)


def predicted_classes(output: dict[str, Tensor]) -> Int[Tensor, "N"]:
    """The class of each point of a model's output.

    Raises:
        ValueError: the output has neither ``logits`` nor ``pred``.
    """
    if "pred" in output:
        return output["pred"]
    if "logits" not in output:
        raise ValueError(
            f"The model's output must have 'logits' or 'pred' to be scored as a segmentation: got {sorted(output)}. "
            "Evaluate a segmentor, or choose another evaluator."
        )
    return output["logits"].argmax(dim=1)
