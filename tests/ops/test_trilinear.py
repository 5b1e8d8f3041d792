import pytest
import torch
import torch.nn.functional as F

from pointcept.ops import trilinear
from pointcept.structures import FeatureVolume

BOX = torch.tensor([[[0, 0, 0], [6, 5, 4.0]], [[1, 2, -1], [4, 4.5, 1.0]]], dtype=torch.float64)


def volume_and_positions() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64, generator=generator)
    relative = torch.rand(2, 9, 3, dtype=torch.float64, generator=generator) * 1.3 - 0.15
    return features, relative * (BOX[:, 1] - BOX[:, 0])[:, None] + BOX[:, None, 0]


def grid_sample(features: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    grid = (positions - BOX[:, None, 0]) / (BOX[:, 1] - BOX[:, 0])[:, None] * 2 - 1
    read = F.grid_sample(features, grid[:, :, None, None], align_corners=False, padding_mode="zeros")
    return read[..., 0, 0].transpose(1, 2)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_sample_equals_grid_sample_also_outside(memory_format):
    features, positions = volume_and_positions()
    ours = trilinear.sample(FeatureVolume(features.to(memory_format=memory_format), BOX), positions)
    torch.testing.assert_close(ours, grid_sample(features, positions))


def test_value_at_a_voxel_centre_is_the_voxel():
    features, _ = volume_and_positions()
    volume = FeatureVolume(features, BOX)
    centre = BOX[:, 0] + torch.tensor([2.5, 1.5, 3.5], dtype=torch.float64) * volume.voxel_size
    torch.testing.assert_close(trilinear.sample(volume, centre[:, None])[:, 0], features[:, :, 3, 1, 2])


def test_read_is_differentiable_twice_in_volume_and_position():
    features, positions = volume_and_positions()
    inputs = (features.requires_grad_(), positions[:, :3].clone().requires_grad_())

    def read(features, positions):
        return trilinear.sample(FeatureVolume(features, BOX), positions)

    assert torch.autograd.gradcheck(read, inputs)
    assert torch.autograd.gradgradcheck(read, inputs)


def test_spatial_gradient_equals_autograd_and_so_does_its_backward():
    features, positions = volume_and_positions()
    weight = torch.linspace(-1, 1, 3, dtype=torch.float64)

    def scalar(read):  # any smooth function of the feature
        return torch.sin(read @ weight) + read.square().sum(-1)

    through_autograd = features.clone().requires_grad_()
    points = positions.clone().requires_grad_()
    value = scalar(trilinear.sample(FeatureVolume(through_autograd, BOX), points))
    (expected,) = torch.autograd.grad(value.sum(), points, create_graph=True)

    analytic = features.clone().requires_grad_()
    volume = FeatureVolume(analytic, BOX)
    corners = trilinear.find_corners(volume, positions)
    read = trilinear.read(volume.rows(), corners, corners.weight)
    (feature_gradient,) = torch.autograd.grad(scalar(read).sum(), read, create_graph=True)
    gradient = trilinear.spatial_gradient(volume.rows(), corners, feature_gradient).reshape(expected.shape)

    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(
        torch.autograd.grad(gradient.pow(3).sum(), analytic)[0],
        torch.autograd.grad(expected.pow(3).sum(), through_autograd)[0],
    )


def test_splat_is_the_transpose_of_read():
    features, positions = volume_and_positions()
    volume = FeatureVolume(features, BOX)
    corners = trilinear.find_corners(volume, positions)
    value = torch.randn(18, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    forward = (trilinear.read(volume.rows(), corners, corners.weight) * value).sum()
    backward = (volume.rows() * trilinear.splat(value, corners, corners.weight)).sum()
    torch.testing.assert_close(forward, backward)


def test_positions_of_another_batch_size_are_refused():
    features, positions = volume_and_positions()
    with pytest.raises(ValueError, match="must agree in batch size and device: got 1 on cpu and 2 on cpu"):
        trilinear.find_corners(FeatureVolume(features, BOX), positions[:1])
