"""The segmentation losses: worked out by hand, against slow twins, and without any label."""

import math

import pytest
import torch

from pointcept.models.segmentation import (
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    LovaszLoss,
    segmentation_losses,
)

LOSSES = [CrossEntropyLoss, LovaszLoss, FocalLoss, DiceLoss]


def rows(num_rows: int = 40, num_classes: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(-1, num_classes - 1, (num_rows,), generator=generator)  # the last class never occurs
    return torch.randn(num_rows, num_classes, generator=generator, dtype=torch.float64), target


def test_cross_entropy_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]))
    target = torch.tensor([0, 1, -1])
    assert CrossEntropyLoss()(logits, target).item() == pytest.approx((math.log(2) - math.log(0.8)) / 2)
    weighted = CrossEntropyLoss(weight=[3.0, 1.0, 7.0])(logits, target).item()
    assert weighted == pytest.approx((3 * math.log(2) - math.log(0.8)) / 4)
    smooth = CrossEntropyLoss(label_smoothing=0.3, loss_weight=2.0)(logits[:1], target[:1]).item()
    assert smooth == pytest.approx(2 * (0.7 * math.log(2) + 0.1 * (math.log(2) + 2 * math.log(4))))


def test_class_weights_move_with_the_model():
    loss = CrossEntropyLoss(weight=[1.0, 2.0]).to(torch.float64)
    assert dict(loss.named_buffers())["class_weight"].dtype == torch.float64


def test_lovasz_against_the_definition():
    """The Lovasz extension of the Jaccard loss, class by class and row by row."""
    logits, target = rows()
    keep = target >= 0
    probability, label = logits[keep].softmax(1), target[keep]
    per_class = []
    for number in label.unique().tolist():
        truth = (label == number).double()
        errors = (truth - probability[:, number]).abs()
        order = errors.argsort(descending=True)
        wrong, before, value = set(), 0.0, 0.0
        positive = {i for i in range(len(truth)) if truth[i] == 1}
        for index in order.tolist():
            wrong.add(index)
            jaccard = 1 - len(positive - wrong) / len(positive | wrong)
            value += errors[index].item() * (jaccard - before)
            before = jaccard
        per_class.append(value)
    assert LovaszLoss()(logits, target).item() == pytest.approx(sum(per_class) / len(per_class), rel=1e-5)


def test_focal_by_hand_and_without_focus():
    logits = torch.log(torch.tensor([[0.5, 0.5], [0.9, 0.1]]))
    target = torch.tensor([0, 1])
    expected = (0.25 * math.log(2) - 0.81 * math.log(0.1)) / 2
    assert FocalLoss()(logits, target).item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(FocalLoss(gamma=0.0)(*rows()), CrossEntropyLoss()(*rows()))


def test_dice_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.5], [0.8, 0.2], [0.3, 0.7]]))
    target = torch.tensor([0, 0, -1])  # class 1 does not occur
    expected = 1 - 2 * (0.5 + 0.8) / (0.25 + 0.64 + 2)
    assert DiceLoss()(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_losses_together_are_those_of_each_alone_and_one_name_adds_up():
    logits, target = rows()
    criteria = [CrossEntropyLoss(), LovaszLoss(loss_weight=0.5), CrossEntropyLoss(loss_weight=2.0, ignore_index=0)]
    found = segmentation_losses(criteria, logits, target)
    alone = [criterion(logits, target) for criterion in criteria]
    assert list(found) == ["cross_entropy_loss", "lovasz_loss"]
    torch.testing.assert_close(found["cross_entropy_loss"], alone[0] + alone[2])
    torch.testing.assert_close(found["lovasz_loss"], alone[1])


@pytest.mark.parametrize("loss", LOSSES)
def test_ignored_rows_count_nowhere_and_order_does_not_matter(loss):
    logits, target = rows()
    keep = target >= 0
    expected = loss()(logits, target)
    torch.testing.assert_close(loss()(logits[keep], target[keep]), expected)
    torch.testing.assert_close(loss()(logits.flip(0), target.flip(0)), expected)
    logits[~keep] = torch.nan
    torch.testing.assert_close(loss()(logits, target), expected)
    not_two = target.where(target != 2, -1)
    torch.testing.assert_close(loss(ignore_index=2)(logits, target), loss()(logits, not_two))
    assert not torch.equal(loss()(logits, not_two), expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_perfect_logits_cost_nothing_and_gradients_are_finite(loss):
    _, target = rows()
    perfect = torch.nn.functional.one_hot(target.clamp(min=0), 5) * 60.0
    perfect.requires_grad_()
    value = loss()(perfect, target)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6) and perfect.grad.isfinite().all()


@pytest.mark.parametrize("loss", LOSSES)
def test_without_any_label_the_loss_and_its_gradient_are_zero(loss):
    logits = torch.randn(4, 3, requires_grad=True)
    value = loss()(logits, torch.full((4,), -1))
    value.backward()
    assert value.item() == 0 and not logits.grad.any()


def test_a_label_that_is_neither_a_class_nor_unlabelled_is_not_left_out_silently():
    logits, target = rows()
    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        CrossEntropyLoss()(logits, target.where(target >= 0, -2))


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match=r"label_smoothing must lie in 0\.\.1: got 1\.5"):
        CrossEntropyLoss(label_smoothing=1.5)
    with pytest.raises(ValueError, match=r"weight must have one factor per class: got 2 for 5 classes"):
        CrossEntropyLoss(weight=[1.0, 2.0])(*rows())
    with pytest.raises(ValueError, match=r"gamma must not be negative: got -1"):
        FocalLoss(gamma=-1.0)
