"""The segmentor: its heads, what it freezes, what it refuses, and checkpoints of other class counts."""

import pytest
import torch
from torch import nn
from toy_scenes import scenes, transformer, unet

from pointcept.models.segmentation import LovaszLoss, Segmentor
from pointcept.models.segmentation.stage_decoder import _rows
from pointcept.models.weights import load_weights


@pytest.mark.parametrize("make_backbone", [unet, transformer])
@pytest.mark.parametrize("decoder_channels", [None, 7])
def test_losses_in_training_reach_every_parameter_and_evaluation_gives_logits(make_backbone, decoder_channels):
    torch.manual_seed(0)
    model = Segmentor(make_backbone(), 4, decoder_channels=decoder_channels)
    losses = model(scenes())
    assert list(losses) == ["cross_entropy_loss"]
    losses["cross_entropy_loss"].backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []
    assert model.eval()(scenes())["logits"].shape == (90, 4)


def test_losses_add_up_under_their_names():
    torch.manual_seed(0)
    model = Segmentor(unet(), 4, criteria=[LovaszLoss(loss_weight=2.0)])
    single = Segmentor(unet(), 4, criteria=[LovaszLoss()])
    single.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(scenes())["lovasz_loss"], 2 * single(scenes())["lovasz_loss"])


def test_a_normalised_head_does_not_depend_on_the_scale_of_the_features():
    torch.manual_seed(0)
    model = Segmentor(unet(), 4, freeze_backbone=True, normalize_features=True)
    features = model.backbone(scenes().points).feat
    torch.testing.assert_close(model.seg_head(100 * features), model.seg_head(features), rtol=1e-2, atol=1e-2)
    centred = model.seg_head[0](features)
    torch.testing.assert_close(centred.mean(dim=0), torch.zeros(5), rtol=0, atol=1e-5)


@pytest.mark.parametrize("make_backbone", [unet, transformer])
@pytest.mark.parametrize("normalize", [False, True])
def test_a_hyper_column_is_a_linear_layer_on_the_features_of_all_resolutions(make_backbone, normalize):
    torch.manual_seed(0)
    model = Segmentor(make_backbone(), 4, freeze_backbone=True, hyper_column=True, normalize_features=normalize).train()
    points, head = scenes().points, model.seg_head
    logits = model.logits(points)
    stages = model.backbone.forward_stages(points)
    columns = []
    for stage, info in zip(stages, model.backbone.stage_info):
        feat = stage.feat
        if normalize:
            feat = (feat - feat.mean(dim=0)) / feat.var(dim=0, unbiased=False).add(1e-12).sqrt()
        columns.append(feat[_rows(points, stage, info.stride)])
    weight = torch.cat([layer.weight for layer in head.proj], dim=1)
    bias = torch.stack([layer.bias for layer in head.proj]).sum(dim=0)
    torch.testing.assert_close(logits, torch.cat(columns, dim=1) @ weight.T + bias, rtol=1e-3, atol=1e-3)


def test_a_backbone_with_logits_needs_no_head():
    torch.manual_seed(0)
    backbone = unet(num_classes=4)
    model = Segmentor(backbone).eval()
    assert model.num_classes == 4 and [name for name in model.state_dict() if name.startswith("seg_head")] == []
    torch.testing.assert_close(model(scenes())["logits"], backbone(scenes().points).feat)


def test_every_point_finds_the_coarse_voxel_it_lies_in():
    points = scenes().points
    stages = unet().eval().forward_stages(points)
    for stage, stride in zip(stages, (1, 2, 4)):
        rows = _rows(points, stage, stride)
        assert torch.equal(stage.grid_coord[rows], points.grid_coord // stride)
        assert torch.equal(stage.batch_index[rows], points.batch_index)


def test_a_frozen_backbone_stays_exactly_as_it_is_while_the_head_learns():
    torch.manual_seed(0)
    model = Segmentor(transformer(), 4, freeze_backbone=True).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.5)
    for _ in range(2):
        model(scenes())["cross_entropy_loss"].backward()
        optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"seg_head.weight", "seg_head.bias"}
    first, second = (model(scenes())["cross_entropy_loss"] for _ in range(2))
    assert torch.equal(first, second)  # no drop path


