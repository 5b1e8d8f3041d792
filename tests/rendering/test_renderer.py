import pytest
import torch

from pointcept.rendering import (
    DensityWeighting,
    DepthGuidedSampler,
    EikonalLoss,
    ErrorBoundedSampler,
    NeuSRenderer,
    NeuSSampler,
    NeuSWeighting,
    OccupancySampler,
    SDFField,
    SkyColor,
    UniformSampler,
    UniSurfWeighting,
    VolSDFWeighting,
    VolumeRenderer,
)
from pointcept.rendering.weights import neus_alpha, weights_from_alpha
from pointcept.structures import FeatureVolume, RayBatch, RayTargets


def make_rays(count: int, scenes: int = 2) -> RayBatch:
    generator = torch.Generator().manual_seed(0)
    origins = torch.rand(scenes, count, 3, generator=generator) * 0.2 + torch.tensor([0.1, 1.0, 1.0])
    directions = torch.nn.functional.normalize(
        torch.tensor([1.0, 0, 0]) + 0.3 * torch.randn(scenes, count, 3, generator=generator), dim=-1
    )
    ones = torch.ones(scenes, count)
    return RayBatch(origins=origins, directions=directions, near=ones * 0.05, far=ones * 1.6, valid=ones.bool())


def make_volume(scenes: int = 2) -> FeatureVolume:
    features = torch.randn(scenes, 8, 6, 6, 6, generator=torch.Generator().manual_seed(1))
    return FeatureVolume(features, torch.tensor([[[0.0, 0, 0], [2, 2, 2]]]).expand(scenes, 2, 3))


def make_renderer(**options) -> NeuSRenderer:
    torch.manual_seed(0)
    field = SDFField(8, hidden_channels=16, geometry_channels=4, feature_channels=5)
    return NeuSRenderer(field, options.pop("sampler", NeuSSampler(12, 6)), **options)


def test_alpha_by_hand():
    # Head-on (cosine -1) through a step of 0.2 m centred on the surface with slope 10: the SDF goes from 0.1 to -0.1,
    # sigmoid(1) = 0.7310586, sigmoid(-1) = 0.2689414, (0.4621172 + 1e-5) / (0.7310586 + 1e-5) = 0.6321260.
    alpha = neus_alpha(torch.tensor([0.0]), torch.tensor([-1.0]), torch.tensor([0.2]), torch.tensor(10.0))
    torch.testing.assert_close(alpha, torch.tensor([0.6321260]), atol=1e-6, rtol=0)


def test_surfaces_seen_from_behind_are_transparent():
    alpha = neus_alpha(torch.tensor([0.0]), torch.tensor([0.8]), torch.tensor([0.2]), torch.tensor(50.0))
    torch.testing.assert_close(alpha, torch.tensor([2e-5]), atol=1e-5, rtol=0)


def test_weights_by_hand():
    weights = weights_from_alpha(torch.tensor([0.5, 0.5, 1.0]))
    torch.testing.assert_close(weights, torch.tensor([0.5, 0.25, 0.25]), atol=1e-6, rtol=0)


def test_a_wall_is_rendered_at_its_distance_with_its_normal():
    """The volume holds the exact SDF of the plane x = 1.2; the decoder is set to hand it through."""
    field = SDFField(2, hidden_channels=1, geometry_channels=1, sdf_blocks=0)
    with torch.no_grad():
        for decoder in (field.sdf_decoder,):
            decoder.inputs[0].weight.fill_(1.0)
            decoder.inputs[0].bias.zero_()
            decoder.head.weight.copy_(torch.tensor([[1.0], [0.0]]))
            decoder.head.bias.zero_()
    centres = (torch.arange(20) + 0.5) * 0.1
    features = (1.2 - centres).expand(1, 2, 20, 20, 20).contiguous()
    volume = FeatureVolume(features, torch.tensor([[[0.0, 0, 0], [2, 2, 2]]]))
    rays = make_rays(50, scenes=1)
    rendering = NeuSRenderer(field, NeuSSampler(64, 64), initial_sharpness=400.0)(volume, rays, None)
    expected = (1.2 - rays.origins[..., 0]) / rays.directions[..., 0]
    hit = expected < 1.5
    assert hit.sum() > 40
    torch.testing.assert_close(rendering.distance[hit], expected[hit], atol=0.005, rtol=0)
    assert (rendering.opacity[hit] > 0.99).all()
    wanted = torch.tensor([-1.0, 0, 0]).expand_as(rendering.normal)
    torch.testing.assert_close(rendering.normal[hit], wanted[hit], atol=0.02, rtol=0)


def test_feature_decoded_after_compositing_equals_decoding_every_sample():
    renderer, volume, rays = make_renderer(sampler=UniformSampler(9)), make_volume(), make_rays(4)
    rendering = renderer(volume, rays, None)
    positions = rays.origins[:, :, None] + rays.directions[:, :, None] * rendering.sample_distance[..., None]
    field = renderer.field
    samples = field(volume, positions.flatten(1, 2), torch.zeros(2, 36, 3))
    per_sample = field.decode_feature(torch.cat(samples.feature, dim=-1), torch.ones(2, 36)).reshape(2, 4, 9, 5)
    torch.testing.assert_close(rendering.feature, (per_sample * rendering.weight[..., None]).sum(2))


