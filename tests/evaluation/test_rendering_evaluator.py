import logging
import math

import pytest
import torch

from pointcept.evaluation import RenderingEvaluator
from pointcept.registry import EVALUATORS
from pointcept.structures import CameraBatch, SceneBatch


def make_batch(sizes: list, seed: int = 0, names: tuple[str, ...] | None = None) -> SceneBatch:
    """Scenes with random views of the given sizes, padded to the largest, padding filled with zeros."""
    size_px = torch.tensor(sizes)
    scenes, views = size_px.shape[:2]
    height, width = size_px.amax(dim=(0, 1)).tolist()
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(scenes, views, 3, height, width, generator=generator)
    depth = 1 + 3 * torch.rand(scenes, views, height, width, generator=generator)
    for scene in range(scenes):
        for view in range(views):
            h, w = sizes[scene][view]
            for array in (image[scene, view], depth[scene, view]):
                array[..., h:, :] = 0
                array[..., :, w:] = 0
    cameras = CameraBatch(
        image=image,
        depth=depth,
        intrinsic=torch.eye(3).expand(scenes, views, 3, 3).clone(),
        extrinsic=torch.eye(4).expand(scenes, views, 4, 4).clone(),
        size_px=size_px,
    )
    return SceneBatch(torch.zeros(scenes, dtype=torch.int64), names or ("room",) * scenes, cameras=cameras)


def perfect(batch: SceneBatch) -> dict[str, torch.Tensor]:
    return {"color": batch.cameras.image.clone(), "depth": batch.cameras.depth.clone()}


