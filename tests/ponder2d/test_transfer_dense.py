"""Segmentation and depth of images: models, losses, evaluators, and weights that come from pre-training."""

import dataclasses

import numpy as np
import pytest
import torch
from ponder2d_rooms import make_batch, make_cameras
from torch import nn

from pointcept.engines.optim import AdamW, build_optimizer
from pointcept.models.weights import load_weights
from ponder2d.backbones import TimmBackbone
from ponder2d.necks import FeaturePyramid, LinearNeck
from ponder2d.transfer import (
    DepthEstimator,
    DepthEvaluator,
    ImageSegmentationEvaluator,
    ImageSegmentor,
    NormalEstimator,
    ScaleInvariantLogLoss,
)

WIDTHS, STRIDES = (24, 32, 48, 64), (4, 8, 16, 32)


def make_parts(name="test_convnext", linear=False):
    backbone = TimmBackbone(name, drop_path_rate=0.5 if name == "test_convnext" else None)
    neck = LinearNeck if linear else FeaturePyramid
    return {"backbone": backbone, "neck": neck(backbone.channels, backbone.strides, out_channels=8)}


def make_views(scenes=2, views=3, height=20, width=40, num_classes=4):
    """A batch of images of a size that no stride divides, with depth and labels."""
    cameras = make_cameras(scenes, views, height, width)
    segment = torch.randint(-1, num_classes, (scenes, views, height, width), generator=torch.Generator().manual_seed(0))
    return dataclasses.replace(make_batch(scenes), points=None, inputs=None, cameras=cameras.replace(segment=segment))


def with_absent_view(batch):
    """The last view of the first scene is taken away, as collation leaves it."""
    cameras = batch.cameras
    size, image, depth, segment = (
        value.clone() for value in (cameras.size_px, cameras.image, cameras.depth, cameras.segment)
    )
    size[0, -1], image[0, -1], depth[0, -1], segment[0, -1] = 0, 0, 0, -1
    return batch.replace(cameras=cameras.replace(size_px=size, image=image, depth=depth, segment=segment))


