import pytest
import torch

from pointcept.rendering import NeuSRenderer, NeuSSampler, SDFField, UniformSampler
from pointcept.rendering.weights import neus_alpha, weights_from_alpha
from pointcept.structures import FeatureVolume, RayBatch


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
