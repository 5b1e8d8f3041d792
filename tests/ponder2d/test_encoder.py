import pytest
import torch
from ponder2d_rooms import make_batch, make_cameras
from torch import nn

from pointcept.models.encoders import PointVolumeEncoder, ProjectionUNet
from pointcept.models.pretraining import Ponder
from pointcept.ops.voxel_pooling import fit_boxes
from pointcept.registry import MODELS, build
from pointcept.rendering import ColorLoss, DepthLoss, NeuSRenderer, NeuSSampler, RaySampler, SDFField
from pointcept.rendering.rays import camera_rays
from pointcept.structures import PointBatch, SceneBatch
from ponder2d.depth import DepthDistribution, with_measured
from ponder2d.encoder import FusionVolumeEncoder, ImageVolumeEncoder, measured_extent, padded_cameras
from ponder2d.geometry import exit_depth

BINS = dict(type="DepthBins", near_m=0.3, far_m=6.0, num_bins=8)
GRID = (8, 8, 4)


def make_encoder(**changes) -> ImageVolumeEncoder:
    torch.manual_seed(0)
    config = dict(
        type="ImageVolumeEncoder",
        backbone=dict(type="TimmBackbone", name="test_convnext"),
        neck=dict(type="FeaturePyramid", in_channels=(24, 32, 48, 64), in_strides=(4, 8, 16, 32), out_channels=6),
        depth_head=dict(type="DepthHead", in_channels=6, bins=BINS),
        geometry=dict(type="BoxExitEncoding", out_channels=6, bins=BINS),
        depth_weight=2.0,
        view_transform=dict(type="ProjectionLifting"),
        projection=dict(type="UNet3D-v1m2", in_channels=6, out_channels=8, channels=(4, 8)),
        grid_shape=GRID,
    )
    return build({**config, **changes}, "encoder", MODELS)


def make_ponder(encoder: nn.Module) -> Ponder:
    renderer = NeuSRenderer(SDFField(8, hidden_channels=8, geometry_channels=3), NeuSSampler(8, 4))
    return Ponder(encoder, renderer, (ColorLoss(), DepthLoss()), RaySampler(num_rays=6), render_chunk=50)