@pytest.mark.parametrize("name", ["test_convnext", "test_vit"])
def test_predictions_are_the_resized_head_of_each_view_alone(name):
    torch.manual_seed(0)
    model = ImageSegmentor(**make_parts(name), num_classes=4).eval()
    batch = make_views()
    logits = model(batch)["logits"]
    assert logits.shape == (2, 3, 4, 20, 40)
    image = batch.cameras.image[1, 2][None]
    maps = model.head(model.neck(model.backbone(image)))
    divisor = model.backbone.divisor
    padded = (-(-20 // divisor) * divisor, -(-40 // divisor) * divisor)
    alone = nn.functional.interpolate(maps, padded, mode="bilinear")[..., :20, :40]
    torch.testing.assert_close(logits[1, 2], alone[0], rtol=1e-4, atol=1e-5)


def test_views_that_a_scene_lacks_change_no_other_prediction_and_no_statistic():
    torch.manual_seed(0)
    model = ImageSegmentor(**make_parts(linear=True), num_classes=4)
    batch = with_absent_view(make_views())
    shown = batch.replace(cameras=batch.cameras.replace(image=batch.cameras.image.clone().fill_(0.3)))
    seen = []
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    model(batch)
    assert seen == [5]
    model.eval()
    assert (model(shown)["logits"][0, -1] == 0).all() and (model(batch)["logits"][0, 0] != 0).any()


def test_the_segmentation_loss_is_the_cross_entropy_of_the_labelled_pixels():
    torch.manual_seed(0)
    model = ImageSegmentor(**make_parts(), num_classes=4)
    batch = make_views()
    model.backbone.eval()  # no drop path, so that both passes agree
    terms = model(batch)
    model.eval()
    rows = model(batch)["logits"].movedim(2, -1)
    target = batch.cameras.segment
    expected = nn.functional.cross_entropy(rows[target >= 0], target[target >= 0])
    assert terms.keys() == {"cross_entropy_loss"}
    torch.testing.assert_close(terms["cross_entropy_loss"], expected)


@pytest.mark.parametrize("name", ["test_convnext", "test_resnet", "test_vit"])
def test_a_frozen_backbone_stays_as_it_is_in_every_number(name):
    torch.manual_seed(0)
    model = ImageSegmentor(**make_parts(name, linear=True), num_classes=4, freeze_backbone=True)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = build_optimizer(model, AdamW(lr=0.1, weight_decay=0.5))
    batch = make_views()
    model.train()
    assert not any(module.training for module in model.backbone.modules())
    first = [one.clone() for one in model.backbone(batch.cameras.image[0])]
    for _ in range(2):
        sum(model(batch).values()).backward()
        optimizer.step()
    for one, again in zip(first, model.backbone(batch.cameras.image[0]), strict=True):
        assert torch.equal(one, again)  # drop path and batch norm are off too
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed and all(key.startswith(("neck.", "head.")) for key in changed)
    assert {"head.weight", "neck.projections.0.weight"} <= changed


def test_the_linear_neck_is_a_linear_function_of_the_normalised_maps():
    torch.manual_seed(0)
    neck = LinearNeck((3, 5), (4, 8), out_channels=2).eval()
    maps = [torch.rand(1, 3, 4, 6), torch.rand(1, 5, 2, 3)]
    others = [torch.rand_like(one) for one in maps]
    zero = neck([torch.zeros_like(one) for one in maps])
    mixed = neck([0.3 * a + 0.7 * b for a, b in zip(maps, others, strict=True)])
    torch.testing.assert_close(mixed - zero, 0.3 * (neck(maps) - zero) + 0.7 * (neck(others) - zero))
    assert neck(maps).shape == (1, 2, 4, 6)
    side_by_side = torch.cat(
        (neck.norms[0](maps[0]), nn.functional.interpolate(neck.norms[1](maps[1]), (4, 6), mode="bilinear")), dim=1
    )
    weight = torch.cat([projection.weight for projection in neck.projections], dim=1)
    bias = sum(projection.bias for projection in neck.projections)
    torch.testing.assert_close(neck(maps), nn.functional.conv2d(side_by_side, weight, bias))
    with pytest.raises(ValueError, match="one width per map: got none"):
        LinearNeck(())


def test_backbone_and_neck_come_from_a_checkpoint_of_pretraining(tmp_path, caplog):
    torch.manual_seed(0)
    pretrained = nn.ModuleDict({"encoder": nn.ModuleDict({**make_parts(), "depth_head": nn.Conv2d(8, 3, 1)})})
    torch.save({"state_dict": pretrained.state_dict()}, tmp_path / "run.pth")
    torch.manual_seed(1)
    model = DepthEstimator(**make_parts())
    match = load_weights(model, tmp_path / "run.pth")
    assert set(match.missing) == {"head.weight", "head.bias"}
    for part in ("backbone", "neck"):
        loaded, source = getattr(model, part).state_dict(), pretrained["encoder"][part].state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in source.items())
    # For a linear probe the neck is another one, and the backbone alone is taken.
    probe = ImageSegmentor(**make_parts(linear=True), num_classes=4, freeze_backbone=True)
    match = load_weights(probe, tmp_path / "run.pth")
    assert all(name.startswith("backbone.") for name in match.matched)
    assert all(name.startswith(("head.", "neck.")) for name in match.missing)


def test_the_loss_of_depth_by_hand():
    pred, target = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([2.0, 2.0, 1.0])
    difference = np.log([0.5, 1.0, 4.0])
    for focus in (0.0, 0.85, 1.0):
        expected = np.sqrt((difference**2).mean() - focus * difference.mean() ** 2)
        assert ScaleInvariantLogLoss(focus, 2.0)(pred, target, target > 0).item() == pytest.approx(2 * expected)
    mask = torch.tensor([True, False, False])
    assert ScaleInvariantLogLoss(0.0)(pred, target, mask).item() == pytest.approx(np.log(2))
    with pytest.raises(ValueError, match=r"focus must lie in 0..1: got 2"):
        ScaleInvariantLogLoss(2.0)


@pytest.mark.parametrize("exact", [False, True])
def test_the_loss_of_depth_has_a_finite_gradient_where_nothing_is_measured_or_all_is_right(exact):
    pred = torch.full((2, 3), 2.0, requires_grad=True)
    target = torch.full((2, 3), 2.0) if exact else torch.zeros(2, 3)
    loss = ScaleInvariantLogLoss()(pred, target, target > 0)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-3) and torch.isfinite(pred.grad).all()


def test_batches_without_any_measured_depth_give_zero_losses_and_no_score():
    batch = make_views()
    empty = batch.replace(cameras=batch.cameras.replace(depth=torch.zeros_like(batch.cameras.depth)))
    for model in (DepthEstimator(**make_parts()), NormalEstimator(**make_parts())):
        (loss,) = model(empty).values()
        loss.backward()
        assert loss.item() == 0 and all(
            torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None
        )
    evaluator = DepthEvaluator()
    evaluator.update({"depth": torch.ones_like(batch.cameras.depth)}, empty)
    with pytest.raises(ValueError, match="At least one view with measured depth must be evaluated"):
        evaluator.compute()


def test_depth_stays_in_its_range_and_what_is_measured_outside_is_not_learned():
    torch.manual_seed(0)
    model = DepthEstimator(**make_parts(), near_m=1.0, far_m=4.0)
    nn.init.constant_(model.head.bias, 3.0)
    nn.init.zeros_(model.head.weight)
    batch = make_views()
    depth = torch.full_like(batch.cameras.depth, 9.0)
    depth[..., 0] = 2.0
    batch = batch.replace(cameras=batch.cameras.replace(depth=depth))
    predicted = 4.0 ** (1 / (1 + np.exp(-3.0)))
    difference = abs(np.log(predicted / 2.0))
    assert model(batch)["depth_loss"].item() == pytest.approx(difference * np.sqrt(1 - 0.85), rel=1e-4)
    torch.testing.assert_close(model.eval()(batch)["depth"], torch.full_like(depth, predicted))
    with pytest.raises(ValueError, match=r"0 < near_m < far_m: got 3.0 and 2.0"):
        DepthEstimator(**make_parts(), near_m=3.0, far_m=2.0)


