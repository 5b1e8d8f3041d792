"""Sparse pooling by hand and against loops."""

import torch

from pointcept.ops.sparse import global_mean_pool, max_pool, mean_pool, voxelize


def test_pooling_sees_only_the_occupied_voxels_of_each_window():
    grid_coord = torch.tensor([[0, 0, 0], [1, 1, 1], [2, 0, 0], [0, 0, 1], [-1, 0, 0]])
    batch_index = torch.tensor([0, 0, 0, 1, 1])
    feat = torch.tensor([[-1.0, 4.0], [-3.0, 8.0], [5.0, 5.0], [7.0, 7.0], [-9.0, 9.0]])
    x, _ = voxelize(feat, grid_coord, batch_index, 3)
    for pool, expected in (
        (max_pool, {(0, 0, 0, 0): [-1.0, 8.0], (0, 1, 0, 0): [5.0, 5.0]}),
        (mean_pool, {(0, 0, 0, 0): [-2.0, 6.0], (0, 1, 0, 0): [5.0, 5.0]}),
    ):
        expected |= {(1, 0, 0, 0): [7.0, 7.0], (1, -1, 0, 0): [-9.0, 9.0]}
        pooled = pool(x)
        assert {tuple(c): f for c, f in zip(pooled.coord.tolist(), pooled.features.tolist())} == expected
    # Cloud 2 is empty.
    torch.testing.assert_close(global_mean_pool(x), torch.tensor([[1 / 3, 17 / 3], [-1.0, 8.0], [0.0, 0.0]]))


def test_overlapping_windows_agree_with_dense_pooling():
    generator = torch.Generator().manual_seed(0)
    cells = torch.cartesian_prod(*[torch.arange(6)] * 3)
    feat = torch.rand(len(cells), 2, generator=generator, dtype=torch.float64)
    x, _ = voxelize(feat, cells, torch.zeros(len(cells), dtype=torch.long), 1)
    volume = feat.view(1, 6, 6, 6, 2).permute(0, 4, 1, 2, 3)
    expected = torch.nn.functional.max_pool3d(volume, 3, 2)[0]
    pooled = max_pool(x, 3, 2)
    inside = ((pooled.coord[:, 1:] >= 0) & (pooled.coord[:, 1:] < 2)).all(1)
    _, i, j, k = pooled.coord[inside].unbind(1)
    torch.testing.assert_close(pooled.features[inside], expected[:, i, j, k].t())


def test_gradients_agree_with_finite_differences():
    generator = torch.Generator().manual_seed(0)
    cells = torch.cartesian_prod(*[torch.arange(3)] * 3)[torch.randperm(27, generator=generator)[:12]]
    feat = torch.randn(12, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    batch_index = torch.arange(12) % 2

    def run(pool):
        return lambda feat: pool(voxelize(feat, cells, batch_index, 2)[0]).features

    assert torch.autograd.gradcheck(run(max_pool), feat)
    assert torch.autograd.gradcheck(run(mean_pool), feat)
    assert torch.autograd.gradcheck(lambda feat: global_mean_pool(voxelize(feat, cells, batch_index, 2)[0]), feat)


def test_no_voxels():
    none = torch.zeros(0, dtype=torch.long)
    x, _ = voxelize(torch.zeros(0, 3), none.view(0, 3), none, 2)
    assert max_pool(x).features.shape == mean_pool(x).features.shape == (0, 3)
    assert global_mean_pool(x).tolist() == [[0.0] * 3] * 2
