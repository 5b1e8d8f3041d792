import pytest
import torch
from torch import nn

from pointcept.models.encoders import BlockMask, PointVolumeEncoder, ProjectionUNet
from pointcept.models.pretraining import Ponder
from pointcept.models.segmentation import CrossEntropyLoss, DecoupledHeads
from pointcept.rendering import (
    ColorLoss,
    DepthLoss,
    EikonalLoss,
    FreeSpaceLoss,
    NeuSRenderer,
    NeuSSampler,
    RaySampler,
    SDFField,
    SDFLoss,
    WeightRamp,
)
from pointcept.structures import CameraBatch, PointBatch, SceneBatch


class PointwiseBackbone(nn.Module):
    """Maps each point on its own."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(self, points: PointBatch) -> PointBatch:
        return points.replace(feat=self.linear(points.feat))


def make_model() -> Ponder:
    torch.manual_seed(0)
    encoder = PointVolumeEncoder(
        backbone=PointwiseBackbone(3, 6),
        projection=ProjectionUNet(6, 8, channels=(4, 8)),
        grid_shape=(8, 8, 4),
        mask=BlockMask(in_channels=3, ratio=0.5, block_size=2),
    )
    field = SDFField(8, hidden_channels=8, geometry_channels=3)
    losses = (ColorLoss(), DepthLoss(), SDFLoss(), FreeSpaceLoss(), EikonalLoss())
    return Ponder(encoder, NeuSRenderer(field, NeuSSampler(8, 4)), losses, RaySampler(num_rays=6), render_chunk=50)


def make_batch(scenes: int = 2, views: int = 2) -> SceneBatch:
    generator = torch.Generator().manual_seed(1)
    count = 40
    coord = torch.rand(scenes * count, 3, generator=generator) * torch.tensor([4.0, 3.0, 2.0])
    world_from_camera = torch.eye(4)
    world_from_camera[:3, :3] = torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    world_from_camera[:3, 3] = torch.tensor([0.5, 1.5, 1.0])
    cameras = CameraBatch(
        image=torch.rand(scenes, views, 3, 6, 8, generator=generator),
        depth=torch.rand(scenes, views, 6, 8, generator=generator) + 1,
        intrinsic=torch.tensor([[6.0, 0, 3.5], [0, 6.0, 2.5], [0, 0, 1]]).expand(scenes, views, 3, 3),
        extrinsic=torch.linalg.inv(world_from_camera).expand(scenes, views, 4, 4),
        size_px=torch.tensor([6, 8]).expand(scenes, views, 2),
    )
    points = PointBatch(
        coord=coord,
        grid_coord=(coord * 10).long(),
        feat=torch.rand(scenes * count, 3, generator=generator),
        offset=torch.arange(1, scenes + 1) * count,
    )
    return SceneBatch(
        seed=torch.arange(scenes) + 7, name=tuple(f"room{i}" for i in range(scenes)), points=points, cameras=cameras
    )


def test_training_gives_every_weighted_loss_and_a_gradient_to_every_parameter():
    model, batch = make_model(), make_batch()
    losses = model(batch)
    assert list(losses) == ["color_loss", "depth_loss", "sdf_loss", "free_space_loss", "eikonal_loss"]
    sum(losses.values()).backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert missing == []
    still = [name for name, p in model.named_parameters() if not p.grad.any()]
    assert still == []


def test_training_is_a_function_of_the_seeds_alone():
    model, batch = make_model(), make_batch()
    first, again = model(batch), model(batch)
    other = model(batch.replace(seed=batch.seed + 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["color_loss"], other["color_loss"])


def test_views_without_depth_and_the_rest_outside_the_box_give_zero_losses():
    model, batch = make_model(), make_batch()
    blind = batch.cameras.replace(depth=torch.zeros_like(batch.cameras.depth))
    losses = model(batch.replace(cameras=blind))
    assert all(value == 0 for value in losses.values())
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_evaluation_renders_every_pixel_like_training_renders_rays():
    model, batch = make_model().eval(), make_batch()
    output = model(batch)
    assert output["color"].shape == (2, 2, 3, 6, 8)
    assert output["depth"].shape == output["opacity"].shape == (2, 2, 6, 8)
    assert output["normal"].shape == (2, 2, 3, 6, 8)
    assert (output["color"] >= 0).all() and (output["color"] <= 1).all() and (output["opacity"] <= 1 + 1e-5).all()
    torch.testing.assert_close(output["color"][:, 0], output["color"][:, 1])  # both views have one pose


def test_evaluation_of_a_scene_does_not_depend_on_batch_mates():
    model, batch = make_model().eval(), make_batch()
    alone = SceneBatch(
        seed=batch.seed[1:],
        name=batch.name[1:],
        points=PointBatch(
            coord=batch.points.coord[40:],
            grid_coord=batch.points.grid_coord[40:],
            feat=batch.points.feat[40:],
            offset=torch.tensor([40]),
        ),
        cameras=CameraBatch(**{name: value[1:] for name, value in vars(batch.cameras).items() if value is not None}),
    )
    torch.testing.assert_close(model(alone)["color"][0], model(batch)["color"][1], atol=1e-5, rtol=1e-4)


def test_moving_world_and_cameras_together_changes_nothing():
    model, batch = make_model().eval(), make_batch()
    shift = torch.tensor([3.0, -2.0, 1.0])
    extrinsic = batch.cameras.extrinsic.clone()
    extrinsic[..., :3, 3] -= extrinsic[..., :3, :3] @ shift
    moved = batch.replace(
        points=batch.points.replace(coord=batch.points.coord + shift),
        cameras=batch.cameras.replace(extrinsic=extrinsic),
    )
    torch.testing.assert_close(model(moved)["depth"], model(batch)["depth"], atol=1e-4, rtol=1e-4)


def test_sampled_sdf_lies_on_the_grid_that_is_told():
    model, batch = make_model().eval(), make_batch()
    volume = model.encoder(batch)
    sdf, origin = model.sample_sdf(volume, 1, 0.25)
    position = origin + torch.tensor([2, 1, 3]) * 0.25  # x, y, z
    expected = model.renderer.field.query_sdf(model._scene(volume, 1), position[None, None])
    torch.testing.assert_close(sdf[3, 1, 2], expected[0, 0].detach())
    assert model.sample_color(volume, 1, position[None]).shape == (1, 3)


def test_volumes_are_channels_last_in_memory():
    volume = make_model().encoder(make_batch())
    assert volume.features.is_contiguous(memory_format=torch.channels_last_3d)


def test_missing_parts_of_a_batch_are_named():
    model, batch = make_model(), make_batch()
    with pytest.raises(ValueError, match=r"needs posed views to render: the batch of \('room0', 'room1'\) has none"):
        model(batch.replace(cameras=None))
    with pytest.raises(ValueError, match="needs point clouds"):
        model(batch.replace(points=None))


def test_losses_must_be_given_and_given_once():
    model = make_model()
    with pytest.raises(ValueError, match="at least one term"):
        Ponder(model.encoder, model.renderer, (), RaySampler())
    with pytest.raises(ValueError, match="may be given once"):
        Ponder(model.encoder, model.renderer, (ColorLoss(), ColorLoss(weight=1.0)), RaySampler())


def test_weights_follow_the_progress_that_is_told():
    model, batch = make_model(), make_batch()
    constant = model(batch)["color_loss"]
    model.losses[0].weight = WeightRamp(0.0, 20.0)
    with pytest.raises(ValueError, match="must be told the progress"):
        model(batch)
    model.set_progress(0.25)
    torch.testing.assert_close(model(batch)["color_loss"], 0.5 * constant)  # 5 instead of 10
    assert "progress" not in "".join(model.state_dict())
    with pytest.raises(ValueError, match=r"progress must be in 0..1: got 2.0"):
        model.set_progress(2.0)


def test_pooled_volumes_know_their_occupied_voxels():
    volume = make_model().encoder(make_batch())
    assert volume.occupied.shape == (2, 4, 8, 8)
    assert 0 < volume.occupied[0].sum() <= 40


class WithOwnTerm(nn.Module):
    """An encoder with a loss term of its own in training."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, batch):
        volume = self.encoder(batch)
        return (
            (volume, {"own": (volume.features.new_tensor(6.0), volume.features.new_tensor(4.0))})
            if self.training
            else volume
        )