@pytest.mark.parametrize(
    ("make_backbone", "encoder"), [(unet, ("conv_input", "down", "enc")), (transformer, ("embedding", "enc"))]
)
def test_with_a_frozen_encoder_the_decoder_learns(make_backbone, encoder):
    torch.manual_seed(0)
    model = Segmentor(make_backbone(), 4, freeze_encoder=True).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(scenes())["cross_entropy_loss"].backward()
    optimizer.step()
    changed = {name.split(".")[1] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed.isdisjoint(encoder) and "dec" in changed


def test_contradicting_arguments_are_refused():
    with pytest.raises(ValueError, match=r"num_classes must be at least 1: got None\. Give it"):
        Segmentor(unet())
    with pytest.raises(ValueError, match=r"has num_classes=5 for 4\. Set num_classes=0"):
        Segmentor(unet(num_classes=5), 4)
    with pytest.raises(ValueError, match=r"backbone_out_channels must be the backbone's 5: got 96\."):
        Segmentor(unet(), 4, backbone_out_channels=96)

    for changes in ({"decoder_channels": 8}, {"backbone": unet(num_classes=4)}):
        with pytest.raises(ValueError, match=r"and hyper_column need a linear head: got a backbone with logits, or"):
            Segmentor(**{"backbone": unet(), "num_classes": 4, "normalize_features": True, **changes})

    class Plain(nn.Linear):
        out_channels = 3

    with pytest.raises(
        ValueError, match=r"decoder_channels needs a backbone that tells its stages: Plain is no Backbone"
    ):
        Segmentor(Plain(3, 3), 4, decoder_channels=8)


def test_wrong_batches_are_refused():
    model = Segmentor(unet(), 4)
    batch = scenes()
    with pytest.raises(ValueError, match=r"A segmentor needs point clouds: the batch of \('a', 'b'\) has none"):
        model(batch.replace(points=None))
    with pytest.raises(ValueError, match=r"Training a segmentor needs labels: the batch of \('a', 'b'\) has none"):
        model(batch.replace(points=batch.points.replace(segment=None)))
    segment = batch.points.segment.clone()
    segment[:3] = torch.tensor([7, 255, 7])
    with pytest.raises(
        ValueError,
        match=r"Labels must lie in -1\.\.3: 3 of 90 points of \['a', 'b'\] have 7 \(2 points\), 255 \(1 points\)",
    ):
        model(batch.replace(points=batch.points.replace(segment=segment)))
    coarse = transformer(enc_mode=True)
    with pytest.raises(
        ValueError, match=r"needs features of every point: PointTransformerV3 gave \d+ rows for 90 points"
    ):
        Segmentor(coarse, 4)(batch)


def test_a_checkpoint_of_other_classes_needs_a_new_head(tmp_path):
    torch.manual_seed(0)
    torch.save({"state_dict": Segmentor(unet(), 5).state_dict()}, tmp_path / "five.pth")
    model = Segmentor(unet(), 4)
    head = model.seg_head.weight.clone()
    with pytest.raises(
        ValueError,
        match=r"must have the model's classes: in .*five\.pth is seg_head\.weight \(\(5, 5\) in the file, \(4, 5\) in "
        r"the model.*reset_head=True",
    ):
        load_weights(model, tmp_path / "five.pth")
    match = load_weights(model, tmp_path / "five.pth", reset_head=True)
    assert set(match.missing) == {"seg_head.weight", "seg_head.bias"} and not match.mismatched
    assert torch.equal(model.seg_head.weight, head)
    same = Segmentor(unet(), 5)
    head = same.seg_head.weight.clone()
    load_weights(same, tmp_path / "five.pth", reset_head=True)
    assert torch.equal(same.seg_head.weight, head)  # a new head also where the old one would fit
    logits = Segmentor(unet(num_classes=4))
    torch.save(Segmentor(unet(num_classes=5)).state_dict(), tmp_path / "logits.pth")
    with pytest.raises(ValueError, match=r"must have the model's classes: in .*logits\.pth is backbone\.final\.weight"):
        load_weights(logits, tmp_path / "logits.pth")


def test_pre_trained_weights_reach_the_backbone(tmp_path):
    torch.manual_seed(0)
    backbone = unet()
    weights = {f"encoder.backbone.{name}": value for name, value in backbone.state_dict().items()}
    torch.save({"state_dict": weights | {"renderer.x": torch.zeros(1)}}, tmp_path / "ponder.pth")
    model = Segmentor(unet(), 4)
    load_weights(model, tmp_path / "ponder.pth")
    assert all(torch.equal(value, model.backbone.state_dict()[name]) for name, value in backbone.state_dict().items())