def noisy(batch: SceneBatch, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {key: value + 0.1 * torch.rand(value.shape, generator=generator) for key, value in perfect(batch).items()}


def evaluate(*pairs) -> dict[str, float]:
    evaluator = RenderingEvaluator()
    for output, batch in pairs:
        evaluator.update(output, batch)
    return evaluator.compute()


def test_it_is_registered_and_names_a_figure_it_returns():
    evaluator = EVALUATORS.get("RenderingEvaluator")()
    batch = make_batch([[(12, 12)]])
    evaluator.update(perfect(batch), batch)
    assert evaluator.higher_is_better is True
    assert list(evaluator.compute()) == ["psnr", "psnr_trivial", "ssim", "abs_rel", "abs_rel_trivial", "rmse", "delta1"]
    assert evaluator.main_metric in evaluator.compute()


def test_perfect_prediction():
    batch = make_batch([[(12, 14), (16, 11)]])
    figures = evaluate((perfect(batch), batch))
    assert figures["psnr"] == pytest.approx(100.0)
    assert figures["ssim"] == pytest.approx(1.0)
    assert (figures["abs_rel"], figures["rmse"], figures["delta1"]) == (0.0, 0.0, 1.0)


def test_figures_by_hand():
    batch = make_batch([[(12, 12)]])
    image, depth = batch.cameras.image, batch.cameras.depth
    image[:], depth[:] = 0.5, 2.0
    image[..., :6, :], depth[..., :6, :] = 0.1, 1.0
    output = {"color": image + 0.1, "depth": torch.full_like(depth, 1.2)}
    figures = evaluate((output, batch))
    assert figures["psnr"] == pytest.approx(20.0, abs=1e-4)  # mse 0.01
    # mean colour 0.3, off by 0.2 everywhere: mse 0.04 -> 13.9794 dB
    assert figures["psnr_trivial"] == pytest.approx(13.9794, abs=1e-3)
    assert figures["abs_rel"] == pytest.approx((0.2 + 0.4) / 2)  # 0.2 / 1 and 0.8 / 2
    assert figures["abs_rel_trivial"] == pytest.approx((0.5 + 0.25) / 2)  # mean depth 1.5
    assert figures["rmse"] == pytest.approx(math.sqrt((0.04 + 0.64) / 2))
    assert figures["delta1"] == pytest.approx(0.5)


def test_the_trivial_predictor_scores_its_own_figures():
    batch = make_batch([[(12, 12), (12, 12)]])
    image, depth = batch.cameras.image, batch.cameras.depth
    output = {
        "color": image.mean(dim=(3, 4), keepdim=True).expand_as(image),
        "depth": depth.mean(dim=(2, 3), keepdim=True).expand_as(depth),
    }
    figures = evaluate((output, batch))
    assert figures["psnr"] == pytest.approx(figures["psnr_trivial"])
    assert figures["abs_rel"] == pytest.approx(figures["abs_rel_trivial"])


def test_padding_absent_views_and_batch_mates_do_not_count():
    small, large = make_batch([[(12, 13)]], seed=3), make_batch([[(20, 17)]], seed=4)
    separate = evaluate((noisy(small), small), (noisy(large), large))

    both = make_batch([[(12, 13), (0, 0)], [(20, 17), (0, 0)]])
    output = {"color": torch.full((2, 2, 3, 20, 17), math.nan), "depth": torch.full((2, 2, 20, 17), math.nan)}
    for scene, batch in enumerate((small, large)):
        height, width = batch.cameras.size_px[0, 0].tolist()
        both.cameras.image[scene, 0, :, :height, :width] = batch.cameras.image[0, 0]
        both.cameras.depth[scene, 0, :height, :width] = batch.cameras.depth[0, 0]
        for key, value in noisy(batch).items():
            output[key][scene, 0, ..., :height, :width] = value[0, 0]
    assert evaluate((output, both)) == pytest.approx(separate)


def test_every_view_weighs_the_same():
    small, large = make_batch([[(11, 11)]], seed=3), make_batch([[(40, 40)]], seed=4)
    figures = [evaluate((noisy(batch), batch)) for batch in (small, large)]
    together = evaluate((noisy(small), small), (noisy(large), large))
    assert together == pytest.approx({key: (figures[0][key] + figures[1][key]) / 2 for key in together})


def test_a_view_without_depth_contributes_to_colour_only():
    batch, blind = make_batch([[(12, 12)]], seed=5), make_batch([[(12, 12)]], seed=6)
    blind.cameras.depth[:] = 0
    alone, together = evaluate((noisy(batch), batch)), evaluate((noisy(batch), batch), (noisy(blind, seed=9), blind))
    for key in ("abs_rel", "abs_rel_trivial", "rmse", "delta1"):
        assert together[key] == pytest.approx(alone[key])
    assert together["psnr"] != pytest.approx(alone["psnr"])


def test_without_any_depth_its_figures_are_left_out_with_a_warning(caplog):
    batch = make_batch([[(12, 12)]])
    batch.cameras.depth[:] = 0
    with caplog.at_level(logging.WARNING, logger="pointcept"):
        figures = evaluate((perfect(batch), batch))
    assert set(figures) == {"psnr", "psnr_trivial", "ssim"}
    assert "none of the 1 views has measured depth" in caplog.text


def test_views_below_the_window_have_no_ssim(caplog):
    batch = make_batch([[(12, 12), (8, 12)]], seed=7)
    one = make_batch([[(12, 12)]], seed=7)
    one.cameras.image[:] = batch.cameras.image[:, :1]
    output = noisy(batch)
    figures = evaluate((output, batch))
    expected = evaluate(({key: value[:, :1] for key, value in output.items()}, one))
    assert figures["ssim"] == pytest.approx(expected["ssim"])

    tiny = make_batch([[(8, 8)]])
    with caplog.at_level(logging.WARNING, logger="pointcept"):
        assert "ssim" not in evaluate((perfect(tiny), tiny))
    assert "all 1 views are smaller than 11 pixels" in caplog.text


def test_reset_forgets():
    first, second = make_batch([[(12, 12)]], seed=1), make_batch([[(12, 12)]], seed=2)
    evaluator = RenderingEvaluator()
    evaluator.update(noisy(first), first)
    evaluator.reset()
    evaluator.update(noisy(second), second)
    assert evaluator.compute() == evaluate((noisy(second), second))


def test_processes_are_averaged_by_their_number_of_views(monkeypatch):
    first, second = make_batch([[(12, 12)]], seed=1), make_batch([[(12, 12), (14, 11)]], seed=2)
    evaluators = [RenderingEvaluator(), RenderingEvaluator(), RenderingEvaluator()]
    evaluators[0].update(noisy(first), first)
    evaluators[1].update(noisy(second), second)  # and the third process has no views

    sent = []
    any_sums = "pointcept.evaluation.rendering.all_reduce_sum", lambda total: sent.append(total) or total + 1
    monkeypatch.setattr(*any_sums)
    for evaluator in evaluators:
        evaluator.compute()
    monkeypatch.setattr("pointcept.evaluation.rendering.all_reduce_sum", lambda total: sum(sent))
    figures = [evaluator.compute() for evaluator in evaluators]
    monkeypatch.undo()
    together = evaluate((noisy(first), first), (noisy(second), second))
    assert figures == [pytest.approx(together)] * 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_figures_on_cuda_are_those_of_the_cpu():
    batch = make_batch([[(12, 13), (20, 17)]])
    output = {key: value.cuda() for key, value in noisy(batch).items()}
    assert evaluate((output, batch.to("cuda"))) == pytest.approx(evaluate((noisy(batch), batch)), rel=1e-5)


def test_half_precision_predictions_are_accepted():
    batch = make_batch([[(12, 12)]])
    output = {key: value.bfloat16().requires_grad_() for key, value in noisy(batch).items()}
    assert evaluate((output, batch))["psnr"] == pytest.approx(evaluate((noisy(batch), batch))["psnr"], rel=0.01)


def test_no_view_at_all_is_an_error():
    with pytest.raises(ValueError, match="At least one view must be evaluated: got none"):
        RenderingEvaluator().compute()
    batch = make_batch([[(0, 0)]])
    with pytest.raises(ValueError, match="At least one view must be evaluated"):
        evaluate((perfect(batch), batch))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda output: output.pop("depth"), r"must have 'depth' .*got \['color'\]"),
        (lambda output: output.update(color=output["color"][..., 1:]), r"\(1, 1, 3, 12, 12\): got \(1, 1, 3, 12, 11\)"),
        (lambda output: output["color"][0, 0, 1, 2, 3].fill_(math.nan), r"'color' must be finite.*\{'attic': 1\}"),
        (lambda output: output["depth"][0, 0, 2, 3:5].fill_(math.inf), r"'depth' must be finite.*\{'attic': 2\}"),
    ],
)
def test_unusable_outputs_are_named(change, message):
    batch = make_batch([[(12, 12)]], names=("attic",))
    output = perfect(batch)
    change(output)
    with pytest.raises(ValueError, match=message):
        evaluate((output, batch))


def test_a_batch_without_cameras_is_an_error():
    batch = SceneBatch(torch.zeros(1, dtype=torch.int64), ("room",))
    with pytest.raises(ValueError, match="the batch has no cameras"):
        RenderingEvaluator().update({}, batch)
