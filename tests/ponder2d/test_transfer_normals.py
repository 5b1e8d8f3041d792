"""Surface normals: the targets from depth, the loss, the scores."""

import math

import pytest
import torch
from ponder2d_rooms import make_batch, make_cameras

from ponder2d.backbones import TimmBackbone
from ponder2d.necks import FeaturePyramid
from ponder2d.transfer import NormalEstimator, NormalEvaluator, plane_normals


def plane_views(normal, distance=2.0, height=12, width=20):
    """One view whose depth is that of the plane n . x = -distance, before the camera, n towards it."""
    cameras = make_cameras(1, 1, height, width)
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixel = torch.stack((column, row, torch.ones_like(row)), dim=-1).float()
    ray = pixel @ torch.linalg.inv(cameras.intrinsic[0, 0]).T
    normal = torch.nn.functional.normalize(torch.tensor(normal), dim=0)
    depth = -distance / (ray @ normal)
    assert (depth > 0).all()
    return cameras.replace(depth=depth.expand(1, 1, -1, -1)), normal


@pytest.mark.parametrize("normal", [(0.0, 0.0, -1.0), (0.3, 0.2, -0.9), (-0.4, 0.3, -0.8)])
@pytest.mark.parametrize("radius", [1, 2])
def test_normals_of_a_plane_are_the_planes_in_every_pixel(normal, radius):
    cameras, normal = plane_views(normal)
    found = plane_normals(cameras, radius, max_step=0.5)[0, 0]
    torch.testing.assert_close(found, normal[:, None, None].expand_as(found), rtol=0, atol=2e-4)


def test_a_wider_window_averages_noise_away():
    cameras, normal = plane_views((0.2, 0.1, -0.9))
    noise = 0.01 * torch.randn(cameras.depth.shape, generator=torch.Generator().manual_seed(0))
    noisy = cameras.replace(depth=cameras.depth + noise)

    def mean_angle(radius):
        cosine = (plane_normals(noisy, radius, max_step=0.5)[0, 0] * normal[:, None, None]).sum(dim=0)
        return torch.rad2deg(cosine.clamp(-1, 1).acos()).mean().item()

    assert mean_angle(3) < 0.6 * mean_angle(1)


def test_the_edge_of_an_object_and_missing_depth_spoil_no_neighbour():
    cameras, normal = plane_views((0.1, 0.2, -0.9))
    depth = cameras.depth.clone()
    depth[..., :, 10:] += 2.0  # another surface, parallel in inverse depth no longer
    depth[0, 0, 4, 3] = 0.0
    depth[0, 0, :3, :3] = 0.0
    depth[0, 0, 0, 0] = 2.0  # alone
    found = plane_normals(cameras.replace(depth=depth), 2)[0, 0]
    assert (found[:, 4, 3] == 0).all() and (found[:, 0, 0] == 0).all()
    left = found[:, 5:, :10]
    torch.testing.assert_close(left, normal[:, None, None].expand_as(left), rtol=0, atol=2e-4)
    size = torch.tensor([[[12, 7]]])
    padded = plane_normals(cameras.replace(size_px=size), 2)[0, 0]
    assert (padded[:, :, 7:] == 0).all() and (padded[:, :, :7] != 0).any()


def test_pixels_on_a_line_tell_no_plane():
    cameras, _ = plane_views((0.1, 0.2, -0.9))
    depth = torch.zeros_like(cameras.depth)
    depth[0, 0, 5] = 2.0
    assert (plane_normals(cameras.replace(depth=depth)) == 0).all()


def test_the_loss_is_one_minus_the_cosine_where_the_target_is_told():
    torch.manual_seed(0)
    backbone = TimmBackbone("test_convnext")
    model = NormalEstimator(backbone, FeaturePyramid(backbone.channels, backbone.strides, out_channels=8))
    torch.nn.init.zeros_(model.head.weight)
    with torch.no_grad():
        model.head.bias.copy_(torch.tensor([0.0, 0.0, -5.0]))
    cameras, normal = plane_views((0.3, 0.2, -0.9), height=16, width=24)
    batch = make_batch(1).replace(points=None, inputs=None, cameras=cameras)
    assert model(batch)["normal_loss"].item() == pytest.approx(1 + normal[2].item(), abs=1e-4)
    output = model.eval()(batch)["normal"]
    assert output.shape == (1, 1, 3, 16, 24) and (output[0, 0, :, 3, 4] - torch.tensor([0, 0, -1.0])).abs().max() < 1e-6
    with pytest.raises(ValueError, match="radius must be at least 1: got 0"):
        NormalEstimator(backbone, model.neck, radius=0)


def test_the_scores_are_of_all_pixels_together_by_hand():
    cameras, normal = plane_views((0.3, 0.2, -0.9), height=2, width=5)
    batch = make_batch(1).replace(points=None, inputs=None, cameras=cameras)
    across = torch.nn.functional.normalize(torch.linalg.cross(normal, torch.tensor([1.0, 0, 0])), dim=0)
    degrees = torch.tensor([[0.0, 10, 11, 12, 20], [25, 29, 31, 90, 180]])
    angle = torch.deg2rad(degrees)[..., None]
    pred = 3 * (angle.cos() * normal + angle.sin() * across)  # of any length
    evaluator = NormalEvaluator()
    evaluator.update({"normal": pred.permute(2, 0, 1)[None, None]}, batch)
    figures = evaluator.compute()
    assert figures["mean"] == pytest.approx(degrees.mean().item(), abs=0.02)
    assert figures["median"] == pytest.approx(20, abs=0.02)  # the fifth of ten
    assert (figures["below_11_25"], figures["below_22_5"], figures["below_30"]) == (0.3, 0.5, 0.7)
    assert figures["mean_trivial"] == pytest.approx(math.degrees(math.acos(-normal[2])), abs=0.02)
    with pytest.raises(ValueError, match="At least one pixel with a measured normal"):
        NormalEvaluator().compute()
    with pytest.raises(ValueError, match="must have 'normal'"):
        evaluator.update({}, batch)