def test_an_encoder_may_have_loss_terms_of_its_own():
    model, batch = make_model(), make_batch()
    expected = model(batch)
    model.encoder = WithOwnTerm(model.encoder)
    losses = model(batch)
    assert list(losses) == [*expected, "own"] and losses["own"] == 1.5
    assert all(torch.equal(losses[name], expected[name]) for name in expected)
    assert model.eval()(batch)["depth"].shape == (2, 2, 6, 8)


def test_rays_without_depth_count_for_colour_and_for_no_term_of_depth():
    model, batch = make_model(), make_batch()
    model.ray_sampler = RaySampler(num_rays=6, depth_share=0.5)
    blind = batch.replace(cameras=batch.cameras.replace(depth=torch.zeros_like(batch.cameras.depth)))
    losses = model(blind)
    assert losses["color_loss"] > 0 and losses["eikonal_loss"] > 0
    assert losses["depth_loss"] == losses["sdf_loss"] == losses["free_space_loss"] == 0
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    # One view of each scene with LiDAR: its terms are those of its measured rays alone.
    sparse = torch.zeros_like(batch.cameras.depth)
    sparse[:, 0, 2, 3] = 1.5
    losses = model(batch.replace(cameras=batch.cameras.replace(depth=sparse)))
    rays, targets = model.ray_sampler(
        batch.cameras.replace(depth=sparse), torch.tensor([[[0.0, 0, 0], [4, 3, 2]]] * 2), batch.seed
    )
    assert (targets.distance > 0).sum() == 2 and rays.valid.all()
    assert losses["depth_loss"] > 0


