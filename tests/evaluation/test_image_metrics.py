import math

import numpy as np
import pytest
import torch

from pointcept.evaluation.image_metrics import depth_errors, inside_view, mean_color, mean_depth, psnr, ssim


def everywhere(height: int, width: int) -> torch.Tensor:
    return torch.ones(1, 1, height, width, dtype=torch.bool)


def test_psnr_by_hand():
    target = torch.zeros(1, 1, 3, 2, 2)
    pred = torch.full_like(target, 0.1)  # mse 0.01 -> 20 dB
    assert psnr(pred, target, everywhere(2, 2)).item() == pytest.approx(20.0)
    pred[..., 1, :] = 0.3  # mse (0.01 + 0.09) / 2 = 0.05 -> 10 log10(20) = 13.0103 dB
    assert psnr(pred, target, everywhere(2, 2)).item() == pytest.approx(13.0103, abs=1e-4)


def test_psnr_of_an_exact_view_is_the_limit():
    image = torch.rand(1, 1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert psnr(image, image, everywhere(4, 4)).item() == pytest.approx(100.0)


def test_psnr_ignores_what_is_outside_the_mask_even_when_it_is_not_a_number():
    target = torch.zeros(1, 1, 3, 2, 2)
    pred = torch.full_like(target, 0.1)
    pred[..., 1, :] = math.nan
    mask = everywhere(2, 2)
    mask[..., 1, :] = False
    assert psnr(pred, target, mask).item() == pytest.approx(20.0)


def test_depth_errors_by_hand():
    target = torch.tensor([[[[1.0, 2.0], [4.0, 0.0]]]])
    pred = torch.tensor([[[[1.2, 3.0], [2.0, 9.0]]]])
    errors = depth_errors(pred, target, everywhere(2, 2))
    # the last pixel was not measured; the others have relative errors 0.2, 0.5, 0.5
    assert errors.abs_rel.item() == pytest.approx(0.4)
    assert errors.rmse.item() == pytest.approx(math.sqrt((0.04 + 1 + 4) / 3))
    assert errors.delta1.item() == pytest.approx(1 / 3)  # ratios 1.2, 1.5, 2
    assert errors.num_pixels.item() == 3


def test_delta_counts_both_directions_and_excludes_the_limit():
    target = torch.tensor([[[[1.0, 1.0, 5.0, 4.0, 1.0]]]])
    pred = torch.tensor([[[[1.25, 1.2, 4.0, 5.0, 0.0]]]])  # ratios 1.25, 1.2, 1.25, 1.25, infinite
    assert depth_errors(pred, target, everywhere(1, 5)).delta1.item() == pytest.approx(1 / 5)


def test_a_pixel_predicted_as_missing_counts_as_wrong():
    errors = depth_errors(torch.zeros(1, 1, 1, 2), torch.tensor([[[[2.0, 2.0]]]]), everywhere(1, 2))
    assert (errors.abs_rel.item(), errors.rmse.item(), errors.delta1.item()) == (1.0, 2.0, 0.0)


def test_metrics_equal_loops_over_pixels():
    rng = np.random.default_rng(0)
    sizes = torch.tensor([[[5, 4], [3, 6]], [[0, 0], [1, 1]]])
    target_color = torch.from_numpy(rng.random((2, 2, 3, 5, 6), dtype=np.float32))
    pred_color = torch.from_numpy(rng.random((2, 2, 3, 5, 6), dtype=np.float32))
    target_depth = torch.from_numpy(rng.uniform(-1, 4, (2, 2, 5, 6)).astype(np.float32)).clamp(min=0)
    pred_depth = torch.from_numpy(rng.uniform(0, 5, (2, 2, 5, 6)).astype(np.float32))
    mask = inside_view(sizes, 5, 6)
    psnr_db = psnr(pred_color, target_color, mask)
    errors = depth_errors(pred_depth, target_depth, mask)
    color_mean, depth_mean = mean_color(target_color, mask), mean_depth(target_depth, mask)
    for scene in range(2):
        for view in range(2):
            height, width = sizes[scene, view].tolist()
            squares, relative, difference, close, colors, depths = [], [], [], [], [], []
            for row in range(height):
                for column in range(width):
                    at = (scene, view, slice(None), row, column)
                    squares += ((pred_color[at] - target_color[at]) ** 2).tolist()
                    colors.append(target_color[at])
                    wanted, got = (float(d[scene, view, row, column]) for d in (target_depth, pred_depth))
                    if wanted > 0:
                        depths.append(wanted)
                        relative.append(abs(got - wanted) / wanted)
                        difference.append((got - wanted) ** 2)
                        close.append(got > 0 and max(got / wanted, wanted / got) < 1.25)
            assert int(errors.num_pixels[scene, view]) == len(depths)
            if squares:
                assert psnr_db[scene, view].item() == pytest.approx(-10 * math.log10(np.mean(squares)), rel=1e-5)
                expected = torch.stack(colors).mean(0)
                torch.testing.assert_close(color_mean[scene, view, :, 2, 3], expected)
            if depths:
                assert errors.abs_rel[scene, view].item() == pytest.approx(np.mean(relative), rel=1e-5)
                assert errors.rmse[scene, view].item() == pytest.approx(math.sqrt(np.mean(difference)), rel=1e-5)
                assert errors.delta1[scene, view].item() == pytest.approx(np.mean(close))
                assert depth_mean[scene, view, 4, 5].item() == pytest.approx(np.mean(depths), rel=1e-5)


def test_ssim_of_two_constants_by_hand():
    # without variance only the luminance term is left: (2 a b + c) / (a^2 + b^2 + c), c = 0.01^2
    # a = 0.2, b = 0.6: (0.24 + 0.0001) / (0.40 + 0.0001) = 0.600100
    value = ssim(np.full((16, 20, 3), 0.2, np.float32), np.full((16, 20, 3), 0.6, np.float32))
    assert value == pytest.approx(0.2401 / 0.4001, abs=1e-5)


def test_ssim_equals_the_formula_of_the_paper():
    rng = np.random.default_rng(1)
    pred, target = rng.random((12, 13, 3)), rng.random((12, 13, 3))
    offset = np.arange(-5, 6)
    gauss = np.exp(-(offset**2) / (2 * 1.5**2))
    window = np.outer(gauss, gauss) / gauss.sum() ** 2
    values = []
    for channel in range(3):
        for row in range(5, 12 - 5):
            for column in range(5, 13 - 5):
                a = pred[row - 5 : row + 6, column - 5 : column + 6, channel]
                b = target[row - 5 : row + 6, column - 5 : column + 6, channel]
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                var_a, var_b = (window * a * a).sum() - mean_a**2, (window * b * b).sum() - mean_b**2
                cov = (window * a * b).sum() - mean_a * mean_b
                values.append(
                    (2 * mean_a * mean_b + 1e-4)
                    * (2 * cov + 9e-4)
                    / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4))
                )
    assert ssim(pred, target) == pytest.approx(np.mean(values), rel=1e-6)


def test_ssim_refuses_a_view_below_the_window():
    with pytest.raises(ValueError, match=r"at least 11 x 11 pixels: got 10 x 30"):
        ssim(np.zeros((10, 30, 3), np.float32), np.zeros((10, 30, 3), np.float32))
