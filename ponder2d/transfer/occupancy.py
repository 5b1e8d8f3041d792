"""Semantic occupancy from several posed images: the labels of voxels, the model and its evaluator."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pointcept.evaluation.segmentation import SemanticSegmentationEvaluator
from pointcept.models.freezing import freeze
from pointcept.models.segmentation.losses import CrossEntropyLoss, SegmentationLoss, segmentation_losses
from pointcept.ops.voxel_pooling import voxel_rows
from pointcept.registry import EVALUATORS, MODELS
from pointcept.structures import CameraBatch, FeatureVolume, SceneBatch
from ponder2d.encoder import input_cameras, measured_points
from ponder2d.lifting.base import voxel_centers
from ponder2d.lifting.projection import inside_image
from ponder2d.transfer.dense import small_start

_NEAR_M = 0.05
_CHUNK = 2**22


@MODELS.register()
class OccupancyPredictor(nn.Module):
    """Predicts for every voxel of the scene box whether it is free, or which class it holds.

    The names are those of ``Ponder``: from a checkpoint of pre-training the whole encoder is loaded, as far as its
    shapes agree.

    Args:
        encoder: Maps the views of a batch to a ``FeatureVolume``, such as ``ImageVolumeEncoder``; its projection gives
            the width.
        num_classes: K, classes of occupied voxels. Free is class K.
        criteria: Losses over the known voxels; their sum is minimised. Cross-entropy by default.
        freeze_backbone: Train all but ``encoder.backbone``, whose weights and statistics are fixed.

    Raises:
        ValueError: there is no class, or the encoder has no projection.
    """

    head_prefixes = ("head.",)

    def __init__(
        self,
        encoder: nn.Module,
        num_classes: int,
        criteria: Sequence[SegmentationLoss] = (),
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1: got {num_classes}.")
        if encoder.projection is None:
            raise ValueError("An occupancy predictor needs an encoder with a projection: set encoder.projection.")
        self.encoder = encoder
        self.num_classes = num_classes
        extra = 4 if getattr(encoder, "with_color", False) else 0
        self.head = small_start(nn.Conv3d(encoder.projection.out_channels + extra, num_classes + 1, 1))
        self.criteria = nn.ModuleList(criteria or [CrossEntropyLoss()])
        if freeze_backbone:
            freeze(encoder.backbone)

    def forward(self, batch: SceneBatch) -> dict[str, Tensor]:
        """Loss terms in training, those of the encoder among them.

        Evaluation: ``occupancy`` (B, Z, Y, X), class of each voxel, K = free, and ``box`` (B, 2, 3), metres.

        Raises:
            ValueError: the batch has no views, or in training no labels.
        """
        encoded = self.encoder(batch)
        volume, terms = (encoded, {}) if isinstance(encoded, FeatureVolume) else encoded
        logits = self.head(volume.features)
        if not self.training:
            return {"occupancy": logits.argmax(dim=1), "box": volume.box}
        target = occupancy_labels(batch, volume.box, volume.grid_shape, self.num_classes)
        rows = logits.permute(0, 2, 3, 4, 1).flatten(0, 3)
        losses = segmentation_losses(self.criteria, rows, target.flatten())
        return losses | {name: total / count.clamp(min=1) for name, (total, count) in terms.items()}


def occupancy_labels(
    batch: SceneBatch,
    box: Float[Tensor, "B 2 3"],
    grid_shape: tuple[int, int, int],
    num_classes: int,
    margin_m: float = 0.1,
) -> Int[Tensor, "B Z Y X"]:
    """What each voxel holds: 0..K - 1 a class, K nothing, -1 unknown.

    A voxel has the most frequent class of the labelled points in it; the points are those of the cloud, or, where it
    has no labels, what the depth images of the views show. A voxel without points is free where a view measures depth
    beyond its centre; elsewhere, behind surfaces and outside all views, nothing is known.

    Args:
        batch: Scenes with labelled clouds, or with views that have depth and labels.
        box: Outer faces of the grid of each scene, metres.
        grid_shape: Voxels along x, y and z.
        num_classes: K.
        margin_m: A centre counts as free when depth is measured at least this far beyond it, metres.

    Raises:
        ValueError: there are neither labelled points nor labelled views, or a label is out of range.
    """
    cameras = batch.cameras if batch.cameras is not None else input_cameras(batch)
    coord, segment, scene = _labelled_points(batch, cameras)
    if segment.numel() and segment.device.type == "cpu" and (segment.min() < -1 or segment.max() >= num_classes):
        raise ValueError(
            f"Labels must lie in -1..{num_classes - 1}: scenes {list(batch.name)} have {int(segment.min())}.."
            f"{int(segment.max())}. Map the labels when reading, or correct num_classes."
        )
    num_voxels = grid_shape[0] * grid_shape[1] * grid_shape[2]
    total = box.shape[0] * num_voxels
    row, inside = voxel_rows(coord, scene, box, grid_shape)
    holds = torch.zeros(total + 1, dtype=torch.bool, device=box.device)
    holds[torch.where(inside, row, total)] = True
    counted = inside & (segment >= 0)
    votes = torch.bincount(
        torch.where(counted, row * num_classes + segment, total * num_classes), minlength=total * num_classes + 1
    )[:-1].view(total, num_classes)
    most, label = votes.max(dim=1)
    with torch.autocast(box.device.type, enabled=False):
        free = seen_free(cameras, box, grid_shape, margin_m).flatten() & ~holds[:-1]
    label = torch.where(most > 0, label, torch.where(free, num_classes, -1))
    return label.view(box.shape[0], grid_shape[2], grid_shape[1], grid_shape[0])


def seen_free(
    cameras: CameraBatch, box: Float[Tensor, "B 2 3"], grid_shape: tuple[int, int, int], margin_m: float
) -> Bool[Tensor, "B N"]:
    """Whether some view measures a depth beyond the centre of a voxel, in the order z, y, x."""
    centers = voxel_centers(box, grid_shape)
    height, width = cameras.depth.shape[-2:]
    chunk = max(1, _CHUNK // max(1, cameras.depth.shape[0] * cameras.depth.shape[1]))
    rotation, translation = cameras.extrinsic[..., :3, :3], cameras.extrinsic[..., :3, 3]
    parts = []
    for part in centers.split(chunk, dim=1):
        point = torch.einsum("bvij,bnj->bvni", rotation, part) + translation[:, :, None]
        z = point[..., 2]
        pixel = torch.einsum("bvij,bvnj->bvni", cameras.intrinsic, point)[..., :2] / z.clamp(min=_NEAR_M)[..., None]
        visible = (z >= _NEAR_M) & inside_image(pixel, cameras)
        column, row = torch.where(visible[..., None], pixel, 0.0).round().long().unbind(-1)
        index = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
        measured = cameras.depth.flatten(2).gather(2, index)
        parts.append((visible & (measured > z + margin_m)).any(dim=1))
    return torch.cat(parts, dim=1)


def _labelled_points(
    batch: SceneBatch, cameras: CameraBatch
) -> tuple[Float[Tensor, "N 3"], Int[Tensor, "N"], Int[Tensor, "N"]]:
    """Position, class and scene of labelled points."""
    if batch.points is not None and batch.points.segment is not None:
        return batch.points.coord, batch.points.segment, batch.points.batch_index
    if cameras.segment is None:
        raise ValueError(
            f"Occupancy needs labels: the batch of {list(batch.name)} has neither labelled points nor labelled views. "
            "Keep 'segment' in Collect(keys=...), or give the frames a folder label/."
        )
    coord, measured = measured_points(cameras)
    scene = torch.arange(coord.shape[0], device=coord.device)[:, None, None].expand_as(measured)
    return coord[measured], cameras.segment.flatten(2)[measured], scene[measured]


@EVALUATORS.register()
class OccupancyEvaluator(SemanticSegmentationEvaluator):
    """Mean IoU of the classes, and IoU of occupied against free, over the known voxels of all scenes together.

    Free space is no class of ``mIoU``; a class is present if a voxel is labelled or predicted as it. As in Occ3D (Tian
    et al., 2023), what no sensor saw does not count.

    Args:
        num_classes: K, classes of occupied voxels.
        class_names: Their names, or the name of a known label set; numbers by default.
    """

    def __init__(self, num_classes: int, class_names: Sequence[str] | str | None = None) -> None:
        super().__init__(num_classes, class_names)
        self.class_names = (*self.class_names, "free")
        self.num_classes = num_classes + 1

    def update(self, output: dict[str, Tensor], batch: SceneBatch) -> None:
        """Add the voxels of a batch.

        Args:
            output: ``occupancy`` (B, Z, Y, X), 0..K, and ``box`` (B, 2, 3), metres.
            batch: The scenes with labels.

        Raises:
            ValueError: there are no predictions or no labels.
        """
        if not {"occupancy", "box"} <= output.keys():
            raise ValueError(
                f"The model's output must have 'occupancy' and 'box' to be scored: got {sorted(output)}. Evaluate an "
                "OccupancyPredictor."
            )
        pred = output["occupancy"]
        shape = (pred.shape[3], pred.shape[2], pred.shape[1])
        target = occupancy_labels(batch, output["box"], shape, self.num_classes - 1)
        self.add(pred.flatten(), target.flatten())

    def compute(self) -> dict[str, float]:
        """``mIoU`` over the classes and ``occupancy_iou``, fractions, over all processes.

        Raises:
            ValueError: no known voxel was evaluated.
        """
        self.total = self.confusion()
        confusion = self.total.double()
        if confusion.sum() == 0:
            raise ValueError("At least one known voxel must be evaluated: got none. Check the split and the labels.")
        hit = confusion.diagonal()
        union = confusion.sum(dim=0) + confusion.sum(dim=1) - hit
        iou, present = (hit / union.clamp(min=1))[:-1], (union > 0)[:-1]
        both, any_occupied = confusion[:-1, :-1].sum(), confusion.sum() - confusion[-1, -1]
        return {
            "mIoU": float(iou.sum() / present.sum().clamp(min=1)),
            "occupancy_iou": float(both / any_occupied.clamp(min=1)),
        }
