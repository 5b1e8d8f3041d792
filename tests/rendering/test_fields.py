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


def gradient_case(mode: str, **options):
    torch.manual_seed(0)
    field = SDFField(6, hidden_channels=8, geometry_channels=2, gradient=mode, **options).double()
    features = torch.randn(2, 6, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    box = torch.tensor([[[0, 0, 0], [5, 4, 3.0]], [[-1, -1, 0], [1, 2, 2.0]]], dtype=torch.float64)
    positions = (
        box[:, None, 0] + (0.2 + 0.6 * torch.rand(2, 7, 3, dtype=torch.float64)) * (box[:, 1] - box[:, 0])[:, None]
    )
    return field, FeatureVolume(features, box), positions, torch.randn(2, 7, 3, dtype=torch.float64)


@pytest.mark.parametrize("share_volume", [True, False])
@pytest.mark.parametrize("position_factor", [0.0, 1.0])
def test_small_differences_equal_the_analytic_gradient(share_volume, position_factor):
    options = {"share_volume": share_volume, "position_factor": position_factor}
    field, volume, positions, directions = gradient_case("analytic", **options)
    expected = field(volume, positions, directions)
    field, volume, positions, directions = gradient_case("finite_difference", difference_step=1e-6, **options)
    found = field(volume, positions, directions)
    torch.testing.assert_close(found.gradient, expected.gradient, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.color, expected.color, atol=1e-5, rtol=1e-4)


def test_differences_of_a_linear_field_are_exact_at_any_step():
    field = SDFField(2, hidden_channels=1, geometry_channels=1, sdf_blocks=0, gradient="finite_difference")
    with torch.no_grad():
        for parameter in field.sdf_decoder.parameters():
            parameter.fill_(0.0)
        field.sdf_decoder.inputs[0].weight.fill_(1.0)
        field.sdf_decoder.head.weight[0].fill_(1.0)
    z, y, x = torch.meshgrid(*[torch.arange(6.0) + 0.5] * 3, indexing="ij")
    features = (0.5 * x - 2 * y + 3 * z).expand(1, 2, 6, 6, 6).contiguous()
    volume = FeatureVolume(features, torch.tensor([[[0.0, 0, 0], [6, 6, 6]]]))
    positions = 2 + 2 * torch.rand(1, 9, 3, generator=torch.Generator().manual_seed(0))
    found = field(volume, positions, torch.zeros(1, 9, 3)).gradient
    torch.testing.assert_close(found, torch.tensor([0.5, -2.0, 3.0]).expand(1, 9, 3), atol=1e-4, rtol=1e-4)


def test_without_a_gradient_none_is_made_unless_a_normal_is_wanted():
    field, volume, positions, directions = gradient_case("none")
    points = field.locate(volume, positions)
    branches = field.branches(field.rows(volume))
    without = field.evaluate(branches, points, directions.reshape(-1, 3))
    with_normal = field.evaluate(branches, points, directions.reshape(-1, 3), with_normal=True)
    assert without.gradient is None
    assert with_normal.gradient.shape == (14, 3)
    torch.testing.assert_close(without.color, with_normal.color)


@pytest.mark.parametrize("mode", ["analytic", "finite_difference", "none"])
@pytest.mark.parametrize("share_volume", [True, False])
def test_linear_heads_equal_heads_on_the_geometry_feature(mode, share_volume):
    """The fast path of the published setting against the general one, values and gradients."""
    results = []
    for is_linear in (True, False):
        field, volume, positions, directions = gradient_case(mode, share_volume=share_volume, feature_channels=5)
        assert field.is_linear
        field.is_linear = is_linear
        samples = field(volume, positions, directions)
        hidden = torch.cat(samples.feature, dim=-1)
        weight = torch.linspace(0, 0.3, 7, dtype=torch.float64)
        feature = field.decode_feature((hidden * weight[:, None]).sum(1), weight.sum().expand(2))
        (samples.sdf.square().sum() + samples.color.square().sum() + feature.square().sum()).backward()
        grads = [p.grad for p in (*field.parameters(), volume.features)]
        results.append((samples.sdf, samples.color, feature, *grads))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("is_linear", [True, False])
def test_the_gradient_and_its_backward_pass_gradcheck(is_linear):
    """With respect to the volume and to the weights of the SDF decoder."""
    field, volume, positions, directions = gradient_case("analytic")
    field.is_linear = is_linear
    features = (volume.features.detach() * 0.05).requires_grad_()
    parameters = dict(field.sdf_decoder.named_parameters())

    def evaluate(features, *values):
        arguments = (FeatureVolume(features, volume.box), positions[:, :2], directions[:, :2])
        state = {f"sdf_decoder.{name}": value for name, value in zip(parameters, values, strict=True)}
        samples = torch.func.functional_call(field, state, arguments)
        return samples.sdf, samples.gradient, samples.color

    inputs = (features, *parameters.values())
    assert torch.autograd.gradcheck(evaluate, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(evaluate, inputs, fast_mode=True)


@pytest.mark.parametrize("share_volume", [True, False])
@pytest.mark.parametrize("position_factor", [0.0, 1.0])
def test_the_gradient_equals_autograd_through_the_trilinear_read_and_so_does_its_backward(
    share_volume, position_factor
):
    """Of the gradient and of its backward pass into the volume and the weights; the read is differentiable twice."""
    options = {"share_volume": share_volume, "position_factor": position_factor}
    field, volume, positions, directions = gradient_case("analytic", **options)
    inputs = (volume.features, *field.sdf_decoder.parameters())
    points = positions.clone().requires_grad_()
    (expected,) = torch.autograd.grad(field.query_sdf(volume, points).sum(), points, create_graph=True)
    found = field(volume, positions, directions).gradient
    torch.testing.assert_close(found, expected)
    expected_grads = torch.autograd.grad(expected.pow(3).sum(), inputs, allow_unused=True)
    found_grads = torch.autograd.grad(found.pow(3).sum(), inputs, allow_unused=True)
    for found_grad, expected_grad, value in zip(found_grads, expected_grads, inputs, strict=True):
        zero = torch.zeros_like(value)  # autograd does not see that the gradient does not depend on the last bias
        torch.testing.assert_close(
            zero if found_grad is None else found_grad, zero if expected_grad is None else expected_grad
        )


def test_the_step_must_be_positive():
    with pytest.raises(ValueError, match="difference_step must be positive"):
        SDFField(4, difference_step=0.0)