def test_a_given_box_takes_the_place_of_the_fitted_one():
    batch = make_batch()
    box = (-1.0, -2.0, 0.0, 5.0, 4.0, 3.0)
    encoder = PointVolumeEncoder(PointwiseBackbone(3, 6), None, grid_shape=(8, 8, 4), box=box)
    volume = encoder(batch)
    assert volume.box.tolist() == [[[-1, -2, 0], [5, 4, 3]]] * 2
    # The points lie in 0..4, 0..3, 0..2 m: voxels of 0.75 m begin at -1 and -2.
    occupied = volume.occupied.any(dim=0)
    assert not occupied[:, :2].any() and not occupied[:, :, 0].any() and occupied[:, 3:6, 2:6].any()
    with pytest.raises(ValueError, match=r"box must be \(x_min.*got \(0.0, 0.0, 0.0, 1.0, 1.0\)"):
        PointVolumeEncoder(PointwiseBackbone(3, 6), None, box=(0.0, 0.0, 0.0, 1.0, 1.0))


def test_label_losses_of_the_points_enter_the_total_and_train_their_heads():
    model, batch = make_model(), make_batch()
    plain = model(batch)
    torch.manual_seed(5)
    heads = DecoupledHeads(6, ("A", "B"), (3, 2), criteria=[CrossEntropyLoss(loss_weight=0.5)])
    model.encoder.point_heads = heads
    segment = torch.arange(80) % 3 - 1  # -1, 0, 1
    points = batch.points.replace(segment=segment, condition=("A", "B"))
    labelled = batch.replace(points=points)
    losses = model(labelled)
    assert list(losses) == [*plain, "point_cross_entropy_loss"]
    assert all(torch.equal(losses[name], plain[name]) for name in plain)

    features = model.encoder._encoded(labelled).feat
    logits = [heads.seg_heads[0](features[:40]), heads.seg_heads[1](features[40:])]
    sums = [
        nn.functional.cross_entropy(part[keep], target[keep], reduction="sum")
        for part, target, keep in zip(logits, segment.split(40), (segment >= 0).split(40))
    ]
    torch.testing.assert_close(losses["point_cross_entropy_loss"], 0.5 * sum(sums) / (segment >= 0).sum())
    sum(losses.values()).backward()  # what the trainer minimises is the sum of all terms
    assert all(parameter.grad.abs().sum() > 0 for parameter in heads.parameters())
    assert set(model.eval()(labelled)) == set(make_model().eval()(batch))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_losses_and_gradients_on_a_gpu_are_those_of_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    model, batch = make_model(), make_batch()
    results = []
    for device in ("cpu", "cuda"):
        model.to(device).zero_grad()
        losses = model(batch.to(torch.device(device)))
        sum(losses.values()).backward()
        results.append([{name: value.item() for name, value in losses.items()}, model_gradients(model)])
    (expected, expected_gradients), (found, gradients) = results
    assert found == pytest.approx(expected, rel=1e-3)
    largest = max(float(gradient.abs().max()) for gradient in expected_gradients.values())
    for name, want in expected_gradients.items():
        scale = max(float(want.abs().max()), 1e-4 * largest)  # a bias before a batch norm gets rounding alone
        torch.testing.assert_close(gradients[name], want, rtol=0, atol=1e-2 * scale, msg=name)


def model_gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.cpu().clone() for name, p in model.named_parameters() if p.grad is not None}
