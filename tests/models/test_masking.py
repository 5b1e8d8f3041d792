import pytest
import torch

from pointcept.models.encoders import BlockMask
from pointcept.structures import PointBatch


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
