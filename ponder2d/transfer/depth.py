"""Monocular depth: the model, its loss and its evaluator."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pointcept.evaluation.image_metrics import depth_errors, mean_depth
from pointcept.registry import EVALUATORS, LOSSES, MODELS
from pointcept.structures import SceneBatch
from pointcept.utils.distributed import all_reduce_sum
from ponder2d.transfer.dense import DensePredictor, require_finite, task_views, view_pixels

_FIGURES = ("abs_rel", "rmse", "delta1", "delta2", "delta3")


@LOSSES.register()
class ScaleInvariantLogLoss(nn.Module):
    """sqrt(mean(d^2) - focus * mean(d)^2) with d = log(pred) - log(target), over the measured pixels of the batch.

    Eigen et al., Depth Map Prediction from a Single Image using a Multi-Scale Deep Network, 2014, eq. 4, in the form of
    Lee et al., From Big to Small, 2019, eq. 2. A batch without measured depth gives zero, with a zero gradient.

    Args:
        focus: 0 gives the root mean squared logarithmic error, 1 leaves the scale of the batch free.
        loss_weight: Factor of the term.

    Raises:
        ValueError: ``focus`` lies outside 0..1.
    """

    name = "depth_loss"

    def __init__(self, focus: float = 0.85, loss_weight: float = 1.0) -> None:
        super().__init__()
        if not 0 <= focus <= 1:
            raise ValueError(f"focus must lie in 0..1: got {focus}.")
        self.focus = focus
        self.loss_weight = loss_weight

    def forward(
        self, pred: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]
    ) -> Float[Tensor, ""]:
        """The weighted loss; both depths in metres, positive where the mask is set."""
        difference = torch.where(mask, pred, 1.0).float().log() - torch.where(mask, target, 1.0).float().log()
        count = mask.sum().clamp(min=1)
        square, mean = difference.square().sum() / count, difference.sum() / count
        value = (square - self.focus * mean.square()).clamp(min=1e-8).sqrt()  # at 0 the root has no gradient
        return self.loss_weight * torch.where(mask.any(), value, 0.0 * difference.sum())


@MODELS.register()
class DepthEstimator(DensePredictor):
    """Predicts the z-depth of every pixel from one image: ``near_m * (far_m / near_m) ** sigmoid(head)``.

    One image tells metric depth only up to the camera's focal length; train and evaluate with similar cameras.

    Args:
        backbone: Maps images to feature maps.
        neck: Joins the maps to one.
        criterion: Compares predicted and measured depth.
        near_m: Smallest depth, metres.
        far_m: Largest depth, metres. Measured depth outside is neither learned nor, in training, looked at.
        freeze_backbone: See :class:`DensePredictor`.

    Raises:
        ValueError: the range is empty.
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        criterion: ScaleInvariantLogLoss | None = None,
        near_m: float = 0.2,
        far_m: float = 10.0,
        freeze_backbone: bool = False,
    ) -> None:
        if not 0 < near_m < far_m:
            raise ValueError(f"near_m and far_m must be 0 < near_m < far_m: got {near_m} and {far_m}.")
        super().__init__(backbone, neck, 1, freeze_backbone)
        self.criterion = criterion or ScaleInvariantLogLoss()
        self.near_m, self.far_m = near_m, far_m

    def forward(self, batch: SceneBatch) -> dict[str, Tensor]:
        """The loss in training; ``depth`` (B, V, H, W), metres, in evaluation.

        Raises:
            ValueError: the batch has no views.
        """
        cameras = task_views(batch)
        depth = self.near_m * (self.far_m / self.near_m) ** self.predict(cameras)[:, :, 0].sigmoid()
        if not self.training:
            return {"depth": depth}
        measured = (cameras.depth >= self.near_m) & (cameras.depth <= self.far_m)
        return {self.criterion.name: self.criterion(depth, cameras.depth, measured)}


@EVALUATORS.register()
class DepthEvaluator:
    """``abs_rel, rmse, delta1, delta2, delta3`` of predicted depth: the mean over views of each view's figure.

    ``abs_rel_scaled`` is that of the prediction times the ratio of the view's median depths, measured to predicted: the
    error of the shape without that of the size, which one image hardly tells (Zhou et al., Unsupervised Learning of
    Depth and Ego-Motion from Video, 2017, section 4.1). ``abs_rel_trivial`` is that of the view's own mean depth, which
    is a strong baseline: it has seen the answer. Views without measured depth do not count. Definitions:
    ``pointcept.evaluation.depth_errors``.
    """

    main_metric = "abs_rel"
    higher_is_better = False

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget every view."""
        self._total = torch.zeros(len(_FIGURES) + 3, dtype=torch.float64)

    def update(self, output: dict[str, Tensor], batch: SceneBatch) -> None:
        """Add the views of a batch.

        Args:
            output: ``depth`` (B, V, H, W), z-depth, metres.
            batch: The scenes with their measured depth.

        Raises:
            ValueError: there is no prediction, or it is of another size or not finite.
        """
        cameras = task_views(batch)
        depth = output.get("depth")
        if depth is None or depth.shape != cameras.depth.shape:
            raise ValueError(
                f"The model's output must have 'depth' {tuple(cameras.depth.shape)} to be scored: got "
                f"{ {key: tuple(value.shape) for key, value in output.items()} }. Evaluate a DepthEstimator."
            )
        inside = view_pixels(cameras)
        require_finite("depth", depth, inside, batch.name)
        errors = depth_errors(depth.to(cameras.depth.dtype), cameras.depth, inside)
        trivial = depth_errors(mean_depth(cameras.depth, inside), cameras.depth, inside).abs_rel
        scaled = depth_errors(_median_scaled(depth, cameras.depth, inside), cameras.depth, inside).abs_rel
        counts = errors.num_pixels > 0
        figures = [*(getattr(errors, name) for name in _FIGURES), scaled, trivial, torch.ones_like(trivial)]
        self._total += torch.stack([(figure * counts).double().sum() for figure in figures]).cpu()

    def compute(self) -> dict[str, float]:
        """The figures over all processes; ``rmse`` is in metres.

        Raises:
            ValueError: no view with measured depth was evaluated.
        """
        *sums, count = all_reduce_sum(self._total).tolist()
        if count == 0:
            raise ValueError(
                "At least one view with measured depth must be evaluated: got none. Check the split, and depth_scale "
                "and max_depth_m of the data set."
            )
        names = (*_FIGURES, "abs_rel_scaled", "abs_rel_trivial")
        return {name: value / count for name, value in zip(names, sums, strict=True)}


def _median_scaled(
    pred: Float[Tensor, "B V H W"], target: Float[Tensor, "B V H W"], inside: Bool[Tensor, "B V H W"]
) -> Float[Tensor, "B V H W"]:
    """The prediction with the median of each view's measured depth, over its measured pixels."""
    measured = inside & (target > 0)

    def median(depth: Tensor) -> Tensor:
        return torch.where(measured, depth.to(target.dtype), torch.nan).flatten(2).nanmedian(dim=2).values

    ratio = median(target) / median(pred).clamp(min=1e-6)
    return pred.to(target.dtype) * torch.nan_to_num(ratio, nan=1.0)[..., None, None]