class PointwiseBackbone(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(self, points: PointBatch) -> PointBatch:
        return points.replace(feat=self.linear(points.feat))


@pytest.mark.parametrize("scheme", ["ProjectionLifting", "SplattingLifting"])
@pytest.mark.parametrize("mask", [None, "ImageBlockMask", "MaskedConvolution"])
def test_training_gives_all_terms_and_a_gradient_to_every_trained_parameter(scheme, mask):
    mask = None if mask is None else dict(type=mask, ratio=0.5, block_size_px=32)
    model, batch = make_ponder(make_encoder(view_transform=dict(type=scheme), mask=mask)), make_batch()
    losses = model(batch)
    assert list(losses) == ["color_loss", "depth_loss", "depth_distribution_loss"]
    sum(losses.values()).backward()
    bad = [
        name
        for name, p in model.named_parameters()
        if p.requires_grad and (p.grad is None or not torch.isfinite(p.grad).all())
    ]
    assert bad == []
    again = model(batch)
    assert all(torch.equal(losses[name], again[name]) for name in losses)  # the seeds decide everything


def test_the_depth_term_is_the_weighted_mean_of_the_supervision():
    encoder, batch = make_encoder().train(), make_batch()
    volume, terms = encoder(batch)
    ((total, count),) = terms.values()
    half, _ = make_encoder(depth_weight=1.0)(batch)[1]["depth_distribution_loss"]
    torch.testing.assert_close(total, 2 * half)
    assert count == 2 * 3 * 8 * 16  # every cell of the input views has depth within the bins
    assert volume.features.is_contiguous(memory_format=torch.channels_last_3d)
    assert make_encoder(depth_weight=0.0).train()(batch).features.shape == (2, 8, 4, 8, 8)
    assert encoder.eval()(batch).features.shape == (2, 8, 4, 8, 8)


def test_the_encoder_sees_the_inputs_and_not_the_targets():
    encoder, batch = make_encoder().eval(), make_batch()
    volume = encoder(batch)
    blind = batch.replace(cameras=batch.cameras.replace(image=torch.zeros_like(batch.cameras.image)))
    assert torch.equal(encoder(blind).features, volume.features)
    dark = batch.replace(inputs=batch.inputs.replace(image=torch.zeros_like(batch.inputs.image)))
    assert not torch.allclose(encoder(dark).features, volume.features)
    same = SceneBatch(seed=batch.seed, name=batch.name, points=batch.points, cameras=batch.inputs)
    assert torch.equal(encoder(same).features, volume.features)


def test_absent_views_and_batch_mates_change_nothing():
    encoder, batch = make_encoder().eval(), make_batch()
    inputs = batch.inputs

    def with_absent(value, fill):
        return torch.cat((value, fill.expand(2, 1, *value.shape[2:]).to(value.dtype)), dim=1)

    wider = inputs.replace(
        image=with_absent(inputs.image, torch.zeros(1, 1, 1, 1, 1)),
        depth=with_absent(inputs.depth, torch.zeros(1, 1, 1, 1)),
        intrinsic=with_absent(inputs.intrinsic, torch.eye(3)),
        extrinsic=with_absent(inputs.extrinsic, torch.eye(4)),
        size_px=with_absent(inputs.size_px, torch.zeros(1, 1, 1)),
    )
    expected = encoder(batch).features
    torch.testing.assert_close(encoder(batch.replace(inputs=wider)).features, expected)
    first = {name: value[:1] for name, value in vars(inputs).items() if value is not None}
    alone = batch.replace(
        seed=batch.seed[:1],
        name=batch.name[:1],
        points=PointBatch(
            coord=batch.points.coord[:50],
            grid_coord=batch.points.grid_coord[:50],
            feat=batch.points.feat[:50],
            offset=torch.tensor([50]),
        ),
        cameras=None,
        inputs=type(inputs)(**first),
    )
    torch.testing.assert_close(encoder(alone).features, expected[:1], atol=1e-5, rtol=1e-4)


def test_moving_world_and_cameras_together_changes_nothing():
    encoder, batch = make_encoder().eval(), make_batch()
    shift = torch.tensor([3.0, -2.0, 1.0])
    extrinsic = batch.inputs.extrinsic.clone()
    extrinsic[..., :3, 3] -= extrinsic[..., :3, :3] @ shift
    moved = batch.replace(
        points=batch.points.replace(coord=batch.points.coord + shift),
        inputs=batch.inputs.replace(extrinsic=extrinsic),
    )
    torch.testing.assert_close(encoder(moved).features, encoder(batch).features, atol=2e-3, rtol=2e-3)


def test_boxes_are_given_or_fitted_to_points_or_to_measured_depth():
    batch = make_batch()
    fixed = make_encoder(box=(-1.0, -2.0, 0.0, 5.0, 4.0, 3.0)).boxes(batch)
    assert fixed.tolist() == [[[-1, -2, 0], [5, 4, 3]]] * 2
    fitted = make_encoder(padding_m=0.5).boxes(batch)
    low = batch.points.coord[:50].amin(dim=0)
    torch.testing.assert_close(fitted[0, 0], low - 0.5)
    assert torch.equal(fitted, fit_boxes(batch.points, GRID, padding_m=0.5, cubes=False))
    low, high = measured_extent(batch.inputs)
    by_depth = make_encoder(padding_m=0.5).boxes(batch.replace(points=None))
    torch.testing.assert_close(by_depth, torch.stack((low - 0.5, high + 0.5), dim=1))


def test_the_measured_extent_is_that_of_the_pixels():
    cameras = make_cameras(1, 1, 2, 2)
    cameras = cameras.replace(depth=torch.tensor([[[[2.0, 0.0], [0.0, 4.0]]]]))
    low, high = measured_extent(cameras)
    # It looks along x from (0.5, 1, 1); half a pixel of 1 / 30 to the upper left at 2 m, to the lower right at 4 m.
    torch.testing.assert_close(low[0], torch.tensor([2.5, 1 - 2 / 30, 1 - 2 / 30]))
    torch.testing.assert_close(high[0], torch.tensor([4.5, 1 + 1 / 30, 1 + 1 / 30]))


def test_the_exit_depth_is_that_of_the_wall():
    cameras = make_cameras(1, 1, 32, 64)
    box = torch.tensor([[[0.0, 0, 0], [4, 3, 2]]])
    depth, rise, eye = exit_depth(cameras, box, 2, 2)
    # The centres of the four cells look 16 / 30 to the side and 8 / 30 up or down: the side wall at y = 3 (2 m away)
    # is met at depth 2 / (16 / 30) = 3.75, the other one at y = 0 at 1.875, floor and ceiling (1 m) at 3.75.
    torch.testing.assert_close(depth[0, 0], torch.tensor([[3.5, 1.875], [3.5, 1.875]]))
    assert (rise[0, 0, 0] > 0).all() and (rise[0, 0, 1] < 0).all()
    assert eye.item() == pytest.approx(1.0)


def test_images_are_padded_as_the_backbone_pads_them():
    cameras = make_cameras(1, 2, 20, 50)
    padded = padded_cameras(cameras, 32)
    assert padded.image.shape == (1, 2, 3, 32, 64) and torch.equal(padded.size_px, cameras.size_px)
    assert torch.equal(padded.depth[..., :20, :50], cameras.depth) and padded.depth[..., 20:, :].sum() == 0
    encoder = make_encoder().eval()
    batch = make_batch().replace(inputs=make_cameras(2, 2, 20, 50))
    assert torch.isfinite(encoder(batch).features).all()


def test_views_that_see_nothing_of_the_box_give_zero_losses():
    batch = make_batch()
    model = make_ponder(make_encoder(box=(100.0, 100.0, 100.0, 104.0, 103.0, 102.0), depth_weight=0.0))
    losses = model(batch)
    assert all(value == 0 for value in losses.values())
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_fusion_joins_both_branches():
    batch = make_batch()
    for joining, width in (("concat", 11), ("sum", 6)):
        points = PointVolumeEncoder(PointwiseBackbone(3, width - 6 or 6), None)
        image = make_encoder(projection=None)
        fusion = FusionVolumeEncoder(image, points, ProjectionUNet(width, 8, channels=(4, 8)), joining=joining)
        model = make_ponder(fusion)
        losses = model(batch)
        assert "depth_distribution_loss" in losses
        sum(losses.values()).backward()
        assert points.backbone.linear.weight.grad.any() and image.neck.smooth.weight.grad.any()
        volume = fusion.eval()(batch)
        assert volume.features.shape == (2, 8, 4, 8, 8)
        assert torch.equal(volume.box, image.boxes(batch))


def test_combinations_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="SplattingLifting needs a depth distribution: set depth_head"):
        make_encoder(view_transform=dict(type="SplattingLifting"), depth_head=None, depth_weight=0.0)
    with pytest.raises(ValueError, match=r"depth_weight must not be negative, and 0 without a depth_head: got 2\.0"):
        make_encoder(depth_head=None)
    with pytest.raises(ValueError, match=r"box must be \(x_min.*got \(0.0, 0.0, 0.0, 1.0, 1.0, 0.0\)"):
        make_encoder(box=(0.0, 0.0, 0.0, 1.0, 1.0, 0.0))
    with pytest.raises(ValueError, match="with_color would show what mask hides"):
        make_encoder(with_color=True, mask=dict(type="ImageBlockMask"))
    with pytest.raises(ValueError, match=r"needs posed views: the batch of \('room0', 'room1'\) has none"):
        make_encoder()(make_batch().replace(inputs=None, cameras=None))
    points = PointVolumeEncoder(PointwiseBackbone(3, 4), None)
    with pytest.raises(ValueError, match="share one projection"):
        FusionVolumeEncoder(make_encoder(), points, nn.Identity())
    with pytest.raises(ValueError, match="joining must be 'concat' or 'sum': got 'mean'"):
        FusionVolumeEncoder(make_encoder(projection=None), points, nn.Identity(), joining="mean")


