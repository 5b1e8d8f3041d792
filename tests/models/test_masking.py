import pytest
import torch

from pointcept.models.encoders import BlockMask, PointVolumeEncoder
from pointcept.rendering import WeightRamp
from pointcept.structures import PointBatch, SceneBatch


def grid_cloud(size: int, scenes: int = 1) -> PointBatch:
    axis = torch.arange(size)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3).repeat(scenes, 1)
    return PointBatch(
        coord=grid.float(), grid_coord=grid, feat=torch.ones(len(grid), 2), offset=torch.arange(1, scenes + 1) * size**3
    )


def test_whole_blocks_are_hidden_in_the_wanted_share():
    points, mask = grid_cloud(32), BlockMask(in_channels=2, ratio=0.7, block_size=4)
    masked = mask(points, torch.tensor([3])).feat.detach()
    hidden = (masked != 1).all(dim=-1)
    assert torch.equal(masked[hidden], mask.token.detach().expand(int(hidden.sum()), 2))
    blocks = hidden.reshape(8, 4, 8, 4, 8, 4).permute(0, 2, 4, 1, 3, 5).reshape(512, 64)
    assert torch.equal(blocks.any(dim=1), blocks.all(dim=1))
    assert abs(blocks[:, 0].float().mean() - 0.7) < 5 * (0.21 / 512) ** 0.5


def test_a_cloud_is_masked_the_same_alone_and_in_a_batch():
    mask = BlockMask(in_channels=2, ratio=0.5, block_size=2)
    together = mask(grid_cloud(8, scenes=2), torch.tensor([1, 2])).feat
    alone = mask(grid_cloud(8), torch.tensor([2])).feat
    assert torch.equal(together[512:], alone)
    assert not torch.equal(together[:512], alone)


def test_hiding_everything_is_refused():
    with pytest.raises(ValueError, match="ratio must be at least 0 and below 1"):
        BlockMask(2, ratio=1.0)
    with pytest.raises(ValueError, match="block_size must be at least 1"):
        BlockMask(2, block_size=0)


def test_hidden_points_are_removed_with_all_their_data_and_the_rest_is_untouched():
    mask = BlockMask(in_channels=2, ratio=0.6, block_size=4, mode="points")
    points = grid_cloud(16, scenes=2).replace(segment=torch.arange(2 * 16**3))
    seed = torch.tensor([1, 2])
    hidden = mask.hidden(points, seed) < 0.6
    left = mask(points, seed)
    assert 0 < hidden.sum() < points.num_points and list(mask.parameters()) == []
    assert torch.equal(left.segment, points.segment[~hidden]), "the labels are the original rows"
    assert torch.equal(left.coord, points.coord[~hidden]) and torch.equal(left.grid_coord, points.grid_coord[~hidden])
    assert left.counts.tolist() == [int((~hidden[:4096]).sum()), int((~hidden[4096:]).sum())]


def test_one_block_of_every_scene_always_stays():
    mask = BlockMask(in_channels=2, ratio=0.999, block_size=2, mode="points")
    left = mask(grid_cloud(4, scenes=3), torch.tensor([1, 2, 3]))
    assert left.counts.tolist() == [8, 8, 8]
    single = BlockMask(in_channels=2, ratio=0.999, block_size=8, mode="points")(grid_cloud(4), torch.tensor([1]))
    assert single.num_points == 64, "a scene of one block is not removed"


def test_the_ratio_follows_the_progress():
    mask = BlockMask(in_channels=2, ratio=WeightRamp(0.2, 0.8), block_size=4)
    points, seed = grid_cloud(32), torch.tensor([3])
    with pytest.raises(ValueError, match="must be told the progress"):
        mask(points, seed)
    number = mask.hidden(points, seed)
    for progress, ratio in ((0.0, 0.2), (0.5, 0.5), (1.0, 0.8)):
        mask.set_progress(progress)
        hidden = (mask(points, seed).feat != 1).all(dim=-1)
        assert torch.equal(hidden, number < ratio) and abs(hidden.float().mean() - ratio) < 0.1
    with pytest.raises(ValueError, match=r"below 1, so that something stays visible: got 1\.0"):
        BlockMask(2, ratio=WeightRamp(0.2, 1.0))


def test_the_encoder_hands_the_progress_to_its_mask():
    mask = BlockMask(in_channels=2, ratio=WeightRamp(0.0, 0.5))
    PointVolumeEncoder(torch.nn.Identity(), None, mask=mask).set_progress(0.5)
    assert mask.ratio_now() == 0.25
    PointVolumeEncoder(torch.nn.Identity(), None).set_progress(0.5)


class ConstantBackbone(torch.nn.Module):
    """Gives every point the feature 1."""

    def forward(self, points: PointBatch) -> PointBatch:
        return points.replace(feat=torch.ones(points.num_points, 1))


def test_removed_points_leave_the_box_as_it_is_and_their_voxels_empty():
    mask = BlockMask(in_channels=2, ratio=0.6, block_size=4, mode="points")
    encoder = PointVolumeEncoder(ConstantBackbone(), None, grid_shape=(16, 16, 16), padding_m=0.5, mask=mask)
    points = grid_cloud(16)  # one point in the middle of every voxel
    batch = SceneBatch(seed=torch.tensor([1]), name=("cloud",), points=points)
    masked, whole = encoder(batch), encoder.eval()(batch)
    assert torch.equal(masked.box, whole.box) and bool(whole.occupied.all())
    kept = (mask.hidden(points, batch.seed) >= 0.6).view(16, 16, 16).permute(2, 1, 0)  # x y z -> z y x
    assert torch.equal(masked.occupied[0], kept) and torch.equal(masked.features[0, 0], kept.float())
