"""The evaluator of rendered views: colour and depth figures, each beside a trivial predictor's."""

import logging

import torch
from torch import Tensor

from pointcept.evaluation.image_metrics import (
    SSIM_WINDOW_PX,
    depth_errors,
    inside_view,
    mean_color,
    mean_depth,
    psnr,
    ssim,
)
from pointcept.registry import EVALUATORS
from pointcept.structures import CameraBatch, SceneBatch
from pointcept.utils.distributed import all_reduce_sum

logger = logging.getLogger("pointcept")

COLOR_FIGURES = ("psnr", "psnr_trivial")
DEPTH_FIGURES = ("abs_rel", "abs_rel_trivial", "rmse", "delta1")


@EVALUATORS.register()
class RenderingEvaluator:
    """Compares rendered views with the real ones, view by view, and averages over the views of the whole data set.

    Every view has the same weight whatever its size, and padding counts nowhere. Views without any measured depth
    contribute to colour only, and views under 11 x 11 pixels do not contribute to SSIM.

    The trivial predictors answer with one constant per view: the mean colour and the mean depth of the *target* view.
    They have seen the very view that they are scored on, which makes them a strong baseline: no constant has a higher
    PSNR than theirs.
    """

    main_metric = "psnr"
    higher_is_better = True

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget every view."""
        self._total: Tensor | None = None

    def update(self, output: dict[str, Tensor], batch: SceneBatch) -> None:
        """Add the views of a batch.

        Args:
            output: ``color`` (B, V, 3, H, W), 0..1, and ``depth`` (B, V, H, W), z-depth in metres, padded like the
                cameras of the batch; other keys are not read.
            batch: The scenes with their real views.
        Raises:
            ValueError: the batch has no cameras, a key is missing, a shape differs from the cameras', or a prediction
                inside a view is not finite.
        """
        cameras = batch.cameras
        if cameras is None:
            raise ValueError("Rendered views can only be scored against real ones: the batch has no cameras.")
        color, depth = _checked(output, "color", cameras.image), _checked(output, "depth", cameras.depth)
        inside = inside_view(cameras.size_px, *cameras.depth.shape[-2:])
        _require_finite("color", torch.isfinite(color).all(dim=2) | ~inside, batch.name)
        _require_finite("depth", torch.isfinite(depth) | ~inside, batch.name)

        errors = depth_errors(depth, cameras.depth, inside)
        trivial = depth_errors(mean_depth(cameras.depth, inside), cameras.depth, inside)
        color_figures = (
            psnr(color, cameras.image, inside),
            psnr(mean_color(cameras.image, inside), cameras.image, inside),
        )
        depth_figures = (errors.abs_rel, trivial.abs_rel, errors.rmse, errors.delta1)
        exists, has_depth = inside.any(dim=(2, 3)), errors.num_pixels > 0
        total = torch.stack(
            [
                *(_masked_sum(figure, exists) for figure in color_figures),
                *(_masked_sum(figure, has_depth) for figure in depth_figures),
                exists.sum().double(),
                has_depth.sum().double(),
                *_ssim_sum(color, cameras).to(color.device),
            ]
        )
        self._total = total if self._total is None else self._total + total

    def compute(self) -> dict[str, float]:
        """The averages over all views of all processes.

        Returns:
            ``psnr`` and ``psnr_trivial`` (dB), ``ssim``, ``abs_rel`` and ``abs_rel_trivial``, ``rmse`` (metres) and
            ``delta1`` (fraction). The depth figures are left out, with a warning, when no view has measured depth, and
            ``ssim`` when every view is smaller than its window.

        Raises:
            ValueError: no view was evaluated.
        """
        num_sums = len(COLOR_FIGURES) + len(DEPTH_FIGURES) + 4
        total = torch.zeros(num_sums, dtype=torch.float64) if self._total is None else self._total
        # on the CPU, because a process that saw no view does not know the device of the others
        *sums, num_views, num_depth, ssim_sum, num_ssim = all_reduce_sum(total.cpu()).tolist()
        if num_views == 0:
            raise ValueError(
                "At least one view must be evaluated: got none. Check that the evaluation split holds scenes and that "
                "they have frames."
            )
        color_sums, depth_sums = sums[: len(COLOR_FIGURES)], sums[len(COLOR_FIGURES) :]
        figures = {name: value / num_views for name, value in zip(COLOR_FIGURES, color_sums, strict=True)}
        if num_ssim > 0:
            figures["ssim"] = ssim_sum / num_ssim
        else:
            logger.warning("No ssim: all %d views are smaller than %d pixels.", num_views, SSIM_WINDOW_PX)
        if num_depth > 0:
            figures |= {name: value / num_depth for name, value in zip(DEPTH_FIGURES, depth_sums, strict=True)}
        else:
            logger.warning("No depth figures: none of the %d views has measured depth.", num_views)
        return figures


def _checked(output: dict[str, Tensor], key: str, target: Tensor) -> Tensor:
    if key not in output:
        raise ValueError(
            f"The model's output must have {key!r} to be scored as a rendering: got {sorted(output)}. "
            "Evaluate a model that renders, or choose another evaluator."
        )
    if output[key].shape != target.shape:
        raise ValueError(
            f"Output {key!r} must have the shape of the cameras it was rendered for, {tuple(target.shape)}: got "
            f"{tuple(output[key].shape)}."
        )
    return output[key].detach().to(target.dtype)


def _require_finite(key: str, fine: Tensor, names: tuple[str, ...]) -> None:
    wrong = (~fine).sum(dim=(1, 2, 3)).tolist()
    if any(wrong):
        counts = {name: count for name, count in zip(names, wrong, strict=True) if count}
        raise ValueError(
            f"Rendered {key!r} must be finite: got nan or inf in this many pixels of these scenes: {counts}. "
            "Check that the weights are finite; a smaller learning rate or float32 often helps."
        )


def _masked_sum(figure: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, figure, 0.0).double().sum()


def _ssim_sum(color: Tensor, cameras: CameraBatch) -> Tensor:
    """Sum of SSIM over the views that are large enough, and their number."""
    pred, target = (image.permute(0, 1, 3, 4, 2).float().cpu().numpy() for image in (color, cameras.image))
    sizes = cameras.size_px.cpu().numpy()
    values = [
        ssim(pred[scene, view, :height, :width], target[scene, view, :height, :width])
        for scene, views in enumerate(sizes)
        for view, (height, width) in enumerate(views)
        if min(height, width) >= SSIM_WINDOW_PX
    ]
    return torch.tensor([sum(values), len(values)], dtype=torch.float64)
