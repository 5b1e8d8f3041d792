"""Lifting by splatting: every pixel adds its feature to the voxels along its line of sight."""

import torch
from jaxtyping import Float
from torch import Tensor

from pointcept.ops.sparse_product import SparsePattern, sparse_product
from pointcept.registry import MODELS
from pointcept.structures import CameraBatch, FeatureVolume
from pointcept.structures.volume import axis_values
from ponder2d.depth import DepthDistribution
from ponder2d.lifting.base import ViewTransform, feature_rows, map_scale, to_volume


@MODELS.register()
class SplattingLifting(ViewTransform):
    """Sums pixel features into the voxels of their depths (Lift, Splat, Shoot; Philion and Fidler, ECCV 2020).

    A voxel gets the sum, over pixels and depth bins whose centre it holds, of (probability of the bin) x (feature of
    the pixel).

    Args:
        normalize: Divide each voxel by the summed probability that fell into it, or by 1e-3 if that is more: a mean
            instead of a sum, so that near voxels, on which many pixels fall, are not louder than far ones.
        chunk_size: Depth bins of pixels that are placed at a time; bounds the memory of finding those in the box.
    """

    needs_depth = True

    def __init__(self, normalize: bool = False, chunk_size: int = 2**22) -> None:
        super().__init__()
        if chunk_size < 1:
            raise ValueError(f"chunk_size must be positive: got {chunk_size}.")
        self.normalize = normalize
        self.chunk_size = chunk_size

    def forward(
        self,
        features: Float[Tensor, "B V C h w"],
        depth: DepthDistribution | None,
        cameras: CameraBatch,
        box: Float[Tensor, "B 2 3"],
        grid_shape: tuple[int, int, int],
    ) -> FeatureVolume:
        """The volume; see :meth:`ViewTransform.forward`.

        Raises:
            ValueError: there is no depth distribution.
        """
        if depth is None:
            raise ValueError("SplattingLifting needs a depth distribution: got None. Give the encoder a depth_head.")
        scale = map_scale(cameras, features)
        voxel, entry = _voxels_of_pixels(depth, cameras, box, grid_shape, scale, self.chunk_size)
        num_bins = depth.probability.shape[2]
        # Entries are ordered b, v, row, column, bin.
        weight = depth.probability.permute(0, 1, 3, 4, 2).reshape(-1).index_select(0, entry)
        size_x, size_y, size_z = grid_shape
        num_targets = box.shape[0] * size_x * size_y * size_z
        rows = feature_rows(features)
        pattern = SparsePattern(
            target=voxel,
            source=torch.div(entry, num_bins, rounding_mode="floor"),
            num_targets=num_targets,
            num_sources=rows.shape[0],
        )
        if self.normalize:
            total = torch.zeros(num_targets, dtype=weight.dtype, device=weight.device).index_add(0, voxel, weight)
            weight = weight / total.clamp(min=1e-3).index_select(0, voxel)
        seen = torch.bincount(voxel, minlength=num_targets) > 0
        return to_volume(sparse_product(pattern, weight.to(rows), rows), box, grid_shape, seen)


@torch.no_grad()
def _voxels_of_pixels(
    depth: DepthDistribution,
    cameras: CameraBatch,
    box: Float[Tensor, "B 2 3"],
    grid_shape: tuple[int, int, int],
    scale: tuple[float, float],
    chunk_size: int,
) -> tuple[Tensor, Tensor]:
    """Voxel and entry (pixel times D plus bin) of every bin centre inside its scene's box, of pixels inside views."""
    views, num_bins, height, width = depth.probability.shape[1:]
    column = (torch.arange(width, device=box.device) + 0.5) * scale[0] - 0.5
    row = (torch.arange(height, device=box.device) + 0.5) * scale[1] - 0.5
    row, column = torch.meshgrid(row, column, indexing="ij")
    pixel = torch.stack((column, row, torch.ones_like(row)), dim=-1).reshape(-1, 3)
    rotation, translation = cameras.extrinsic[..., :3, :3], cameras.extrinsic[..., :3, 3]
    direction = torch.einsum("bvij,nj->bvni", torch.linalg.inv(cameras.intrinsic), pixel.to(box))
    direction = torch.einsum("bvji,bvnj->bvni", rotation, direction)
    origin = -torch.einsum("bvji,bvj->bvi", rotation, translation)
    # Position in voxels = start + depth * step, per axis.
    cell = (box[:, 1] - box[:, 0]) / axis_values(grid_shape, box)
    start = ((origin - box[:, None, 0]) / cell[:, None]).flatten(0, 1)
    step = (direction / cell[:, None, None]).flatten(0, 2)
    limit = cameras.size_px[:, :, None].flip(-1) - 0.5
    in_view = (pixel[:, :2] < limit).all(dim=-1).flatten()

    # Rows are pixels, in the order b, v, row, column.
    voxels, entries = [], []
    per_chunk = max(1, chunk_size // num_bins)
    for first in range(0, len(step), per_chunk):
        number = torch.arange(first, min(first + per_chunk, len(step)), device=box.device)
        view = torch.div(number, height * width, rounding_mode="floor")
        index = torch.div(view, views, rounding_mode="floor")[:, None].expand(-1, num_bins)
        inside = in_view[number][:, None].expand(-1, num_bins)
        for axis in (2, 1, 0):
            place = (start[view, axis, None] + step[number, axis, None] * depth.centers).floor_()
            inside = inside & (place >= 0) & (place < grid_shape[axis])
            index = index * grid_shape[axis] + place.long()
        entry = torch.nonzero(inside.reshape(-1)).squeeze(1)
        voxels.append(index.reshape(-1).index_select(0, entry))
        entries.append(entry + first * num_bins)
    return torch.cat(voxels), torch.cat(entries)
