"""Posed images to feature volumes: a backbone on the images, lifting, a dense network."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pointcept.models.encoders import PointVolumeEncoder
from pointcept.ops import random
from pointcept.ops.voxel_pooling import boxes_around, check_box, fit_boxes, fixed_boxes
from pointcept.registry import MODELS
from pointcept.rendering.rays import camera_rays
from pointcept.structures import CameraBatch, FeatureVolume, SceneBatch
from ponder2d.backbones import padded_size
from ponder2d.depth import DepthDistribution, depth_supervision, depth_targets, with_measured
from ponder2d.lifting import ViewTransform
from ponder2d.masking import ImageMask

_LEAST_WEIGHT = 1e-3
_COLOR_CHANNELS = 4  # colour and weight
DEPTH_TERM = "depth_distribution_loss"
Terms = dict[str, tuple[Tensor, Tensor]]


@MODELS.register()
class ImageVolumeEncoder(nn.Module):
    """Encodes the posed input views of a batch as feature volumes (UniPAD, arXiv 2310.08370, section 3).

    The input views are ``batch.inputs``, or ``batch.cameras`` where there are none. The scene box is ``box`` where it
    is given, as outdoors; otherwise it is fitted to the batch's point clouds; without these, to the measured depth of
    the input views. Fitted boxes end where the scene ends, so voxels need not be cubes. Only the box is taken from
    clouds and depth: the features come from the images alone.

    Args:
        backbone: Maps images to feature maps. It is what pre-training is for.
        neck: Joins the maps to one.
        view_transform: Lifts the map to a volume.
        projection: Maps (B, C, Z, Y, X) to (B, ``projection.out_channels``, Z, Y, X); None leaves the lifted features.
        depth_head: Predicts where along its line of sight each pixel of the map sees a surface; None for a view
            transform without depth.
        geometry: Tells the network cameras and box: its encoding is added to the joined map; None tells nothing.
        with_color: Lift the input images' own colours beside the features, so that the backbone need not carry them:
            4 more channels, the mean colour of each voxel and the weight it has, for the projection and, past it, for
            the renderer. Where a mask hides parts of the images this must be off.
        lift_depth: Where features are lifted to: ``"predicted"``, by the depth head; ``"measured"``, for RGB-D input
            views: where depth was measured by it, elsewhere by the head. The rendered views' depth is never used.
        depth_weight: Weight of the supervision of the predicted depth by the measured depth of the input views.
        grid_shape: Voxels along x, y and z.
        box: Smallest x, y, z and largest x, y, z of every scene, metres, world frame of the samples.
        padding_m: Free space around what a box is fitted to, metres.
        mask: Hides parts of the input views during training; None hides nothing.

    Raises:
        ValueError: the view transform needs a depth head, a box is no box, or ``depth_weight`` does not suit.
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        view_transform: ViewTransform,
        projection: nn.Module | None = None,
        depth_head: nn.Module | None = None,
        geometry: nn.Module | None = None,
        with_color: bool = False,
        lift_depth: Literal["predicted", "measured"] = "predicted",
        depth_weight: float = 0.0,
        grid_shape: tuple[int, int, int] = (128, 128, 32),
        box: Sequence[float | int] | None = None,
        padding_m: float = 0.2,
        mask: ImageMask | None = None,
    ) -> None:
        super().__init__()
        if view_transform.needs_depth and depth_head is None:
            raise ValueError(f"{type(view_transform).__name__} needs a depth distribution: set depth_head.")
        if depth_weight < 0 or (depth_weight > 0 and depth_head is None):
            raise ValueError(f"depth_weight must not be negative, and 0 without a depth_head: got {depth_weight}.")
        if lift_depth not in ("predicted", "measured") or (lift_depth == "measured" and depth_head is None):
            raise ValueError(
                "lift_depth must be 'predicted', or 'measured' with a depth_head for missing pixels: got "
                f"{lift_depth!r}."
            )
        if with_color and mask is not None:
            raise ValueError("with_color would show what mask hides: set one of them only.")
        check_box(box)
        self.backbone = backbone
        self.neck = neck
        self.depth_head = depth_head
        self.geometry = geometry
        self.with_color = with_color
        self.lift_depth = lift_depth
        self.view_transform = view_transform
        self.projection = projection
        self.mask = mask
        self.depth_weight = depth_weight
        self.grid_shape = tuple(grid_shape)
        self.box = None if box is None else tuple(box)
        self.padding_m = padding_m

    def forward(self, batch: SceneBatch) -> FeatureVolume | tuple[FeatureVolume, Terms]:
        """The volumes of the batch's scenes; in training with the term of the depth supervision, where it has weight.

        Raises:
            ValueError: the batch has no views.
        """
        volume, terms = self.lift(batch, self.boxes(batch))
        if self.projection is not None:
            volume = volume.projected(self._project)
        return (volume, terms) if terms else volume

    def _project(self, lifted: Float[Tensor, "B _C Z Y X"]) -> Float[Tensor, "B _O Z Y X"]:
        features = self.projection(lifted)
        return torch.cat((features, lifted[:, -_COLOR_CHANNELS:]), dim=1) if self.with_color else features

    def boxes(self, batch: SceneBatch) -> Float[Tensor, "B 2 3"]:
        """Outer faces of the grid of each scene, metres.

        Raises:
            ValueError: the batch has no views.
        """
        cameras = input_cameras(batch)
        if self.box is not None:
            return fixed_boxes(self.box, batch.batch_size, cameras.image)
        if batch.points is not None:
            return fit_boxes(batch.points, self.grid_shape, padding_m=self.padding_m, cubes=False)
        return boxes_around(*measured_extent(cameras), self.grid_shape, padding_m=self.padding_m, cubes=False)

    def lift(self, batch: SceneBatch, box: Float[Tensor, "B 2 3"]) -> tuple[FeatureVolume, Terms]:
        """The lifted features in given boxes, before the projection, and the loss terms of this encoder.

        Raises:
            ValueError: the batch has no views.
        """
        cameras = padded_cameras(input_cameras(batch), self.backbone.divisor)
        batch_size, views = cameras.image.shape[:2]
        # Views that a scene lacks are left out, so that no batch norm sees them.
        present = present_views(cameras)
        image = cameras.image.flatten(0, 1).index_select(0, present)
        if self.mask is not None and self.training:
            view = torch.arange(views, device=present.device)
            seed = random.hash_integers(random.hash_integers(batch.seed)[:, None] ^ random.hash_integers(view))
            maps = self.mask(self.backbone, image, seed.flatten().index_select(0, present))
        else:
            maps = self.backbone(image)
        joined = self.neck(maps)
        size = (joined.shape[-2], joined.shape[-1])
        if self.geometry is not None:
            joined = joined + self.geometry(cameras, box, *size).flatten(0, 1).index_select(0, present)

        def all_views(values: Tensor) -> Tensor:
            spread = values.new_zeros(batch_size * views, *values.shape[1:]).index_copy(0, present, values)
            return spread.unflatten(0, (batch_size, views))

        depth, terms = None, {}
        if self.depth_head is not None:
            depth = self.depth_head(joined[None])
            depth = DepthDistribution(all_views(depth.probability[0]), depth.edges)
            if self.training and self.depth_weight > 0:
                terms[DEPTH_TERM] = self._depth_term(depth, cameras)
            if self.lift_depth == "measured":
                depth = with_measured(depth, cameras)
        if not self.with_color:
            return self._lifted(all_views(joined), depth, cameras, box), terms
        color = F.adaptive_avg_pool2d(image, size)
        lifted = torch.cat((joined, color, torch.ones_like(color[:, :1])), dim=1)
        volume = self._lifted(all_views(lifted), depth, cameras, box)
        features, color, weight = volume.features.split((joined.shape[1], 3, 1), dim=1)
        color = torch.where(weight > _LEAST_WEIGHT, color / weight.clamp(min=_LEAST_WEIGHT), 0.0)
        return volume.replace(features=torch.cat((features, color, weight), dim=1)), terms

    def _lifted(
        self,
        features: Float[Tensor, "B V C h w"],
        depth: DepthDistribution | None,
        cameras: CameraBatch,
        box: Float[Tensor, "B 2 3"],
    ) -> FeatureVolume:
        """The view transform in single precision: half precision would put features into other voxels."""
        with torch.autocast(features.device.type, enabled=False):
            return self.view_transform(features.float(), depth, cameras, box, self.grid_shape)

    def _depth_term(self, depth: DepthDistribution, cameras: CameraBatch) -> tuple[Tensor, Tensor]:
        target = depth_targets(cameras, *depth.probability.shape[-2:])
        count = ((target >= depth.edges[0]) & (target < depth.edges[-1])).sum().to(target.dtype)
        return self.depth_weight * depth_supervision(depth, cameras) * count, count


