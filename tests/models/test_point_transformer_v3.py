"""Properties of Point Transformer V3."""

import copy

import pytest
import torch
from torch import nn

from pointcept import create_model
from pointcept.models.backbones import LayerNormPointTransformerV3, PointTransformerV3
from pointcept.models.backbones.serialized_voxels import SerializedVoxels
from pointcept.models.backbones.transformer_blocks import DropPath
from pointcept.models.freezing import freeze
from pointcept.ops.sparse import VoxelSet
from pointcept.structures import PointBatch

SMALL = {
    "in_channels": 4,
    "order": ("z", "z-trans", "hilbert", "hilbert-trans"),
    "stride": (2, 2),
    "enc_depths": (1, 2, 1),
    "enc_channels": (8, 12, 16),
    "enc_num_head": (2, 3, 4),
    "enc_patch_size": (16, 16, 16),
    "dec_depths": (1, 2),
    "dec_channels": (8, 12),
    "dec_num_head": (2, 3),
    "dec_patch_size": (16, 32),
    "drop_path": 0.0,
}
ENCODER = {key: value for key, value in SMALL.items() if not key.startswith("dec_")} | {"enc_mode": True}
CONDITIONS = ("ScanNet", "S3DIS", "Structured3D")
VARIANTS = {
    "m1": (PointTransformerV3, SMALL),
    "m1_rpe": (PointTransformerV3, SMALL | {"enable_rpe": True, "pre_norm": False}),
    "m1_prompt": (
        PointTransformerV3,
        SMALL | {"pdnorm_bn": True, "pdnorm_ln": True, "pdnorm_adaptive": True, "pdnorm_conditions": CONDITIONS},
    ),
    "m2": (LayerNormPointTransformerV3, SMALL | {"layer_scale": 0.5}),
    "m2_hyper_columns": (LayerNormPointTransformerV3, ENCODER | {"hyper_column_levels": 2}),
}


def make_points(*clouds: torch.Tensor, seed: int = 0, first: int = 0) -> PointBatch:
    """Clouds of given voxels with features that depend on the place alone."""
    grid_coord = torch.cat(clouds)
    phase = torch.arange(1.0, 13.0, dtype=torch.float64).view(3, 4) + seed
    return PointBatch(
        coord=(grid_coord * 0.02).float(),
        grid_coord=grid_coord,
        feat=torch.sin(grid_coord.double() @ phase).float(),
        offset=torch.tensor([len(cloud) for cloud in clouds], dtype=torch.long).cumsum(0),
        condition=tuple(CONDITIONS[(first + index) % 3] for index in range(len(clouds))),
    )


