import pytest
import torch

from pointcept.rendering.fields import FieldDecoder, SDFField
from pointcept.structures import FeatureVolume


def decoder(**options) -> FieldDecoder:
    torch.manual_seed(0)
    return FieldDecoder(4, 3, hidden_channels=6, softplus=True, **options).double()


@pytest.mark.parametrize("num_blocks", [0, 1, 3])
@pytest.mark.parametrize("position_factor", [0.0, 0.7])
def test_decoder_gradient_equals_autograd(num_blocks, position_factor):
    module = decoder(num_blocks=num_blocks, position_factor=position_factor)
    value = (torch.randn(5, 4, dtype=torch.float64) * 0.05).requires_grad_()
    position = torch.rand(5, 3, dtype=torch.float64).requires_grad_()
    trunk = module.trunk(value, position)
    out, (by_value, by_position) = trunk.output(), trunk.gradient()
    torch.testing.assert_close(out, module(value, position))
    (expected,) = torch.autograd.grad(out[:, 0].sum(), value, retain_graph=True)
    torch.testing.assert_close(by_value, expected)
    if position_factor:
        (expected,) = torch.autograd.grad(out[:, 0].sum(), position)
        torch.testing.assert_close(by_position, expected)
    else:
        assert by_position is None


@pytest.mark.parametrize("share_volume", [True, False])
@pytest.mark.parametrize("position_factor", [0.0, 1.0])
def test_field_gradient_is_the_derivative_of_its_sdf_in_metres(share_volume, position_factor):
    torch.manual_seed(0)
    field = SDFField(
        6, hidden_channels=8, geometry_channels=2, share_volume=share_volume, position_factor=position_factor
    ).double()
    features = torch.randn(2, 6, 3, 4, 5, dtype=torch.float64)
    box = torch.tensor([[[0, 0, 0], [5, 4, 3.0]], [[-1, -1, 0], [1, 2, 2.0]]], dtype=torch.float64)
    volume = FeatureVolume(features, box)
    positions = box[:, None, 0] + torch.rand(2, 7, 3, dtype=torch.float64) * (box[:, 1] - box[:, 0])[:, None]
    samples = field(volume, positions, torch.zeros_like(positions))
    torch.testing.assert_close(samples.sdf, field.query_sdf(volume, positions))
    step = 1e-6
    for axis in range(3):
        shift = torch.zeros(3, dtype=torch.float64)
        shift[axis] = step
        ahead = field.query_sdf(volume, positions + shift)
        behind = field.query_sdf(volume, positions - shift)
        torch.testing.assert_close(samples.gradient[..., axis], (ahead - behind) / (2 * step), atol=1e-5, rtol=1e-4)


def test_every_parameter_and_the_volume_receive_a_gradient():
    torch.manual_seed(0)
    field = SDFField(6, hidden_channels=8, geometry_channels=2, feature_channels=5)
    features = torch.randn(1, 6, 3, 4, 5, requires_grad=True)
    volume = FeatureVolume(features, torch.tensor([[[0, 0, 0], [5, 4, 3.0]]]))
    positions = torch.rand(1, 50, 3) * 3
    samples = field(volume, positions, torch.ones(1, 50, 3))
    rendered = field.decode_feature(torch.cat(samples.feature, dim=-1), torch.ones(1, 50))
    (samples.sdf.sum() + samples.gradient.square().sum() + samples.color.sum() + rendered.square().sum()).backward()
    missing = [name for name, p in field.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == []
    assert (features.grad != 0).any(dim=(0, 2, 3, 4)).all()


def test_a_volume_of_another_width_is_refused():
    volume = FeatureVolume(torch.zeros(1, 4, 2, 2, 2), torch.tensor([[[0, 0, 0], [1, 1, 1.0]]]))
    with pytest.raises(ValueError, match="must have the field's 6 channels: got 4"):
        SDFField(6).rows(volume)


def test_an_odd_width_cannot_be_split():
    with pytest.raises(ValueError, match="in_channels must be even"):
        SDFField(5)
    SDFField(5, share_volume=True)