@MODELS.register()
class FusionVolumeEncoder(nn.Module):
    """Encodes posed images and point clouds (LiDAR or RGB-D) together: the two volumes side by side, or their sum.

    Args:
        image: The image branch, without a projection. Its ``box``, ``grid_shape`` and ``padding_m`` are those of both.
        points: The point branch, without a projection.
        projection: Maps the joined volume (B, C, Z, Y, X) to (B, ``projection.out_channels``, Z, Y, X).
        joining: ``"concat"``: C is the sum of both widths; ``"sum"``: both have C channels.

    Raises:
        ValueError: a branch has a projection, or ``joining`` is neither.
    """

    def __init__(
        self,
        image: ImageVolumeEncoder,
        points: PointVolumeEncoder,
        projection: nn.Module,
        joining: str = "concat",
    ) -> None:
        super().__init__()
        if image.projection is not None or points.projection is not None:
            raise ValueError("The branches of a FusionVolumeEncoder share one projection: set theirs to None.")
        if joining not in ("concat", "sum"):
            raise ValueError(f"joining must be 'concat' or 'sum': got {joining!r}.")
        self.image = image
        self.points = points
        self.projection = projection
        self.joining = joining
        points.grid_shape = image.grid_shape

    def forward(self, batch: SceneBatch) -> FeatureVolume | tuple[FeatureVolume, Terms]:
        """The volumes of the batch's scenes; in training with the image branch's loss terms, where it has any.

        Raises:
            ValueError: the batch has no views or no points.
        """
        box = self.image.boxes(batch)
        seen, terms = self.image.lift(batch, box)
        pooled = self.points.pool(batch, box)
        if self.joining == "concat":
            features = torch.cat((seen.features, pooled.features), dim=1)
        else:
            features = seen.features + pooled.features
        volume = pooled.replace(features=features).projected(self.projection)
        return (volume, terms) if terms else volume