def cloud(count: int, seed: int, extent: int = 24) -> torch.Tensor:
    """Distinct voxels of a few planes, in random order."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.cartesian_prod(torch.arange(extent), torch.arange(extent), torch.tensor([0, 1, 9]))
    return cells[torch.randperm(len(cells), generator=generator)[:count]]


def make_network(name: str) -> nn.Module:
    """A network whose parameters and statistics are all different from their initial values."""
    torch.manual_seed(0)
    kind, arguments = VARIANTS[name]
    network = kind(**arguments)
    with torch.no_grad():
        for tensor in [*network.parameters(), *(b for b in network.buffers() if b.is_floating_point())]:
            tensor.add_(torch.rand_like(tensor) * 0.2)
    return network.eval()


@pytest.fixture(scope="module", params=VARIANTS)
def network(request) -> nn.Module:
    return make_network(request.param)


@torch.no_grad()
def run(network: nn.Module, points: PointBatch) -> torch.Tensor:
    return network(points).feat


def test_numbers_of_parameters():
    def count(name, **arguments):
        with torch.device("meta"):
            model = create_model(name, **arguments)
        return sum(parameter.numel() for parameter in model.parameters())

    assert count("PT-v3m1", in_channels=6) == 46_166_272
    # The base and the large encoder of Sonata, with the mask token that they are pre-trained with.
    sonata = {"in_channels": 9, "enc_depths": (3, 3, 3, 12, 3), "enc_mode": True, "mask_token": True}
    base = {"enc_channels": (48, 96, 192, 384, 512), "enc_num_head": (3, 6, 12, 24, 32)}
    large = {"enc_channels": (64, 128, 256, 512, 768), "enc_num_head": (4, 8, 16, 32, 48)}
    assert count("PT-v3m2", **sonata, **base) == 108_461_376
    assert count("PT-v3m2", **sonata, **large) == 207_667_456
    extreme = {"dec_depths": (3,) * 4, "dec_channels": (64, 96, 192, 384), "dec_num_head": (4, 6, 12, 24)}
    prompt = {"pdnorm_bn": True, "pdnorm_ln": True, "enc_depths": (3, 3, 3, 6, 3)}
    assert count("PT-v3m1", in_channels=6, **base, **extreme, **prompt) == 97_413_040


def test_a_cloud_gives_the_same_alone_and_in_a_batch(network):
    clouds = [cloud(0, 6), cloud(300, 1), cloud(1, 2), cloud(0, 3), cloud(200, 4, extent=60), cloud(9, 7), cloud(0, 5)]
    together = run(network, make_points(*clouds))
    alone = torch.cat([run(network, make_points(c, first=index)) for index, c in enumerate(clouds)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5 * alone.abs().max().item())


def test_permuted_points_give_permuted_results(network):
    voxels = cloud(300, 1)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(run(network, make_points(voxels[order])), run(network, make_points(voxels))[order])


def test_points_of_one_voxel_count_as_their_mean(network):
    points = make_points(cloud(200, 1))
    spread = torch.zeros_like(points.feat)
    spread[0] = 3.0
    doubled = PointBatch(
        coord=points.coord.repeat(2, 1),
        grid_coord=points.grid_coord.repeat(2, 1),
        feat=torch.cat([points.feat + spread, points.feat - spread]),
        offset=torch.tensor([400]),
        condition=points.condition,
    )
    torch.testing.assert_close(run(network, doubled), run(network, points).repeat(2, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shift", [(-64, -160, -4), (2**33, -(2**34), 2**35)])
def test_clouds_far_from_the_origin_are_those_at_their_own_corner(network, shift):
    points = make_points(cloud(200, 1))
    moved = points.replace(grid_coord=points.grid_coord + torch.tensor(shift))
    torch.testing.assert_close(run(network, moved), run(network, points))


@pytest.mark.parametrize("counts", [(0, 0), (1,), (0, 1, 0), (15,), (16,), (17,), (1, 33, 0)], ids=str)
def test_tiny_clouds(network, counts):
    points = make_points(*(cloud(count, seed) for seed, count in enumerate(counts)))
    result = run(network, points)
    assert result.shape == (sum(counts), network.out_channels) and result.isfinite().all()


def test_order_and_other_data_of_the_points_are_kept(network):
    points = make_points(cloud(50, 1), cloud(20, 2)).replace(segment=torch.arange(70))
    result = network(points)
    for name in ("coord", "grid_coord", "segment", "offset", "condition"):
        assert getattr(result, name) is getattr(points, name)


def test_every_parameter_and_the_input_get_a_gradient(network):
    points = make_points(cloud(200, 1), cloud(100, 2), cloud(90, 3))
    points = points.replace(feat=points.feat.requires_grad_())
    network.zero_grad()
    network.train()
    torch.manual_seed(0)
    result = network(points).feat
    (result * torch.linspace(0, 1, result.numel()).view_as(result)).sum().backward()
    network.eval()
    for name, parameter in [*network.named_parameters(), ("input", points.feat)]:
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_curves_are_shuffled_in_training_only():
    network = PointTransformerV3(**SMALL)
    torch.manual_seed(0)
    assert len({tuple(network.draw_curves()) for _ in range(20)}) > 5
    assert {tuple(network.eval().draw_curves()) for _ in range(20)} == {(0, 1, 2, 3)}
    assert PointTransformerV3(**SMALL, shuffle_orders=False).draw_curves() == [0, 1, 2, 3]


def test_drop_path_leaves_out_whole_clouds_and_keeps_the_mean():
    rows = torch.arange(6000)
    voxels, _ = VoxelSet.from_points(rows[:, None].expand(-1, 3), rows // 3, 2000)
    level = SerializedVoxels(voxels, rows[None], [0])
    drop_path = DropPath(0.25)
    torch.manual_seed(0)
    dropped = drop_path(torch.ones(6000, 2), level).view(2000, 6)
    assert torch.equal(dropped, dropped[:, :1].expand(-1, 6)), "all rows of a cloud share one draw"
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert abs(dropped.mean() - 1) < 0.05
    assert torch.equal(drop_path.eval()(torch.ones(6000, 2), level), torch.ones(6000, 2))


def test_drop_path_grows_with_depth_and_is_off_in_evaluation():
    network = PointTransformerV3(**SMALL | {"drop_path": 0.3})
    encoder = [m.probability for m in network.enc.modules() if isinstance(m, DropPath)]
    decoder = [m.probability for m in network.dec.modules() if isinstance(m, DropPath)]
    assert encoder == pytest.approx([0, 0.1, 0.2, 0.3])
    assert decoder == pytest.approx([0.3, 0.15, 0]), "coarse stages first, and inside each from large to small"
    network.eval()
    points = make_points(cloud(100, 1))
    assert torch.equal(run(network, points), run(network, points))


def test_encoder_alone_gives_the_coarsest_voxels():
    network = PointTransformerV3(**ENCODER).eval()
    points = make_points(cloud(300, 1), cloud(0, 2), cloud(50, 3)).replace(segment=torch.zeros(350, dtype=torch.long))
    result = network(points)
    assert result.feat.shape[1] == network.out_channels == 16
    expected = [torch.unique(part // 4, dim=0) for part in points.grid_coord.split(points.counts.tolist())]
    for found, cells in zip(result.grid_coord.split(result.counts.tolist()), expected, strict=True):
        assert torch.equal(torch.unique(found, dim=0), cells) and len(found) == len(cells)
    assert (result.coord / 0.08 - result.grid_coord).abs().max() <= 1, "the mean position lies in the voxel"
    assert result.segment is None and result.condition == points.condition


def test_the_older_name_of_encoder_mode_and_a_single_curve_are_understood():
    arguments = ENCODER | {"enc_mode": False, "cls_mode": True, "order": "hilbert"}
    network = PointTransformerV3(**arguments).eval()
    assert network.dec is None and network.order == ("hilbert",)
    assert len(run(network, make_points(cloud(50, 1)))) < 50


def test_stages_of_every_variant(network):
    points = make_points(cloud(200, 1), cloud(0, 2), cloud(100, 3))
    with torch.no_grad():
        stages = network.forward_stages(points)
        finest = _lookup(stages[0], points.grid_coord, points.batch_index)
        torch.testing.assert_close(finest, network(points).feat)
    assert [info.stride for info in network.stage_info] == [1, 2, 4]
    for stage, info in zip(stages, network.stage_info, strict=True):
        cells = torch.cat([points.batch_index[:, None], points.grid_coord // info.stride], 1)
        assert stage.feat.shape == (len(cells.unique(dim=0)), info.channels)
        assert stage.condition == points.condition


def test_stages_of_an_encoder_alone():
    points = make_points(cloud(200, 1), cloud(100, 3))
    for levels, channels in ((0, (8, 12, 16)), (1, (8, 28, 16)), (2, (36, 28, 16))):
        network = LayerNormPointTransformerV3(**ENCODER, hyper_column_levels=levels).eval()
        assert tuple(info.channels for info in network.stage_info) == channels
        stages = network.forward_stages(points)
        assert tuple(stage.feat.shape[1] for stage in stages) == channels
        if levels < 2:
            result = network(points)
            expected = _lookup(stages[2 - levels], result.grid_coord, result.batch_index)
            torch.testing.assert_close(result.feat, expected)
            assert result.num_points == stages[2 - levels].num_points


def test_gradient_checkpointing_of_every_variant(network):
    points = make_points(cloud(200, 1), cloud(100, 2), cloud(90, 3))
    plain, saving = copy.deepcopy(network).train(), copy.deepcopy(network).train()
    saving.set_gradient_checkpointing(True)
    results = []
    for model in (plain, saving):
        torch.manual_seed(0)
        results.append(model(points).feat)
        (results[-1] * torch.linspace(0, 1, results[-1].numel()).view_as(results[-1])).sum().backward()
    torch.testing.assert_close(*results)
    for (name, first), second in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(second.grad, first.grad, msg=lambda text, n=name: f"{n}: {text}")
    torch.testing.assert_close(dict(saving.named_buffers()), dict(plain.named_buffers()))


def test_freezing_switches_drop_path_and_shuffled_curves_off():
    network = PointTransformerV3(**SMALL | {"drop_path": 0.5})
    freeze(network)
    network.train()
    points = make_points(cloud(100, 1))
    assert torch.equal(network(points).feat, network(points).feat)
    assert network.draw_curves() == [0, 1, 2, 3]


def test_one_resolution_alone_keeps_the_points():
    stages = {"stride": (), "enc_depths": (1,), "enc_channels": (8,), "enc_num_head": (2,), "enc_patch_size": (16,)}
    points = make_points(cloud(50, 1))
    assert PointTransformerV3(**ENCODER | stages).eval()(points).coord is points.coord


def test_hyper_columns_join_every_level_of_a_point():
    encoder = LayerNormPointTransformerV3(**ENCODER).eval()
    columns = LayerNormPointTransformerV3(**ENCODER, hyper_column_levels=2).eval()
    middle = LayerNormPointTransformerV3(**ENCODER, hyper_column_levels=1).eval()
    columns.load_state_dict(encoder.state_dict())
    middle.load_state_dict(encoder.state_dict())
    points = make_points(cloud(300, 1), cloud(60, 2))
    with torch.no_grad():
        coarse, joined, half = encoder(points), columns(points), middle(points)
    assert (columns.out_channels, middle.out_channels) == (8 + 12 + 16, 12 + 16)
    coarse_of_point = _lookup(coarse, points.grid_coord // 4, points.batch_index)
    half_of_point = _lookup(half, points.grid_coord // 2, points.batch_index)
    torch.testing.assert_close(joined.feat[:, 20:], coarse_of_point)
    torch.testing.assert_close(joined.feat[:, 8:], half_of_point)


def _lookup(batch: PointBatch, cells: torch.Tensor, cloud_index: torch.Tensor) -> torch.Tensor:
    rows = torch.cat([batch.batch_index[:, None], batch.grid_coord], 1)
    wanted = torch.cat([cloud_index[:, None], cells], 1)
    return batch.feat[(wanted[:, None] == rows).all(2).int().argmax(1)]


def test_masked_points_look_alike_to_the_network():
    network = LayerNormPointTransformerV3(**SMALL, mask_token=True).eval()
    points = make_points(cloud(100, 1))
    changed = points.replace(feat=points.feat.clone().index_fill_(0, torch.tensor([3, 4]), 7.0))
    mask = torch.zeros(100, dtype=torch.bool).index_fill_(0, torch.tensor([3, 4]), True)
    with torch.no_grad():
        assert torch.equal(network(points, mask).feat, network(changed, mask).feat)
        assert not torch.allclose(network(points).feat, network(points, mask).feat)
    with pytest.raises(ValueError, match=r"has no mask token\. Build PT-v3m2 with mask_token=True"):
        LayerNormPointTransformerV3(**SMALL)(points, mask)
    with pytest.raises(ValueError, match="no mask token"):
        PointTransformerV3(**SMALL)(points, mask)


def test_a_frozen_encoder_stays_in_evaluation_mode():
    network = LayerNormPointTransformerV3(**SMALL | {"drop_path": 0.5}, freeze_encoder=True).train()
    assert not any(parameter.requires_grad for parameter in network.enc.parameters())
    assert not any(module.training for module in network.enc.modules()) and network.dec.training
    network(make_points(cloud(100, 1))).feat.sum().backward()
    assert all(parameter.grad is not None for parameter in network.dec.parameters())


def test_attention_kernels_and_precisions_agree():
    points = make_points(cloud(200, 1), cloud(9, 2))
    results = []
    for options in ({}, {"enable_flash": False}, {"upcast_attention": True}):
        torch.manual_seed(0)
        results.append(run(PointTransformerV3(**SMALL, **options).eval(), points))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(results[2], results[0])


@pytest.mark.parametrize("upcast", [False, True])
def test_mixed_precision_is_close_to_full(upcast):
    torch.manual_seed(0)
    network = PointTransformerV3(**SMALL, upcast_attention=upcast).eval()
    points = make_points(cloud(200, 1))
    full = run(network, points)
    with torch.autocast("cpu", torch.bfloat16):
        half = run(network, points).float()
    assert (half - full).norm() / full.norm() < 0.05


@pytest.mark.parametrize("name", ["ptv3_tiny", "ptv3_small", "ptv3_base", "ptv3_large"])
def test_presets_have_heads_of_at_least_32_channels(name):
    with torch.device("meta"):
        network = create_model(name, in_channels=9, drop_path=0.2)
    heads = [m.qkv.in_features // m.num_heads for m in network.modules() if hasattr(m, "qkv")]
    assert min(heads) >= 32 and network.in_channels == 9
    assert max(m.probability for m in network.modules() if isinstance(m, DropPath)) == pytest.approx(0.2)
    with pytest.raises(ValueError, match=r"parameters of ptv3_\w+: got 'drop_paths'\. Did you mean 'drop_path'"):
        create_model(name, drop_paths=0.2)


def test_messages_about_points():
    network = PointTransformerV3(**SMALL).eval()
    points = make_points(cloud(9, 1), cloud(5, 2))
    with pytest.raises(ValueError, match=r"PointTransformerV3 was built for 4 input.*got feat of shape \(14, 3\)"):
        network(points.replace(feat=points.feat[:, :3]))
    feat = points.feat.clone()
    feat[11, 2] = float("nan")
    feat[12, 0] = float("inf")
    with pytest.raises(ValueError, match=r"2 of 14 points.*columns \[0, 2\].*clouds \[1\].*first one at row 11"):
        network(points.replace(feat=feat))
    with pytest.raises(ValueError, match="at least two voxels at every resolution in training: got 1"):
        network.train()(make_points(cloud(1, 1)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": ("z", "hilber")}, r"order must name curves.*got 'hilber'\. Did you mean 'hilbert'"),
        ({"order": ()}, "at least one curve"),
        ({"stride": (2, 3)}, r"powers of two: got \(2, 3\)"),
        ({"enc_depths": (1, 1)}, r"enc_depths must have one entry for each of the 3 stages: got \(1, 1\)"),
        ({"dec_num_head": (1, 1, 1)}, r"dec_num_head must have one entry for each of the 2 stages"),
        ({"enc_num_head": (3, 3, 4)}, "got 8 channels for 3 heads"),
        ({"drop_path": 1.0}, "probability below 1: got 1.0"),
        ({"hyper_column_levels": 1}, "be 0 with a decoder: got 1"),
        ({"enc_mode": True, "hyper_column_levels": 3}, "between 0 and 2"),
    ],
)
def test_messages_about_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        PointTransformerV3(**SMALL | arguments)


def test_strides_of_layer_norm_networks_need_not_be_powers_of_two():
    network = LayerNormPointTransformerV3(**SMALL | {"stride": (3, 2)}).eval()
    assert run(network, make_points(cloud(100, 1))).shape == (100, 8)
    with pytest.raises(ValueError, match="must be positive: got"):
        LayerNormPointTransformerV3(**SMALL | {"stride": (0, 2)})
