import pytest
import torch
from straight_rays import straight_rays, unused

from pointcept.rendering import (
    DepthGuidedSampler,
    ErrorBoundedSampler,
    NeuSSampler,
    NeuSWeighting,
    OccupancySampler,
    RayProbe,
    UniformSampler,
    VolSDFWeighting,
)
from pointcept.rendering.error_bounded import nearest_distance, opacity_error
from pointcept.rendering.guided_samplers import grow, look_up
from pointcept.rendering.weights import laplace_density
from pointcept.structures import FeatureVolume, RayBatch

SEEDS = [None, torch.tensor([3, 4])]


def test_disparity_and_log_spacing_by_hand():
    rays = straight_rays(1.0, 4.0)
    edges = UniformSampler(2, spacing="disparity")(rays, RayProbe(unused), None).edges
    torch.testing.assert_close(edges[0, 0], torch.tensor([1.0, 1.6, 4.0]))  # 1 / 1.6 is halfway between 1 and 1/4
    edges = UniformSampler(2, spacing="log")(rays, RayProbe(unused), None).edges
    torch.testing.assert_close(edges[1, 2], torch.tensor([1.0, 2.0, 4.0]))


@pytest.mark.parametrize("spacing", ["disparity", "log"])
def test_spacings_are_finite_from_the_camera_on(spacing):
    edges = UniformSampler(8, spacing=spacing)(straight_rays(0.0, 4.0), RayProbe(unused), torch.tensor([1, 2])).edges
    assert edges.isfinite().all() and (edges.diff(dim=-1) >= 0).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_depth_guides_the_samples_to_the_surface(seed):
    measured = torch.tensor([[3.0, 0.0, 7.0], [1.1, 4.9, 3.0]])  # 0: not measured; 7: outside the box
    sampler = DepthGuidedSampler(num_band=12, num_free=6, num_uniform=6, band_m=0.2)
    samples = sampler(straight_rays(), RayProbe(unused, measured=measured), seed)
    edges = samples.edges
    assert edges.shape == (2, 3, 25) and (edges.diff(dim=-1) >= 0).all()
    assert (edges[..., 0] >= 1).all() and (edges[..., -1] <= 5).all()
    in_band = ((samples.starts - measured[..., None]).abs() <= 0.2 + 1e-5).sum(-1)
    assert (in_band[[0, 1, 1, 1], [0, 0, 1, 2]] >= 11).all()
    free = (samples.starts[0, 0] < 2.8).sum()
    assert 6 <= free <= 10
    uniform = UniformSampler(24)(straight_rays(), RayProbe(unused), seed).edges
    assert torch.equal(edges[0, 1:], uniform[0, 1:])


def test_without_measurements_the_other_sampler_takes_over():
    sampler = DepthGuidedSampler(4, 2, 2, unmeasured=UniformSampler(5))
    assert sampler(straight_rays(), RayProbe(unused), None).edges.shape[-1] == 6
    assert DepthGuidedSampler(4, 2, 2)(straight_rays(), RayProbe(unused), None).edges.shape[-1] == 9


@pytest.mark.parametrize("seed", SEEDS)
def test_empty_space_is_skipped(seed):
    rays = straight_rays()
    sampler = OccupancySampler(num_samples=20, num_probes=200, empty_share=0.2)
    probe = RayProbe(unused, is_occupied=lambda distance: (distance > 2) & (distance < 2.5))
    starts = sampler(rays, probe, seed).starts
    inside = ((starts > 1.95) & (starts < 2.55)).sum(-1)
    assert (inside >= 15).all() and (inside <= 18).all()
    nothing = sampler(rays, RayProbe(unused, is_occupied=lambda distance: distance > 9), None)
    torch.testing.assert_close(nothing.lengths, torch.full((2, 3, 20), 4 / 21))