def input_cameras(batch: SceneBatch) -> CameraBatch:
    """The views that an encoder of images sees.

    Raises:
        ValueError: there are none.
    """
    cameras = batch.cameras if batch.inputs is None else batch.inputs
    if cameras is None:
        raise ValueError(f"An encoder of images needs posed views: the batch of {batch.name} has none.")
    return cameras


def present_views(cameras: CameraBatch) -> Int[Tensor, "P"]:
    """Indices of the views that exist, in the order b, v; scenes with fewer views than others lack some."""
    return (cameras.size_px > 0).all(dim=-1).flatten().nonzero().squeeze(1)


def padded_cameras(cameras: CameraBatch, divisor: int) -> CameraBatch:
    """Views padded at the right and at the bottom to multiples of ``divisor``; ``size_px`` stays."""
    height, width = cameras.image.shape[-2:]
    rows, columns = padded_size((height, width), divisor)
    if (rows, columns) == (height, width):
        return cameras
    right_and_bottom = (0, columns - width, 0, rows - height)
    segment = cameras.segment
    return cameras.replace(
        image=F.pad(cameras.image, right_and_bottom),
        depth=F.pad(cameras.depth, right_and_bottom),
        segment=None if segment is None else F.pad(segment, right_and_bottom, value=-1),
    )


def measured_extent(cameras: CameraBatch) -> tuple[Float[Tensor, "B 3"], Float[Tensor, "B 3"]]:
    """Smallest and largest coordinates of what the depth images show, metres; infinite where they show nothing."""
    point, measured = measured_points(cameras)
    point, measured = point.flatten(1, 2), measured.flatten(1, 2)[..., None]
    return (
        torch.where(measured, point, torch.inf).amin(dim=1),
        torch.where(measured, point, -torch.inf).amax(dim=1),
    )


def measured_points(cameras: CameraBatch) -> tuple[Float[Tensor, "B V N 3"], Bool[Tensor, "B V N"]]:
    """What each pixel of the depth images shows, metres, world frame, row by row; and whether it shows anything."""
    height, width = cameras.depth.shape[-2:]
    row, column = torch.meshgrid(
        torch.arange(height, device=cameras.depth.device),
        torch.arange(width, device=cameras.depth.device),
        indexing="ij",
    )
    pixel = torch.stack((column, row), dim=-1).reshape(-1, 2).to(cameras.depth)
    pixel = pixel.expand(*cameras.depth.shape[:2], -1, -1)
    origin, direction, length = camera_rays(cameras.intrinsic, cameras.extrinsic, pixel)
    depth = cameras.depth.flatten(2)
    return origin[:, :, None] + direction * (length * depth)[..., None], depth > 0
