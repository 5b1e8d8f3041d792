"""Lifting by projection: every voxel reads the pixels that its centre falls on."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pointcept.ops.sparse_product import SparsePattern, sparse_product
from pointcept.registry import MODELS
from pointcept.structures import CameraBatch, FeatureVolume
from ponder2d.depth import DepthDistribution
from ponder2d.lifting.base import ViewTransform, feature_rows, map_scale, to_volume, voxel_centers


@MODELS.register()
class ProjectionLifting(ViewTransform):
    """Mean over the views that see a voxel of (bilinear feature at its centre) x (probability of a surface there).

    The scheme of UniPAD (arXiv 2310.08370, section 3.2) and of ImVoxelNet, with voxel centres instead of corners and a
    mean instead of a sum over views. The probability of the bin that the centre's depth lies in is interpolated between
    bin centres and pixels. Without a depth distribution every depth counts alike.

    Args:
        near_m: Centres nearer to a camera than this are not seen by it, metres of depth.
        chunk_size: Voxel-view pairs that are projected at a time; bounds the memory of finding the visible ones.
    """

    needs_depth = False

    def __init__(self, near_m: float = 0.05, chunk_size: int = 2**22) -> None:
        super().__init__()
        if near_m <= 0 or chunk_size < 1:
            raise ValueError(f"near_m and chunk_size must be positive: got {near_m} and {chunk_size}.")
        self.near_m = near_m
        self.chunk_size = chunk_size

    def forward(
        self,
        features: Float[Tensor, "B V C h w"],
        depth: DepthDistribution | None,
        cameras: CameraBatch,
        box: Float[Tensor, "B 2 3"],
        grid_shape: tuple[int, int, int],
    ) -> FeatureVolume:
        """The volume; see :meth:`ViewTransform.forward`."""
        scale = map_scale(cameras, features)
        centers = voxel_centers(box, grid_shape)
        batch, views, _, height, width = features.shape
        num_voxels = centers.shape[1]
        per_chunk = max(1, self.chunk_size // max(1, batch * views))
        parts = [
            self._visible(centers[:, start : start + per_chunk], start, cameras)
            for start in range(0, num_voxels, per_chunk)
        ]
        scene, view, voxel = (torch.cat([part[0][axis] for part in parts]) for axis in range(3))
        pixel, z = (torch.cat([part[index] for part in parts]) for index in (1, 2))

        image = scene * views + view
        target = scene * num_voxels + voxel
        index, weight = _bilinear(pixel, scale, image, height, width)
        counts = torch.bincount(target, minlength=batch * num_voxels)
        share = weight / counts.index_select(0, target)[:, None]
        if depth is not None:
            share = share * _probability(depth, index, weight, z)[:, None]
        pattern = SparsePattern(
            target=target[:, None].expand(-1, 4).reshape(-1),
            source=index.reshape(-1),
            num_targets=batch * num_voxels,
            num_sources=batch * views * height * width,
        )
        rows = feature_rows(features)
        return to_volume(sparse_product(pattern, share.reshape(-1).to(rows), rows), box, grid_shape, counts > 0)

    def _visible(self, centers: Float[Tensor, "B N 3"], start: int, cameras: CameraBatch) -> tuple:
        """Scene, view and voxel of each pair in which a view sees a voxel's centre; its pixel; its depth."""
        rotation, translation = cameras.extrinsic[..., :3, :3], cameras.extrinsic[..., :3, 3]
        point = torch.einsum("bvij,bnj->bvni", rotation, centers) + translation[:, :, None]
        z = point[..., 2]
        projected = torch.einsum("bvij,bvnj->bvni", cameras.intrinsic, point)
        pixel = projected[..., :2] / z.clamp(min=self.near_m)[..., None]
        visible = (z >= self.near_m) & inside_image(pixel, cameras)
        pairs = torch.nonzero(visible)
        scene, view, voxel = pairs.unbind(-1)
        flat = (scene * visible.shape[1] + view) * visible.shape[2] + voxel
        return (
            (scene, view, voxel + start),
            pixel.flatten(0, 2).index_select(0, flat),
            z.flatten().index_select(0, flat),
        )


def inside_image(pixel: Float[Tensor, "B V N 2"], cameras: CameraBatch) -> Bool[Tensor, "B V N"]:
    """Whether positions (column, row; pixels) lie within their view, before padding."""
    limit = cameras.size_px[:, :, None].flip(-1) - 0.5
    return ((pixel >= -0.5) & (pixel < limit)).all(dim=-1)


def _bilinear(
    pixel: Float[Tensor, "P 2"], scale: tuple[float, float], image: Tensor, height: int, width: int
) -> tuple[Tensor, Float[Tensor, "P 4"]]:
    """Rows and weights of the four pixels of a feature map around each position; borders are repeated."""
    column = (pixel[:, 0] + 0.5) / scale[0] - 0.5
    row = (pixel[:, 1] + 0.5) / scale[1] - 0.5
    left, top = column.floor(), row.floor()
    right_part, bottom_part = column - left, row - top
    columns = torch.stack((left, left + 1), dim=-1).clamp(0, width - 1).long()
    rows = torch.stack((top, top + 1), dim=-1).clamp(0, height - 1).long()
    index = (image[:, None] * height + rows)[:, :, None] * width + columns[:, None, :]
    across = torch.stack((1 - right_part, right_part), dim=-1)
    down = torch.stack((1 - bottom_part, bottom_part), dim=-1)
    return index.flatten(1), (down[:, :, None] * across[:, None, :]).flatten(1)


def _probability(
    depth: DepthDistribution, index: Tensor, weight: Float[Tensor, "P 4"], z: Float[Tensor, "P"]
) -> Float[Tensor, "P"]:
    """Probability at a pixel position and depth, linear between pixels and between the centres of bins."""
    centers, num_bins = depth.centers, depth.probability.shape[2]
    upper = torch.searchsorted(centers, z.contiguous()).clamp(1, num_bins - 1)
    low, high = centers.index_select(0, upper - 1), centers.index_select(0, upper)
    part = ((z - low) / (high - low)).clamp(0, 1)
    within = ((z >= depth.edges[0]) & (z <= depth.edges[-1])).to(z.dtype)
    bins = torch.stack((upper - 1, upper), dim=-1)
    between = torch.stack((1 - part, part), dim=-1) * within[:, None]
    rows = depth.probability.permute(0, 1, 3, 4, 2).reshape(-1, 1)
    entry = (index[:, :, None] * num_bins + bins[:, None, :]).flatten(1)
    share = (weight[:, :, None] * between[:, None, :]).flatten(1)
    return (rows.index_select(0, entry.reshape(-1)).view(share.shape) * share).sum(dim=1)
