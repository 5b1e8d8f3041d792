"""Properties of the sparse U-Net."""

import pytest
import torch

from pointcept.models.backbones import SparseUNet
from pointcept.structures import PointBatch

SMALL = {"base_channels": 8, "channels": (8, 12, 16, 16, 12, 10), "layers": (1, 2, 1, 1, 1, 1)}  # coarsest stride: 8


def make_points(*clouds: torch.Tensor, seed: int = 0) -> PointBatch:
    """Clouds of given voxels with features that depend on the place alone."""
    grid_coord = torch.cat(clouds)
    phase = torch.arange(1.0, 13.0, dtype=torch.float64).view(3, 4) + seed
    feat = torch.sin(grid_coord.double() @ phase).float()
    return PointBatch(
        coord=grid_coord * 0.02,
        grid_coord=grid_coord,
        feat=feat,
        offset=torch.tensor([len(cloud) for cloud in clouds], dtype=torch.long).cumsum(0),
    )


def cloud(count: int, seed: int, extent: int = 24) -> torch.Tensor:
    """Distinct voxels of a few planes, in random order."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.cartesian_prod(torch.arange(extent), torch.arange(extent), torch.tensor([0, 1, 9]))
    return cells[torch.randperm(len(cells), generator=generator)[:count]]


@pytest.fixture
def network() -> SparseUNet:
    """A small network whose batch norms know the statistics of a cloud."""
    torch.manual_seed(0)
    network = SparseUNet(4, num_classes=5, **SMALL)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.momentum = 1.0
    with torch.no_grad():
        network(make_points(cloud(600, 0)))
    return network.eval()


@torch.no_grad()
def run(network: SparseUNet, points: PointBatch) -> torch.Tensor:
    return network(points).feat


@pytest.mark.parametrize(
    ("in_channels", "num_classes", "expected"),
    [(6, 20, 39_157_844), (3, 20, 39_145_844), (6, 0, 39_155_904), (4, 16, 39_149_456)],
)
def test_number_of_parameters(in_channels, num_classes, expected):
    with torch.device("meta"):
        network = SparseUNet(in_channels, num_classes)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected
    assert network.out_channels == (num_classes or 96)


def test_a_cloud_gives_the_same_alone_and_in_a_batch(network):
    clouds = [cloud(300, 1), cloud(1, 2), cloud(0, 3), cloud(200, 4), cloud(0, 5)]
    together = run(network, make_points(*clouds))
    alone = torch.cat([run(network, make_points(c)) for c in clouds])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5 * alone.abs().max().item())


def test_permuted_points_give_permuted_results(network):
    voxels = cloud(300, 1)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(run(network, make_points(voxels[order])), run(network, make_points(voxels))[order])


def test_points_of_one_voxel_count_as_their_mean(network):
    voxels = cloud(200, 1)
    points = make_points(voxels)
    spread = torch.zeros_like(points.feat)
    spread[0] = 3.0
    doubled = PointBatch(
        coord=points.coord.repeat(2, 1),
        grid_coord=voxels.repeat(2, 1),
        feat=torch.cat([points.feat + spread, points.feat - spread]),
        offset=torch.tensor([400]),
    )
    once = run(network, points)
    torch.testing.assert_close(run(network, doubled), once.repeat(2, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shift", [(8, -16, 800), (50_000_000, -50_000_000, 50_000_000)])
def test_a_shift_by_whole_coarse_voxels_changes_nothing(network, shift):
    points = make_points(cloud(200, 1))
    moved = points.replace(grid_coord=points.grid_coord + torch.tensor(shift))
    torch.testing.assert_close(run(network, moved), run(network, points))


def test_order_and_other_data_of_the_points_are_kept(network):
    points = make_points(cloud(50, 1), cloud(20, 2)).replace(segment=torch.arange(70), condition=("a", "b"))
    result = network(points)
    assert result.feat.shape == (70, 5)
    for name in ("coord", "grid_coord", "segment", "offset", "condition"):
        assert getattr(result, name) is getattr(points, name)


def test_every_parameter_and_the_input_get_a_gradient(network):
    network.train()
    points = make_points(cloud(200, 1), cloud(100, 2))
    points = points.replace(feat=points.feat.requires_grad_())
    network(points).feat.square().sum().backward()
    for name, parameter in [*network.named_parameters(), ("input", points.feat)]:
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_training_with_a_cloud_of_one_point_beside_another_and_none(network):
    network.train()
    result = network(make_points(cloud(1, 1), cloud(0, 2), cloud(1, 3)))
    assert result.feat.shape == (2, 5) and result.feat.isfinite().all()


def test_evaluation_of_nothing(network):
    assert run(network, make_points(cloud(0, 1), cloud(0, 2))).shape == (0, 5)
    assert run(network, make_points(cloud(1, 1))).isfinite().all()


def test_a_new_head_starts_as_that_of_a_new_network_does():
    torch.manual_seed(0)
    network = SparseUNet(4, **SMALL)
    network.reset_head(400)
    new = SparseUNet(4, 400, **SMALL)
    assert network.final.weight.shape == new.final.weight.shape
    assert network.final.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert new.final.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not network.final.bias.any() and not new.final.bias.any()


def test_messages(network):
    with pytest.raises(ValueError, match=r"built for 4 input features.*got feat of shape \(9, 3\)"):
        points = make_points(cloud(9, 1))
        network(points.replace(feat=points.feat[:, :3]))
    network.train()
    for count in (0, 1):
        with pytest.raises(
            ValueError, match=f"at least two voxels at every resolution in training: got {count}. Use larger"
        ):
            network(make_points(cloud(count, 1)))
    for channels in ((8, 8, 8), ()):
        with pytest.raises(ValueError, match=r"as many down as up.*same even length"):
            SparseUNet(4, channels=channels, layers=channels)
    with pytest.raises(ValueError, match=r"channels=\(8, 8\) and layers=\(1, 1, 1, 1\)"):
        SparseUNet(4, channels=(8, 8), layers=(1, 1, 1, 1))