def test_a_scene_renders_the_same_alone_and_in_a_batch():
    renderer, volume, rays = make_renderer(), make_volume(), make_rays(6)
    seed = torch.tensor([4, 9])
    together = renderer(volume, rays, seed)
    second = RayBatch(
        origins=rays.origins[1:],
        directions=rays.directions[1:],
        near=rays.near[1:],
        far=rays.far[1:],
        valid=rays.valid[1:],
    )
    alone = renderer(FeatureVolume(volume.features[1:], volume.box[1:]), second, seed[1:])
    torch.testing.assert_close(alone.color, together.color[1:])
    torch.testing.assert_close(alone.distance, together.distance[1:])


def test_chunks_give_what_one_piece_gives():
    renderer, volume, rays = make_renderer(), make_volume(), make_rays(7)
    whole = renderer(volume, rays, None)
    parts = renderer.render_chunks(volume, rays, chunk_size=3)
    assert [part.color.shape[1] for part in parts] == [3, 3, 1]
    torch.testing.assert_close(torch.cat([part.color for part in parts], dim=1), whole.color.detach())


def test_start_positions_are_where_intervals_begin():
    rendering = make_renderer(sampler=UniformSampler(4), sample_position="start")(make_volume(), make_rays(1), None)
    torch.testing.assert_close(rendering.sample_distance[0, 0], 0.05 + 1.55 * torch.tensor([0, 0.25, 0.5, 0.75]))


def test_rays_of_other_scenes_are_refused():
    with pytest.raises(ValueError, match="must hold the same scenes: got 1 and 2"):
        make_renderer()(make_volume(2), make_rays(3, scenes=1), None)


@pytest.mark.parametrize(
    ("sampler", "weighting"),
    [
        (NeuSSampler(6, 3), NeuSWeighting()),
        (ErrorBoundedSampler(6, 8, 3, num_rounds=2), VolSDFWeighting()),
        (UniformSampler(9), UniSurfWeighting()),
        (UniformSampler(9, spacing="log"), DensityWeighting()),
        (DepthGuidedSampler(4, 3, 2), NeuSWeighting()),
        (OccupancySampler(9), NeuSWeighting()),
    ],
)
@pytest.mark.parametrize("gradient", ["analytic", "finite_difference", "none"])
def test_pieces_evaluated_again_equal_everything_at_once(sampler, weighting, gradient):
    """Values and gradients of the path that saves memory, against plain autograd."""
    results = []
    for piece_size in (None, 40):
        torch.manual_seed(0)
        field = SDFField(8, hidden_channels=8, geometry_channels=4, feature_channels=5, gradient=gradient)
        renderer = VolumeRenderer(field, sampler, weighting, piece_size=piece_size)
        renderer.zero_grad()
        volume = make_volume()
        occupied = torch.rand(2, 6, 6, 6, generator=torch.Generator().manual_seed(2)) > 0.7
        volume = volume.replace(features=volume.features.requires_grad_(), occupied=occupied)
        rendering = renderer(volume, make_rays(7), torch.tensor([1, 2]), torch.full((2, 7), 0.8))
        assert (rendering.gradient is None) == (gradient == "none")
        outputs = [value for value in vars(rendering).values() if value is not None and value.requires_grad]
        sum(value.square().sum() for value in outputs).backward()
        grads = {name: p.grad.clone() for name, p in renderer.named_parameters() if p.grad is not None}
        results.append(({"volume": volume.features.grad, **grads}, outputs))
    (whole_grads, whole), (piece_grads, pieces) = results
    for found, expected in zip(pieces, whole, strict=True):
        torch.testing.assert_close(found, expected)
    assert whole_grads.keys() == piece_grads.keys()
    for name, expected in whole_grads.items():
        torch.testing.assert_close(piece_grads[name], expected, atol=1e-4, rtol=1e-4, msg=name)


def test_evaluation_has_normals_whatever_the_gradient_mode():
    field = SDFField(8, hidden_channels=8, geometry_channels=4, gradient="none")
    renderer = NeuSRenderer(field, UniformSampler(5))
    assert renderer(make_volume(), make_rays(3), None).normal is None
    assert renderer.render_chunks(make_volume(), make_rays(3), chunk_size=2)[0].normal.shape == (2, 2, 3)


def test_frozen_fields_still_teach_the_volume():
    renderer = make_renderer(piece_size=20).requires_grad_(False)
    volume = make_volume()
    volume = volume.replace(features=volume.features.requires_grad_())
    renderer(volume, make_rays(5), None).color.sum().backward()
    assert volume.features.grad.any()


def with_ray(**changes) -> RayBatch:
    """Rays of which the second of the first scene is changed."""
    rays = make_rays(3)
    values = {name: value.clone() for name, value in vars(rays).items()}
    for name, value in changes.items():
        values[name][0, 1] = torch.as_tensor(value, dtype=values[name].dtype)
    return RayBatch(**values)


