"""Losses of per-point classification. Rows whose label is -1 or ``ignore_index`` count in none of them.

Every loss is a mean over the labelled rows of a batch or over its classes; a batch without any labelled row gives zero,
with a zero gradient.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from pointcept.registry import LOSSES


class SegmentationLoss(nn.Module):
    """A weighted term of a segmentation loss; ``name`` is its key in the logs.

    Args:
        loss_weight: Factor of the term.
        ignore_index: Label of rows that do not count, besides -1.
    """

    name: str

    def __init__(self, loss_weight: float, ignore_index: int) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.ignore_index = ignore_index

    def forward(self, logits: Float[Tensor, "N K"], target: Int[Tensor, "N"]) -> Float[Tensor, ""]:
        """The weighted loss."""
        return self.weighted(*_labelled(logits, target, self.ignore_index))

    def weighted(self, logits: Float[Tensor, "M K"], target: Int[Tensor, "M"]) -> Float[Tensor, ""]:
        """The weighted loss of rows that all have labels."""
        if target.shape[0] == 0:
            return logits.sum() * 0.0
        return self.loss_weight * self.value(logits.float(), target)

    def value(self, logits: Float[Tensor, "M K"], target: Int[Tensor, "M"]) -> Float[Tensor, ""]:
        """The loss of labelled rows, of which there is at least one."""
        raise NotImplementedError


def segmentation_losses(
    criteria: Iterable[SegmentationLoss], logits: Float[Tensor, "N K"], target: Int[Tensor, "N"]
) -> dict[str, Float[Tensor, ""]]:
    """The weighted losses by name, those of one name added up; unlabelled rows are left out once for all of them."""
    labelled: dict[int, tuple[Tensor, Tensor]] = {}
    values: dict[str, Tensor] = {}
    for criterion in criteria:
        if criterion.ignore_index not in labelled:
            labelled[criterion.ignore_index] = _labelled(logits, target, criterion.ignore_index)
        value = criterion.weighted(*labelled[criterion.ignore_index])
        values[criterion.name] = values[criterion.name] + value if criterion.name in values else value
    return values


def _labelled(logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    keep = torch.nonzero((target != -1) & (target != ignore_index)).squeeze(1)
    return logits.index_select(0, keep), target.index_select(0, keep)


@LOSSES.register()
class CrossEntropyLoss(SegmentationLoss):
    """Mean of -log softmax(logits)[target], with class weights as ``torch.nn.functional.cross_entropy`` has them.

    Args:
        weight: One factor per class; None weighs all alike.
        label_smoothing: Share of the target that is spread over all classes, 0..1.
        loss_weight: Factor of the term.
        ignore_index: Label of rows that do not count, besides -1.
    """

    name = "cross_entropy_loss"

    def __init__(
        self,
        weight: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        loss_weight: float = 1.0,
        ignore_index: int = -1,
    ) -> None:
        super().__init__(loss_weight, ignore_index)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing must lie in 0..1: got {label_smoothing}.")
        self.label_smoothing = label_smoothing
        self.register_buffer("class_weight", None if weight is None else torch.tensor(weight, dtype=torch.float32))

    def value(self, logits: Float[Tensor, "M K"], target: Int[Tensor, "M"]) -> Float[Tensor, ""]:
        """Mean over rows, or the weighted mean."""
        if self.class_weight is not None and len(self.class_weight) != logits.shape[1]:
            raise ValueError(
                f"weight must have one factor per class: got {len(self.class_weight)} for {logits.shape[1]} classes."
            )
        return F.cross_entropy(logits, target, weight=self.class_weight, label_smoothing=self.label_smoothing)


@LOSSES.register()
class LovaszLoss(SegmentationLoss):
    """Lovasz-softmax over the classes that occur in the batch (Berman et al., CVPR 2018, algorithm 1).

    Per class, with the errors e = |1[target = c] - p_c| sorted from large to small, sum of e_i (J_i - J_{i-1}), J_i
    being the Jaccard loss when the first i rows are wrong. All classes are sorted in one call.

    Args:
        mode: Accepted for Pointcept's configs.
        loss_weight: Factor of the term.
        ignore_index: Label of rows that do not count, besides -1.
    """

    name = "lovasz_loss"

    def __init__(
        self, mode: Literal["multiclass"] = "multiclass", loss_weight: float = 1.0, ignore_index: int = -1
    ) -> None:
        super().__init__(loss_weight, ignore_index)

    def value(self, logits: Float[Tensor, "M K"], target: Int[Tensor, "M"]) -> Float[Tensor, ""]:
        """Mean over the classes that occur."""
        is_class = F.one_hot(target, logits.shape[1]).to(logits.dtype)
        errors, order = torch.sort((is_class - logits.softmax(dim=1)).abs(), dim=0, descending=True)
        hit = is_class.gather(0, order)
        total = hit.sum(dim=0)
        intersection = total - hit.cumsum(dim=0)
        union = total + (1 - hit).cumsum(dim=0)
        jaccard = 1 - intersection / union
        step = torch.diff(jaccard, dim=0, prepend=jaccard.new_zeros(1, logits.shape[1]))
        per_class = (errors * step).sum(dim=0)
        occurs = total > 0
        return torch.where(occurs, per_class, 0.0).sum() / occurs.sum()


@LOSSES.register()
class FocalLoss(SegmentationLoss):
    """Mean over rows of -(1 - p)^gamma log p, p the softmax probability of the target (Lin et al., ICCV 2017, eq. 5).

    Args:
        gamma: Exponent; 0 gives the cross-entropy.
        loss_weight: Factor of the term.
        ignore_index: Label of rows that do not count, besides -1.
    """

    name = "focal_loss"

    def __init__(self, gamma: float = 2.0, loss_weight: float = 1.0, ignore_index: int = -1) -> None:
        super().__init__(loss_weight, ignore_index)
        if gamma < 0:
            raise ValueError(f"gamma must not be negative: got {gamma}.")
        self.gamma = gamma

    def value(self, logits: Float[Tensor, "M K"], target: Int[Tensor, "M"]) -> Float[Tensor, ""]:
        """Mean over rows."""
        log_probability = logits.log_softmax(dim=1).gather(1, target[:, None]).squeeze(1)
        return (-((1 - log_probability.exp()) ** self.gamma) * log_probability).mean()


@LOSSES.register()
class DiceLoss(SegmentationLoss):
    """Mean over the classes that occur of 1 - 2 sum(p y) / (sum(p^2) + sum(y)) (V-Net, Milletari et al., 3DV 2016).

    Args:
        loss_weight: Factor of the term.
        ignore_index: Label of rows that do not count, besides -1.
    """

    name = "dice_loss"

    def __init__(self, loss_weight: float = 1.0, ignore_index: int = -1) -> None:
        super().__init__(loss_weight, ignore_index)

    def value(self, logits: Float[Tensor, "M K"], target: Int[Tensor, "M"]) -> Float[Tensor, ""]:
        """Mean over the classes that occur."""
        probability = logits.softmax(dim=1)
        is_class = F.one_hot(target, logits.shape[1]).to(logits.dtype)
        total = is_class.sum(dim=0)
        occurs = total > 0
        size = (probability**2).sum(dim=0) + torch.where(occurs, total, 1.0)  # never 0, whose gradient is NaN
        per_class = 1 - 2 * (probability * is_class).sum(dim=0) / size
        return torch.where(occurs, per_class, 0.0).sum() / occurs.sum()