def test_an_occupancy_sampler_can_be_refined():
    probe = RayProbe(lambda distance: 2.2 - distance, is_occupied=lambda d: (d > 2) & (d < 2.5))
    samples = NeuSSampler(num_importance=6, coarse=OccupancySampler(10))(straight_rays(), probe, None)
    assert samples.starts.shape[-1] == 16


def test_looking_up_voxels():
    occupied = torch.zeros(1, 4, 4, 4, dtype=torch.bool)
    occupied[0, 0, 1, 3] = True  # z 0, y 1, x 3
    volume = FeatureVolume(torch.zeros(1, 2, 4, 4, 4), torch.tensor([[[0.0, 0, 0], [4, 8, 4]]]), occupied)
    positions = torch.tensor([[[3.5, 3.0, 0.5], [2.5, 3.0, 0.5], [4.5, 3.0, 0.5], [3.5, 1.0, 0.5]]])
    assert look_up(volume, occupied, positions).tolist() == [[True, False, False, False]]
    assert look_up(volume, grow(occupied), positions).tolist() == [[True, True, False, True]]


def test_an_unknown_occupancy_is_named():
    with pytest.raises(ValueError, match="needs a volume that knows its occupied voxels"):
        OccupancySampler()(straight_rays(), RayProbe(unused), None)


def test_nearest_distance_by_hand():
    # Ends 1 m apart. Radii 0.6 and 0.8: a right angle, height 0.48. 2 and 0.5: the second ball covers the rest.
    sdf = torch.tensor([[0.6, 0.8], [2.0, 0.5], [0.3, -0.3], [0.2, 0.3]])
    found = nearest_distance(sdf, torch.ones(4, 2))
    torch.testing.assert_close(found[:, 0], torch.tensor([0.48, 0.5, 0.0, 0.0]))
    torch.testing.assert_close(found[:, 1], found[:, 0])


def test_the_error_bound_bounds_the_error():
    """Opacity up to each edge with constant density per interval, against a fine integral."""
    beta, edges = torch.tensor(0.1), torch.linspace(0, 2, 41)
    nearest = nearest_distance(1.1 - edges[:-1], edges.diff())
    bound = opacity_error(beta, 1.1 - edges[:-1], nearest, edges.diff())
    fine = torch.linspace(0, 2, 40_001, dtype=torch.float64)
    exact = 1 - torch.exp(-torch.cumsum(laplace_density(1.1 - fine, beta.double()) * 2 / 40_000, 0))[::1000][1:]
    coarse = 1 - torch.exp(-torch.cumsum(laplace_density(1.1 - edges[:-1], beta) * 0.05, 0))
    assert ((exact - coarse).abs() <= bound + 1e-3).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_error_bounded_samples_gather_at_the_surface(seed):
    probe = RayProbe(lambda distance: 3.1 - distance, weighting=VolSDFWeighting(0.02))
    samples = ErrorBoundedSampler(16, 32, 4)(straight_rays(), probe, seed)
    assert samples.edges.shape == (2, 3, 21) and (samples.edges.diff(dim=-1) >= 0).all()
    assert (((samples.starts - 3.1).abs() < 0.3).sum(-1) >= 14).all()


def test_error_bounded_rays_do_not_depend_on_each_other():
    def query(rays_count):
        place = torch.tensor([3.1, 4.6, 50.0])[:rays_count, None]
        return lambda distance: place - distance

    rays = straight_rays()
    weighting = VolSDFWeighting(0.02)
    together = ErrorBoundedSampler(16, 32, 4)(rays, RayProbe(query(3), weighting=weighting), None)
    first = RayBatch(**{name: value[:, :1] for name, value in vars(rays).items()})
    alone = ErrorBoundedSampler(16, 32, 4)(first, RayProbe(query(1), weighting=weighting), None)
    torch.testing.assert_close(alone.edges, together.edges[:, :1])


def test_error_bounded_sampling_needs_its_density():
    with pytest.raises(ValueError, match="needs VolSDFWeighting: got NeuSWeighting"):
        ErrorBoundedSampler()(straight_rays(), RayProbe(unused, weighting=NeuSWeighting()), None)
