"""Point clouds to feature volumes: a backbone on the points, mean pooling, a dense network."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from pointcept.models.encoders.masking import BlockMask
from pointcept.models.segmentation.dataset_heads import DatasetHeads
from pointcept.ops.voxel_pooling import check_box, fit_boxes, fixed_boxes, mean_pool
from pointcept.registry import MODELS
from pointcept.structures import FeatureVolume, PointBatch, SceneBatch


@MODELS.register()
class PointVolumeEncoder(nn.Module):
    """Encodes the clouds of a batch as feature volumes (PonderV2, section 3.2).

    Args:
        backbone: Maps a ``PointBatch`` to one with ``backbone.out_channels`` features at the same points. It is what
            pre-training is for.
        projection: Maps (B, C, Z, Y, X) to (B, ``projection.out_channels``, Z, Y, X); None where another encoder takes
            the pooled features.
        grid_shape: Voxels along x, y and z. In fitted boxes they are cubes, as small as the scene allows.
        padding_m: Free space around the cloud, metres.
        mask: Hides parts of the input during training; None hides nothing.
        box: Smallest x, y, z and largest x, y, z of every scene, metres, world frame of the samples, as outdoors; None
            fits the box to each cloud.
        cube: The fitted box is a cube around the cloud, as in PonderV2, whatever the shape of its voxels then is.
        point_heads: Classify the points by the backbone's features; their losses on the points' labels are then
            trained beside those of the rendering (PonderV2 with PPT). None uses no labels.

    Raises:
        ValueError: ``box`` is no box.
    """

    def __init__(
        self,
        backbone: nn.Module,
        projection: nn.Module | None,
        grid_shape: tuple[int, int, int] = (128, 128, 32),
        padding_m: float = 0.2,
        mask: BlockMask | None = None,
        box: Sequence[float | int] | None = None,
        cube: bool = False,
        point_heads: DatasetHeads | None = None,
    ) -> None:
        super().__init__()
        check_box(box)
        self.backbone = backbone
        self.projection = projection
        self.mask = mask
        self.point_heads = point_heads
        self.grid_shape = tuple(grid_shape)
        self.padding_m = padding_m
        self.box = None if box is None else tuple(box)
        self.cube = cube

    def forward(self, batch: SceneBatch) -> FeatureVolume | tuple[FeatureVolume, dict[str, tuple[Tensor, Tensor]]]:
        """The volumes of the batch's scenes; with ``point_heads``, in training, also their loss terms.

        The terms are called ``point_`` and the name of the loss, and are sums with the number of labelled points.

        Raises:
            ValueError: the batch has no points, or has no labels for ``point_heads``.
        """
        points = _points_of(batch)
        encoded = self._encoded(batch)
        if self.box is None:
            box = fit_boxes(points, (1, 1, 1) if self.cube else self.grid_shape, padding_m=self.padding_m)
        else:
            box = fixed_boxes(self.box, batch.batch_size, points.coord)
        pooled = mean_pool(encoded.feat, encoded.coord, encoded.batch_index, box, self.grid_shape)
        volume = pooled if self.projection is None else pooled.projected(self.projection)
        if self.point_heads is None or not self.training:
            return volume
        terms = self.point_heads.loss_terms(encoded.feat, encoded, batch.name)
        return volume, {f"point_{name}": term for name, term in terms.items()}

    def pool(self, batch: SceneBatch, box: Float[Tensor, "B 2 3"]) -> FeatureVolume:
        """The backbone's features, averaged per voxel of given boxes (outer faces, metres), before the projection.

        Raises:
            ValueError: the batch has no points.
        """
        encoded = self._encoded(batch)
        return mean_pool(encoded.feat, encoded.coord, encoded.batch_index, box, self.grid_shape)

    @property
    def uses_labels(self) -> bool:
        """Whether it trains on the points' labels."""
        return self.point_heads is not None

    def _encoded(self, batch: SceneBatch) -> PointBatch:
        """The backbone's features of all points, or of those that the mask leaves."""
        points = _points_of(batch)
        if self.mask is not None and self.training:
            points = self.mask(points, batch.seed)
        return points.replace(feat=self.backbone(points).feat)

    def set_progress(self, progress: float) -> None:
        """Tell the mask which fraction of the run is done."""
        if self.mask is not None:
            self.mask.set_progress(progress)


def _points_of(batch: SceneBatch) -> PointBatch:
    if batch.points is None:
        raise ValueError(f"PointVolumeEncoder needs point clouds: the batch of {batch.name} has none.")
    return batch.points
