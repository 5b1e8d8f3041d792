import torch

from pointcept.ops.voxel_pooling import fit_boxes, mean_pool
from pointcept.structures import PointBatch


def clouds(*coords: torch.Tensor) -> PointBatch:
    coord = torch.cat(coords)
    offset = torch.tensor([len(c) for c in coords]).cumsum(0)
    return PointBatch(coord=coord, grid_coord=torch.zeros(len(coord), 3).long(), feat=coord, offset=offset)


def test_box_has_cubic_voxels_and_holds_the_padded_cloud():
    cloud = torch.tensor([[0.0, 1.0, 0.5], [4.0, 2.0, 1.5]])
    box = fit_boxes(clouds(cloud), (10, 20, 5), padding_m=0.5)
    # Padded extents are 5, 2 and 2 m over 10, 20 and 5 voxels: x needs 0.5 m voxels, so the box is 5 x 10 x 2.5 m.
    torch.testing.assert_close(box[0], torch.tensor([[-0.5, -3.5, 0.0], [4.5, 6.5, 2.5]]))


def test_a_box_does_not_depend_on_batch_mates_and_empty_clouds_get_one():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(5, 3, generator=generator) * 7, torch.rand(4, 3, generator=generator)
    together = fit_boxes(clouds(first, second[:0], second, first[:0]), (4, 4, 4), padding_m=0.1)
    torch.testing.assert_close(together[0], fit_boxes(clouds(first), (4, 4, 4), padding_m=0.1)[0])
    torch.testing.assert_close(together[2], fit_boxes(clouds(second), (4, 4, 4), padding_m=0.1)[0])
    assert torch.isfinite(together).all() and (together[:, 1] > together[:, 0]).all()


def test_mean_pool_equals_a_loop_over_points():
    generator = torch.Generator().manual_seed(0)
    coord = torch.rand(60, 3, generator=generator, dtype=torch.float64) * 1.2 - 0.1
    feat = torch.randn(60, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    scene = torch.randint(2, (60,), generator=generator)
    box = torch.tensor([[[0, 0, 0], [1, 1, 1.0]], [[0, 0, 0], [0.5, 1, 0.8]]], dtype=torch.float64)
    shape = (3, 2, 4)
    expected = torch.zeros(2, 3, 4, 2, 3, dtype=torch.float64)
    count = torch.zeros(2, 1, 4, 2, 3, dtype=torch.float64)
    for point, value, owner in zip(coord, feat.detach(), scene):
        cell = [
            int(c) for c in torch.floor((point - box[owner, 0]) / (box[owner, 1] - box[owner, 0]) * torch.tensor(shape))
        ]
        if all(0 <= c < n for c, n in zip(cell, shape)):
            expected[owner, :, cell[2], cell[1], cell[0]] += value
            count[owner, 0, cell[2], cell[1], cell[0]] += 1
    volume = mean_pool(feat, coord, scene, box, shape)
    torch.testing.assert_close(volume.features.detach(), expected / count.clamp(min=1))
    assert volume.features.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.autograd.gradcheck(lambda f: mean_pool(f, coord, scene, box, shape).features, (feat,))