BAD_RAYS = [
    {"directions": [0.0, 0, 0]},
    {"directions": [float("nan"), 0, 1]},
    {"origins": [float("inf"), 0, 0]},
    {"near": 2.0, "far": 1.0},
]


@pytest.mark.parametrize("changes", BAD_RAYS)
def test_valid_rays_that_cannot_be_followed_are_named(changes):
    with pytest.raises(ValueError, match=r"Valid rays must be finite, .* ray 1 of scene 0"):
        make_renderer()(make_volume(), with_ray(**changes), None)


@pytest.mark.parametrize("changes", BAD_RAYS)
def test_invalid_rays_may_hold_anything(changes):
    renderer, expected = make_renderer(piece_size=20), make_renderer()(make_volume(), make_rays(3), None)
    rays = with_ray(valid=False, **changes)
    rendering = renderer(make_volume(), rays, None)
    assert all(value.isfinite().all() for value in vars(rendering).values())
    total, _ = EikonalLoss()(rendering, RayTargets(rays.directions, rays.near), rays)
    total.backward()
    assert all(p.grad.isfinite().all() for p in renderer.parameters() if p.grad is not None)
    torch.testing.assert_close(rendering.color[1], expected.color[1])


def test_no_rays_and_no_valid_rays_are_defined():
    rays = make_rays(3)
    nothing = RayBatch(**{name: value[:, :0] for name, value in vars(rays).items()})
    assert make_renderer()(make_volume(), nothing, torch.tensor([1, 2])).color.shape == (2, 0, 3)
    missing = rays.replace(valid=torch.zeros_like(rays.valid))
    assert make_renderer()(make_volume(), missing, None).color.isfinite().all()


def test_rays_on_another_device_are_refused():
    rays = make_rays(3).to("meta")
    with pytest.raises(ValueError, match="must be on one device: got meta and cpu"):
        make_renderer()(make_volume(), rays, None)


def test_distances_and_seeds_of_other_rays_are_refused():
    renderer, volume, rays = make_renderer(), make_volume(), make_rays(3)
    with pytest.raises(ValueError, match=r"one distance per ray, \(2, 3\) on cpu: got \(2, 4\) on cpu"):
        renderer(volume, rays, None, torch.ones(2, 4))
    with pytest.raises(ValueError, match=r"one distance per ray, \(2, 3\) on cpu: got \(2, 3\) on meta"):
        renderer(volume, rays, None, torch.ones(2, 3, device="meta"))
    with pytest.raises(ValueError, match=r"one number per scene, \(2,\) on cpu: got \(1,\) on cpu"):
        renderer(volume, rays, torch.tensor([1]))


@pytest.mark.parametrize("measured", [float("nan"), float("inf"), 0.0, -1.0, 0.01, 9.0])
def test_a_distance_that_is_none_or_off_the_ray_guides_no_samples(measured):
    """Rays without a usable measurement are sampled as if there were none; their neighbours keep theirs."""
    renderer, volume, rays = make_renderer(sampler=DepthGuidedSampler(4, 3, 2)), make_volume(), make_rays(3)
    distance = torch.full((2, 3), 0.8)
    guided = renderer(volume, rays, None, distance).sample_distance
    uniform = make_renderer(sampler=UniformSampler(9))(volume, rays, None).sample_distance
    distance[0, 1] = measured
    found = renderer(volume, rays, None, distance).sample_distance
    torch.testing.assert_close(found[0, 1], uniform[0, 1])
    torch.testing.assert_close(found[1], guided[1])


@pytest.mark.parametrize("piece_size", [7, None])
def test_the_background_fills_what_opacity_leaves_open(piece_size):
    rays, volume, seed = make_rays(9), make_volume(), torch.tensor([1, 2])
    plain = make_renderer(piece_size=piece_size)(volume, rays, seed)
    sky = SkyColor(8)
    renderer = make_renderer(piece_size=piece_size)
    renderer.background = sky
    rendering = renderer(volume, rays, seed)
    expected = plain.color + (1 - plain.opacity)[..., None] * sky(rays.directions)
    torch.testing.assert_close(rendering.color, expected)
    assert (plain.opacity < 0.999).any()
    rendering.color.sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in sky.parameters())
    chunk = renderer.render_chunks(volume, rays, chunk_size=4)[0]
    assert (chunk.color >= plain.color.new_zeros(())).all() and (chunk.color <= 1 + 1e-5).all()


def test_the_sky_depends_on_the_direction_alone():
    torch.manual_seed(0)
    sky = SkyColor(8)
    directions = torch.nn.functional.normalize(torch.randn(2, 5, 3), dim=-1)
    color = sky(directions)
    assert color.shape == (2, 5, 3) and (color > 0).all() and (color < 1).all()
    torch.testing.assert_close(sky(directions.flip(1)).flip(1), color)
    assert not torch.allclose(color[0, 0], color[0, 1])
