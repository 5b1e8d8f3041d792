import pytest
import torch

from pointcept.rendering import NeuSRenderer, SDFField, UniformSampler
from pointcept.structures import FeatureVolume, RayBatch

BOX = torch.tensor([[[0.0, 0, 0], [2, 2, 2]], [[0, 0.5, 0.5], [2.5, 2, 2]]], dtype=torch.float64)


def rays(count: int = 7) -> RayBatch:
    generator = torch.Generator().manual_seed(0)
    origins = torch.rand(2, count, 3, generator=generator, dtype=torch.float64) * 0.2 + torch.tensor([0.1, 1.0, 1.0])
    noise = torch.randn(2, count, 3, generator=generator, dtype=torch.float64)
    directions = torch.nn.functional.normalize(torch.tensor([1.0, 0, 0]) + 0.3 * noise, dim=-1)
    ones = torch.ones(2, count, dtype=torch.float64)
    return RayBatch(origins=origins, directions=directions, near=ones * 0.05, far=ones * 1.6, valid=ones.bool())


def render(piece_size: int | None, share_volume: bool, feature_channels: int, scale: float = 1.0):
    torch.manual_seed(0)
    options = {"share_volume": share_volume, "feature_channels": feature_channels}
    field = SDFField(8, hidden_channels=6, geometry_channels=4, **options)
    renderer = NeuSRenderer(field, UniformSampler(9), piece_size=piece_size).double()
    features = scale * torch.randn(2, 8, 6, 5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    features.requires_grad_()
    return renderer, features, renderer(FeatureVolume(features, BOX), rays(), None)


@pytest.mark.parametrize("share_volume", [True, False])
@pytest.mark.parametrize("feature_channels", [0, 5])
@pytest.mark.parametrize("scale", [0.05, 30.0])  # the bend of the softplus, and where its slope underflows
def test_the_written_out_passes_equal_autograd_to_rounding(share_volume, feature_channels, scale):
    results = []
    for piece_size in (None, 40):
        renderer, features, rendering = render(piece_size, share_volume, feature_channels, scale)
        outputs = {name: value for name, value in vars(rendering).items() if value is not None and value.requires_grad}
        generator = torch.Generator().manual_seed(2)
        factors = [torch.randn(value.shape, generator=generator, dtype=torch.float64) for value in outputs.values()]
        sum((value * factor).sum() for value, factor in zip(outputs.values(), factors, strict=True)).backward()
        grads = {name: parameter.grad for name, parameter in renderer.named_parameters()}
        results.append({**outputs, "volume": features.grad, **grads})
    expected, found = results
    assert found.keys() == expected.keys() and ("feature" in found) == bool(feature_channels)
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-8, atol=1e-8 * float(value.detach().abs().max()), msg=name
        )


def test_without_gradients_nothing_is_kept():
    with torch.no_grad():
        _, _, rendering = render(40, share_volume=False, feature_channels=5)
    assert not any(value.requires_grad for value in vars(rendering).values())


def test_frozen_parameters_get_no_gradient_and_the_others_the_same():
    renderer, features, rendering = render(40, share_volume=False, feature_channels=5)
    rendering.color.sum().backward()
    expected = features.grad
    renderer.requires_grad_(False)
    again = features.detach().clone().requires_grad_()
    renderer(FeatureVolume(again, BOX), rays(), None).color.sum().backward()
    torch.testing.assert_close(again.grad, expected)
    fixed = features.detach()
    renderer.field.sdf_decoder.requires_grad_(True)
    renderer.zero_grad()
    renderer(FeatureVolume(fixed, BOX), rays(), None).color.sum().backward()
    assert renderer.field.sdf_decoder.head.weight.grad.any() and renderer.field.color_decoder.head.weight.grad is None
