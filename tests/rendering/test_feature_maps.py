import torch
import torch.nn.functional as F

from pointcept.rendering.feature_maps import read_feature_maps, resize_views


def test_every_view_is_resized_as_torch_resizes_it_without_its_padding():
    generator = torch.Generator().manual_seed(0)
    sizes = [(30, 40), (17, 23), (9, 40), (5, 6)]  # the last is enlarged, the others are reduced
    image = torch.rand(5, 3, 30, 40, generator=generator)
    size_px = torch.tensor([*sizes, (0, 0)])
    resized = resize_views(image, size_px, (7, 11))
    for index, (height, width) in enumerate(sizes):
        alone = image[index : index + 1, :, :height, :width]
        expected = F.interpolate(alone, (7, 11), mode="bilinear", antialias=True)
        torch.testing.assert_close(resized[index : index + 1], expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(resized[4], torch.zeros(3, 7, 11)), "an absent view has nothing to see"


def test_maps_are_read_as_grid_sample_reads_them():
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(2, 2, 5, 3, 4, generator=generator)
    size_px = torch.tensor([[[12, 20], [7, 9]], [[12, 20], [12, 20]]])
    pixel = torch.tensor([[[0, 19, 11], [1, 4, 3], [0, 7, 2]], [[1, 0, 0], [0, 13, 6], [1, 8, 9]]])
    found = read_feature_maps(maps, pixel, size_px)
    for scene in range(2):
        for ray in range(3):
            view, column, row = pixel[scene, ray].tolist()
            height, width = size_px[scene, view].tolist()
            at = torch.tensor([[[[2 * (column + 0.5) / width - 1, 2 * (row + 0.5) / height - 1]]]])
            expected = F.grid_sample(maps[scene, view][None], at, padding_mode="border", align_corners=False)
            torch.testing.assert_close(found[scene, ray], expected.flatten())


def test_the_middle_of_four_cells_is_their_mean_and_corners_are_the_corner_cells():
    maps = torch.tensor([[1.0, 3.0], [5.0, 11.0]]).view(1, 1, 1, 2, 2)
    pixel = torch.tensor([[[0, 1, 1], [0, 0, 0], [0, 2, 2], [-1, 1, 1]]])
    found = read_feature_maps(maps, pixel, torch.tensor([[[3, 3]]]))
    torch.testing.assert_close(found[0, :, 0], torch.tensor([5.0, 1.0, 11.0, 0.0]))