def test_the_scores_of_depth_are_means_over_views_by_hand():
    batch = make_views(scenes=1, views=3, height=1, width=4)
    target = torch.tensor([[[1.0, 2.0, 4.0, 0.0]], [[2.0, 2.0, 2.0, 2.0]], [[0.0] * 4]])[None]
    pred = torch.tensor([[[1.2, 2.0, 7.0, 5.0]], [[1.0, 2.0, 2.0, 2.0]], [[1.0] * 4]])[None]
    batch = batch.replace(cameras=batch.cameras.replace(depth=target))
    evaluator = DepthEvaluator()
    evaluator.update({"depth": pred}, batch)
    figures = evaluator.compute()
    assert figures["abs_rel"] == pytest.approx(((0.2 + 0 + 0.75) / 3 + 0.5 / 4) / 2)
    assert figures["rmse"] == pytest.approx((np.sqrt((0.04 + 9) / 3) + np.sqrt(1 / 4)) / 2)
    assert figures["delta1"] == pytest.approx((2 / 3 + 3 / 4) / 2)
    assert figures["delta2"] == pytest.approx((2 / 3 + 3 / 4) / 2)  # 1.75 and 2 are beyond 1.5625
    assert figures["delta3"] == pytest.approx((3 / 3 + 3 / 4) / 2)  # 1.75 is below 1.953
    # Medians (the lower of two middle ones): 2 and 2 in the first view; 2 and 2 in the second.
    assert figures["abs_rel_scaled"] == pytest.approx(figures["abs_rel"])
    evaluator.reset()
    evaluator.update({"depth": 1.7 * target.clamp(min=0.1)}, batch)
    assert evaluator.compute()["abs_rel_scaled"] == pytest.approx(0, abs=1e-6)
    mean = 7 / 3
    assert figures["abs_rel_trivial"] == pytest.approx(((mean - 1) / 1 + (mean - 2) / 2 + (4 - mean) / 4) / 3 / 2)


def test_the_scores_of_segmentation_count_labelled_pixels_of_real_views_by_hand():
    batch = with_absent_view(make_views(scenes=1, views=2, height=2, width=2, num_classes=3))
    segment = torch.tensor([[[[0, 0], [1, -1]], [[-1, -1], [-1, -1]]]])
    batch = batch.replace(cameras=batch.cameras.replace(segment=segment))
    pred = torch.tensor([[[[0, 1], [1, 2]], [[2, 2], [2, 2]]]])
    evaluator = ImageSegmentationEvaluator(3)
    evaluator.update({"logits": nn.functional.one_hot(pred, 3).movedim(-1, 2).float()}, batch)
    figures = evaluator.compute()
    assert figures["mIoU"] == pytest.approx((1 / 2 + 1 / 2) / 2) and figures["allAcc"] == pytest.approx(2 / 3)
    assert evaluator.total.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_what_cannot_be_learned_or_scored_says_why():
    batch = make_views()
    model = ImageSegmentor(**make_parts(), num_classes=3)
    with pytest.raises(ValueError, match=r"Labels must lie in -1..2: \d+ of 4800 of \['room0', 'room1'\] are \[3\]"):
        model(batch)
    with pytest.raises(ValueError, match=r"Labels must lie in -1..2"):
        ImageSegmentationEvaluator(3).update({"logits": torch.zeros(2, 3, 3, 20, 40)}, batch)
    unlabelled = batch.replace(cameras=batch.cameras.replace(segment=None))
    with pytest.raises(ValueError, match=r"needs labels of the views: the batch of \['room0', 'room1'\] has none"):
        model(unlabelled)
    with pytest.raises(ValueError, match="A 2D task needs images"):
        model(make_batch().replace(cameras=None))
    with pytest.raises(ValueError, match=r"must have 'logits' \(B, V, K, H, W\)"):
        ImageSegmentationEvaluator(4).update({"depth": torch.zeros(1)}, batch)
    with pytest.raises(ValueError, match=r"must have 'depth' \(2, 3, 20, 40\) to be scored"):
        DepthEvaluator().update({"depth": torch.zeros(2, 3, 20, 41)}, batch)
    wrong = torch.ones(2, 3, 20, 40)
    wrong[1, 0, 0, :5] = torch.nan
    with pytest.raises(ValueError, match=r"Predicted depth must be finite: .*\{'room1': 5\}"):
        DepthEvaluator().update({"depth": wrong}, batch)
    with pytest.raises(ValueError, match="num_classes must be at least 1: got 0"):
        ImageSegmentor(**make_parts(), num_classes=0)
