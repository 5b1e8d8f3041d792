import pytest
import torch
from straight_rays import straight_rays, unused

from pointcept.rendering.samplers import NeuSSampler, RayProbe, UniformSampler, coarse_weights, invert_histogram


def test_uniform_edges_are_equally_spaced_without_a_seed():
    samples = UniformSampler(4)(straight_rays(), RayProbe(unused), None)
    torch.testing.assert_close(samples.edges[1, 2], torch.tensor([1.0, 2, 3, 4, 5]))
    torch.testing.assert_close(samples.middles[0, 0], torch.tensor([1.5, 2.5, 3.5, 4.5]))
    torch.testing.assert_close(samples.lengths, torch.ones(2, 3, 4))


def test_stratified_edges_stay_in_their_stratum():
    edges = UniformSampler(4)(straight_rays(), RayProbe(unused), torch.tensor([1, 2])).edges
    lower, upper = torch.tensor([1.0, 1.5, 2.5, 3.5, 4.5]), torch.tensor([1.5, 2.5, 3.5, 4.5, 5.0])
    assert (edges >= lower).all() and (edges <= upper).all()
    assert torch.unique(edges[..., 1]).numel() == 6  # every ray has its own jitter


def test_inverting_a_histogram_by_hand():
    edges, weights = torch.tensor([0.0, 1, 2, 4]), torch.tensor([1.0, 0, 3])
    quantile = torch.tensor([0.125, 0.25, 0.625, 1.0])
    # A quarter of the mass lies in [0, 1], none in [1, 2], three quarters in [2, 4].
    torch.testing.assert_close(invert_histogram(edges, weights, quantile), torch.tensor([0.5, 2.0, 3.0, 4.0]))


def test_a_ray_that_hits_nothing_is_sampled_uniformly():
    edges = torch.tensor([0.0, 1, 2, 3])
    drawn = invert_histogram(edges, torch.zeros(3), torch.tensor([0.0, 1 / 3, 0.5, 1.0]))
    torch.testing.assert_close(drawn, torch.tensor([0.0, 1.0, 1.5, 3.0]))


def test_coarse_weights_peak_at_the_surface():
    distance = torch.linspace(0, 4, 41)
    weights = coarse_weights(2.03 - distance, distance, 64.0)
    assert weights.argmax() == 20  # between 2.0 and 2.1
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0), atol=1e-2, rtol=0)


@pytest.mark.parametrize("seed", [None, torch.tensor([3, 4])])
def test_importance_samples_gather_at_the_surface(seed):
    samples = NeuSSampler(16, 8)(straight_rays(), RayProbe(lambda distance: 3.1 - distance), seed)
    edges = samples.edges
    assert edges.shape == (2, 3, 25) and (edges.diff(dim=-1) >= 0).all()
    assert (edges[..., 0] >= 1).all() and (edges[..., -1] <= 5).all()
    near_surface = ((samples.starts - 3.1).abs() < 0.3).sum(-1)
    assert (near_surface >= 8).all()


def test_fewer_than_two_samples_are_refused():
    with pytest.raises(ValueError, match="num_samples must be at least 2"):
        UniformSampler(1)
    with pytest.raises(ValueError, match="num_importance must be at least 1"):
        NeuSSampler(8, 0)
