"""Surface normals from one image: the targets, the model and its evaluator."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pointcept.registry import EVALUATORS, MODELS
from pointcept.structures import CameraBatch, SceneBatch
from pointcept.utils.distributed import all_reduce_sum
from ponder2d.transfer.dense import DensePredictor, require_finite, task_views, view_pixels

_LIMITS_DEG = (11.25, 22.5, 30.0)
_BINS_PER_DEGREE = 100
_LEAST_SPREAD = 0.1


@torch.no_grad()
def plane_normals(cameras: CameraBatch, radius: int = 2, max_step: float = 0.05) -> Float[Tensor, "B V 3 H W"]:
    """Normals of the planes that fit the measured depth around each pixel best; zero where there is no such plane.

    The inverse depth of a plane is linear in the pixel coordinates: n . x = -d gives 1 / z = -n . (K^-1 p) / d. It is
    fitted by least squares in a window, which averages the noise of depth sensors away; pixels across the edge of an
    object do not take part.

    Args:
        cameras: Views with measured depth.
        radius: The window has ``2 * radius + 1`` pixels a side.
        max_step: Neighbours whose depth differs by more than this share of the middle's do not count.

    Returns:
        Unit vectors towards the camera, camera frame (x right, y down, z forward).
    """
    with torch.autocast(cameras.depth.device.type, enabled=False):
        return _plane_normals(cameras, radius, max_step)


def _plane_normals(cameras: CameraBatch, radius: int, max_step: float) -> Float[Tensor, "B V 3 H W"]:
    depth = cameras.depth.flatten(0, 1)[:, None]
    count, _, height, width = depth.shape
    edge = 2 * radius + 1
    window = F.unfold(depth, edge, padding=radius).transpose(1, 2)  # (N, H W, edge^2)
    middle = depth.view(count, -1, 1)
    takes_part = (window > 0) & (middle > 0) & ((window - middle).abs() <= max_step * middle)
    weight = takes_part.to(depth.dtype)
    # relative to the middle, so that the equations are of one magnitude
    value = torch.where(takes_part, middle / window.clamp(min=1e-6), 0.0)
    steps = torch.arange(-radius, radius + 1, dtype=depth.dtype, device=depth.device)
    v, u = torch.meshgrid(steps, steps, indexing="ij")
    basis = torch.stack((u.flatten(), v.flatten(), torch.ones_like(u).flatten()), dim=-1)  # (edge^2, 3)
    products = (basis[:, :, None] * basis[:, None, :]).flatten(1)
    left = (weight @ products).unflatten(-1, (3, 3))
    right = value @ basis
    solution, told = _solve(left, right)
    # 1 / z = (a, b, c) . (u - u0, v - v0, 1) / z0, and the normal is -K^T (a, b, c') with c' at the image's origin
    row, column = torch.meshgrid(
        torch.arange(height, dtype=depth.dtype, device=depth.device),
        torch.arange(width, dtype=depth.dtype, device=depth.device),
        indexing="ij",
    )
    a, b, c = solution.unbind(-1)
    plane = torch.stack((a, b, c - a * column.flatten() - b * row.flatten()), dim=-1)
    normal = -plane @ cameras.intrinsic.flatten(0, 1)
    told = told & (takes_part.sum(dim=-1) >= 3) & torch.isfinite(normal).all(dim=-1)
    normal = torch.where(told[..., None], F.normalize(normal, dim=-1), 0.0)
    inside = view_pixels(cameras).flatten(0, 1)
    return (normal.transpose(1, 2).unflatten(-1, (height, width)) * inside[:, None]).unflatten(
        0, cameras.depth.shape[:2]
    )


def _solve(left: Float[Tensor, "... 3 3"], right: Float[Tensor, "... 3"]) -> tuple[Tensor, Bool[Tensor, "..."]]:
    """Solutions of small symmetric systems by cross products, and whether there is one: pixels on a line give none."""
    first, second, third = left.unbind(-2)
    cofactors = torch.stack((second.cross(third, dim=-1), third.cross(first, dim=-1), first.cross(second, dim=-1)), -1)
    determinant = (first * cofactors[..., 0]).sum(dim=-1)
    told = determinant > _LEAST_SPREAD
    solution = (cofactors @ right[..., None]).squeeze(-1) / torch.where(told, determinant, 1.0)[..., None]
    return solution, told


@MODELS.register()
class NormalEstimator(DensePredictor):
    """Predicts the unit normal of the surface at every pixel, camera frame.

    The loss is the mean of 1 - cos(angle) over the pixels whose normal :func:`plane_normals` tells.

    Args:
        backbone: Maps images to feature maps.
        neck: Joins the maps to one.
        freeze_backbone: See :class:`DensePredictor`.
        radius: Of the windows in which the targets are fitted, pixels.
    """

    def __init__(self, backbone: nn.Module, neck: nn.Module, freeze_backbone: bool = False, radius: int = 2) -> None:
        if radius < 1:
            raise ValueError(f"radius must be at least 1: got {radius}.")
        super().__init__(backbone, neck, 3, freeze_backbone)
        self.radius = radius

    def forward(self, batch: SceneBatch) -> dict[str, Tensor]:
        """The loss in training; ``normal`` (B, V, 3, H, W) in evaluation.

        Raises:
            ValueError: the batch has no views.
        """
        cameras = task_views(batch)
        normal = F.normalize(self.predict(cameras).float(), dim=2)
        if not self.training:
            return {"normal": normal}
        target = plane_normals(cameras, self.radius)
        told = (target != 0).any(dim=2)
        away = torch.where(told, 1 - (normal * target).sum(dim=2), 0.0)
        return {"normal_loss": away.sum() / told.sum().clamp(min=1)}


@EVALUATORS.register()
class NormalEvaluator:
    """Angles between predicted and measured normals over all pixels of all views together.

    Mean and median angle, and the fractions of pixels below 11.25, 22.5 and 30 degrees (Fouhey et al., Data-Driven 3D
    Primitives for Single Image Understanding, 2013). ``mean_trivial`` is the mean angle of a prediction that faces the
    camera everywhere. The median is exact to a hundredth of a degree.

    Args:
        radius: Of the windows in which the targets are fitted, pixels.
    """

    main_metric = "mean"
    higher_is_better = False

    def __init__(self, radius: int = 2) -> None:
        self.radius = radius
        self.reset()

    def reset(self) -> None:
        """Forget every pixel."""
        self._sums = torch.zeros(3 + len(_LIMITS_DEG), dtype=torch.float64)
        self._histogram = torch.zeros(180 * _BINS_PER_DEGREE, dtype=torch.int64)

    def update(self, output: dict[str, Tensor], batch: SceneBatch) -> None:
        """Add the pixels of a batch.

        Args:
            output: ``normal`` (B, V, 3, H, W), camera frame; of any length.
            batch: The scenes with their measured depth.

        Raises:
            ValueError: there is no prediction, or it is of another size or not finite.
        """
        cameras = task_views(batch)
        pred = output.get("normal")
        if pred is None or pred.shape != cameras.image.shape:
            raise ValueError(
                f"The model's output must have 'normal' {tuple(cameras.image.shape)} to be scored: got "
                f"{ {key: tuple(value.shape) for key, value in output.items()} }. Evaluate a NormalEstimator."
            )
        require_finite("normals", pred.sum(dim=2), view_pixels(cameras), batch.name)
        target = plane_normals(cameras, self.radius).double()
        told = (target != 0).any(dim=2)
        target = target.movedim(2, -1)[told]
        angle = _angle(pred.double().movedim(2, -1)[told], target)
        facing = _angle(target.new_tensor((0.0, 0.0, -1.0)).expand_as(target), target)
        below = [(angle < limit).sum().double() for limit in _LIMITS_DEG]
        self._sums += torch.stack([angle.sum(), facing.sum(), told.sum().double(), *below]).cpu()
        bins = (angle * _BINS_PER_DEGREE).long().clamp(max=len(self._histogram) - 1)
        self._histogram += torch.bincount(bins, minlength=len(self._histogram)).cpu()

    def compute(self) -> dict[str, float]:
        """``mean, median`` (degrees) ``, below_11_25, below_22_5, below_30`` (fractions) ``, mean_trivial`` (degrees).

        Raises:
            ValueError: no pixel had a measured normal.
        """
        total, trivial, count, *below = all_reduce_sum(self._sums).tolist()
        histogram = all_reduce_sum(self._histogram)
        if count == 0:
            raise ValueError(
                "At least one pixel with a measured normal must be evaluated: got none. Check the split, and "
                "depth_scale of the data set."
            )
        middle = int(torch.searchsorted(histogram.cumsum(0), (int(count) + 1) // 2))
        figures = {"mean": total / count, "median": (middle + 0.5) / _BINS_PER_DEGREE}
        names = (f"below_{limit:g}".replace(".", "_") for limit in _LIMITS_DEG)
        return figures | dict(zip(names, (value / count for value in below))) | {"mean_trivial": trivial / count}


def _angle(first: Float[Tensor, "N 3"], second: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
    """Angle in degrees, exact near 0 and 180 too; 90 for a vector without direction."""
    across, along = torch.linalg.cross(first, second).norm(dim=-1), (first * second).sum(dim=-1)
    angle = torch.rad2deg(torch.atan2(across, along))
    return torch.where((across == 0) & (along == 0), 90.0, angle)
