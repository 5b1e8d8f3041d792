"""Lifting a view's own pixels to their true depth and rendering the volume gives the view back."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pointcept.datasets.synthetic.room import RoomSettings, generate_room
from pointcept.evaluation.image_metrics import mean_color, psnr
from pointcept.rendering import DensityWeighting, SDFField, UniformSampler, VolumeRenderer
from pointcept.rendering.rays import make_rays
from pointcept.structures import CameraBatch, FeatureVolume
from ponder2d.depth import DepthBins, DepthDistribution, with_measured
from ponder2d.encoder import measured_extent
from ponder2d.lifting import ProjectionLifting, SplattingLifting

HEIGHT, WIDTH, VOXEL_M = 48, 64, 0.03


@pytest.fixture(scope="module")
def view() -> CameraBatch:
    """One view of a synthetic room with its true depth."""
    room = generate_room(3, "train", 0, RoomSettings(image_size=(HEIGHT, WIDTH), num_frames=4, holdout_every=2))
    return CameraBatch(
        image=torch.from_numpy(room.color[:1].transpose(0, 3, 1, 2) / 255)[None].float(),
        depth=torch.from_numpy(room.true_depth[:1])[None].float(),
        intrinsic=torch.from_numpy(room.intrinsic).expand(1, 1, 3, 3).float(),
        extrinsic=torch.from_numpy(np.linalg.inv(room.world_from_camera[:1]))[None].float(),
        size_px=torch.tensor([[[HEIGHT, WIDTH]]]),
    )


def reading_renderer(num_samples: int) -> VolumeRenderer:
    """Renders the volume's own four channels; its density rises with the fourth, which says how full a voxel is."""
    field = SDFField(
        4, hidden_channels=4, geometry_channels=1, sdf_blocks=0, share_volume=True, gradient="none", feature_channels=4
    )
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.zero_()
        field.sdf_decoder.inputs[0].weight.copy_(torch.eye(4))
        field.sdf_decoder.head.weight[0, 3], field.sdf_decoder.head.bias[0] = -40.0, 6.0
        field.feature_decoder.inputs[0].weight[:, :4] = torch.eye(4)
        field.feature_decoder.head.weight.copy_(torch.eye(4))
    return VolumeRenderer(field, UniformSampler(num_samples), DensityWeighting(5.0))


def render_pixels(renderer: VolumeRenderer, volume: FeatureVolume, view: CameraBatch) -> Tensor:
    row, column = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    rays, _, _ = make_rays(view, volume.box, torch.stack((column, row), dim=-1).view(1, 1, -1, 2))
    feature = torch.cat([part.feature for part in renderer.render_chunks(volume, rays, chunk_size=2048)], dim=1)
    color = feature[..., :3] / feature[..., 3:].clamp(min=1e-6)
    return color.view(1, 1, HEIGHT, WIDTH, 3).permute(0, 1, 4, 2, 3)


@pytest.mark.parametrize(
    ("lifting", "bin_width_m"),
    [(ProjectionLifting(), 3 * VOXEL_M), (SplattingLifting(normalize=True), VOXEL_M / 2)],
    ids=["projection", "splatting"],
)
def test_rendering_the_lifted_pixels_reproduces_the_view(lifting, bin_width_m, view):
    low, high = measured_extent(view)
    box = torch.stack((low - 0.1, high + 0.1), dim=1)
    extent = (box[:, 1] - box[:, 0])[0]
    grid_shape = tuple(torch.ceil(extent / VOXEL_M).int().tolist())
    far = float(view.depth.max()) + 0.5
    bins = DepthBins(0.1, far, round((far - 0.1) / bin_width_m))
    unknown = DepthDistribution(torch.zeros(1, 1, bins.num_bins, HEIGHT, WIDTH), bins.edges)
    features = torch.cat((view.image, torch.ones(1, 1, 1, HEIGHT, WIDTH)), dim=2)
    volume = lifting(features, with_measured(unknown, view), view, box, grid_shape)

    color = render_pixels(reading_renderer(int(2 * extent.norm() / VOXEL_M)), volume, view)
    everywhere = torch.ones(1, 1, HEIGHT, WIDTH, dtype=torch.bool)
    assert psnr(mean_color(view.image, everywhere), view.image, everywhere) < 15  # so the bar says something
    assert psnr(color, view.image, everywhere) > 25
