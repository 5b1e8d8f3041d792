import math

import pytest
import torch

from pointcept.rendering import DensityWeighting, NeuSWeighting, UniSurfWeighting, VolSDFWeighting
from pointcept.rendering.weights import laplace_density, weights_from_alpha, weights_from_density


def wall(count: int = 400) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """SDF, lengths and slope of samples on a ray that meets a wall 1.2 m away at a right angle."""
    edges = torch.linspace(0, 2, count + 1).view(1, 1, -1)
    return 1.2 - 0.5 * (edges[..., 1:] + edges[..., :-1]), edges.diff(dim=-1), torch.full((1, 1, count), -1.0)


def test_laplace_density_by_hand():
    # 1 / beta deep inside, half on the surface; outside at 0.2 = beta: 0.5 / e / beta.
    found = laplace_density(torch.tensor([-50.0, 0.0, 0.2]), torch.tensor(0.2))
    torch.testing.assert_close(found, torch.tensor([5.0, 2.5, 2.5 / math.e]))


def test_weights_from_density_by_hand():
    # Two intervals of optical thickness ln 2 and ln 4: 1 - 1/2, then 1/2 (1 - 1/4).
    found = weights_from_density(torch.tensor([2.0, 1.0]) * math.log(2), torch.tensor([0.5, 2.0]))
    torch.testing.assert_close(found, torch.tensor([0.5, 0.375]))


def test_unisurf_weights_by_hand():
    # Occupancies sigmoid(0) = 0.5 and sigmoid(10 * 0.1) = 0.7310586: 0.5 and 0.5 * 0.7310586, whatever the lengths.
    found = UniSurfWeighting()(torch.tensor([[[0.0, -0.1]]]), torch.tensor([[[1.0, 7.0]]]), None)
    torch.testing.assert_close(found, torch.tensor([[[0.5, 0.3655293]]]), atol=1e-6, rtol=0)


def test_density_weights_by_hand():
    # softplus(0) = ln 2; with scale 2 and length 0.5 the thickness is ln 2.
    found = DensityWeighting(scale=2.0)(torch.zeros(1, 1, 1), torch.full((1, 1, 1), 0.5), None)
    torch.testing.assert_close(found, torch.full((1, 1, 1), 0.5))


@pytest.mark.parametrize(
    "weighting", [NeuSWeighting(300.0), VolSDFWeighting(0.005), UniSurfWeighting(300.0), DensityWeighting(2000.0)]
)
def test_every_weighting_finds_the_wall(weighting):
    sdf, length, slope = wall()
    values = sdf * 300 if isinstance(weighting, DensityWeighting) else sdf  # a density has to be steep by itself
    weight = weighting(values, length, slope)
    distance = 1.2 - sdf
    assert (weight >= 0).all()
    torch.testing.assert_close(weight.sum(), torch.tensor(1.0), atol=1e-3, rtol=0)
    torch.testing.assert_close((weight * distance).sum() / weight.sum(), torch.tensor(1.2), atol=0.02, rtol=0)


def test_neus_without_a_slope_uses_neighbouring_samples():
    sdf, length, slope = wall()
    weighting = NeuSWeighting(50.0)
    torch.testing.assert_close(weighting(sdf, length, None), weighting(sdf, length, slope), atol=2e-4, rtol=0)


@pytest.mark.parametrize("weighting", [NeuSWeighting(), VolSDFWeighting()])
def test_learned_parameters_receive_gradients(weighting):
    sdf, length, slope = wall(20)
    (weighting(sdf, length, slope) * torch.linspace(0, 1, 20)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite() and p.grad != 0 for p in weighting.parameters())


def test_parameters_start_where_they_are_told():
    torch.testing.assert_close(NeuSWeighting(35.0).sharpness.detach(), torch.tensor(35.0))
    torch.testing.assert_close(VolSDFWeighting(0.07).beta.detach(), torch.tensor(0.07))


def test_scales_must_be_positive():
    for make in (
        lambda: NeuSWeighting(0.0),
        lambda: VolSDFWeighting(0.1, min_beta_m=0.1),
        lambda: UniSurfWeighting(-1.0),
        lambda: DensityWeighting(0.0),
    ):
        with pytest.raises(ValueError, match="must be positive: got"):
            make()


def test_weights_from_alpha_are_the_product_and_its_gradient_also_at_opaque_samples():
    alpha = torch.rand(20, 60, dtype=torch.float64) ** 4
    alpha[::3, 20] = 1.0
    alpha[1::3, 30] = 0.0
    alpha.requires_grad_()
    transmittance = torch.cumprod(1 - alpha + 1e-7, dim=-1)
    expected = alpha * torch.cat((torch.ones_like(alpha[:, :1]), transmittance[:, :-1]), dim=-1)
    found = weights_from_alpha(alpha)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    upstream = torch.randn(20, 60, dtype=torch.float64)
    (expected,) = torch.autograd.grad(expected, alpha, upstream)
    torch.testing.assert_close(torch.autograd.grad(found, alpha, upstream)[0], expected, rtol=1e-9, atol=1e-9)
    single = alpha.detach().float().requires_grad_()
    (gradient,) = torch.autograd.grad(weights_from_alpha(single), single, upstream.float())
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-4, atol=1e-4)