def test_measured_depth_takes_the_place_of_the_predicted_one_where_there_is_any():
    edges = torch.tensor([1.0, 2, 3, 4])
    predicted = DepthDistribution(torch.full((1, 1, 3, 1, 3), 1 / 3), edges)
    cameras = make_cameras(1, 1, 1, 3).replace(depth=torch.tensor([[[[2.25, 0.0, 9.0]]]]))
    probability = with_measured(predicted, cameras).probability[0, 0, :, 0]
    # 2.25 lies between the centres 1.5 and 2.5, a quarter before the second; missing and too far keep the prediction
    torch.testing.assert_close(probability.T, torch.tensor([[0.25, 0.75, 0], [1 / 3] * 3, [1 / 3] * 3]))
    batch = make_batch()
    measured = make_encoder(lift_depth="measured").eval()
    assert not torch.allclose(measured(batch).features, make_encoder().eval()(batch).features)
    other = batch.replace(cameras=batch.cameras.replace(depth=batch.cameras.depth + 1))
    assert torch.equal(measured(other).features, measured(batch).features)  # that of the rendered views is not read


def test_lifted_colour_is_the_mean_colour_of_what_a_voxel_shows():
    batch = make_batch()
    shade = torch.tensor([0.2, 0.5, 0.9])
    inputs = batch.inputs.replace(image=shade.view(3, 1, 1).expand_as(batch.inputs.image))
    volume = make_encoder(with_color=True, projection=None).eval()(batch.replace(inputs=inputs))
    color, weight = volume.features[:, 6:9], volume.features[:, 9]
    assert volume.features.shape[1] == 10 and (weight >= 0).all() and (weight <= 1 + 1e-5).all()
    seen = weight > 1e-3
    assert 0 < seen.sum() < seen.numel()
    torch.testing.assert_close(color.permute(0, 2, 3, 4, 1)[seen], shade.expand(int(seen.sum()), 3), atol=1e-4, rtol=0)
    assert color.permute(0, 2, 3, 4, 1)[~seen].abs().max() == 0
    with pytest.raises(ValueError, match="lift_depth must be 'predicted', or 'measured' with a depth_head"):
        make_encoder(lift_depth="measured", depth_head=None, depth_weight=0.0)


@pytest.mark.parametrize("scheme", ["ProjectionLifting", "SplattingLifting"])
def test_half_precision_moves_no_ray_and_no_feature(scheme):
    batch, box = make_batch(), torch.tensor([[[0.0, 0, 0], [4.0, 3, 2]]]).expand(2, -1, -1)
    encoder = make_encoder(view_transform=dict(type=scheme)).eval()
    pixel = torch.rand(2, 3, 50, 2) * 30
    given = []
    encoder.view_transform.register_forward_pre_hook(lambda module, inputs: given.append(inputs))
    rays = camera_rays(batch.inputs.intrinsic, batch.inputs.extrinsic, pixel)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for value, expected in zip(camera_rays(batch.inputs.intrinsic, batch.inputs.extrinsic, pixel), rays):
            assert torch.equal(value, expected)
        volume, _ = encoder.lift(batch, box)
    with torch.no_grad():
        again = encoder.view_transform(*given[0])
    assert torch.equal(volume.features, again.features) and torch.equal(volume.occupied, again.occupied)
