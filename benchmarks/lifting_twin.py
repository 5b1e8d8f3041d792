"""Lifting as it is commonly written, one view after the other: what ``benchmarks.lifting`` compares the toolkit with.

Projection follows UniPAD's published view transform: of every view the voxels that it sees, a bilinear read of its
features and a trilinear one of its depth distribution by ``grid_sample``. Splatting follows Lift, Splat, Shoot: of
every view the outer product of features and depth distribution, added to the voxels of the frustum's points.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pointcept.structures import CameraBatch


def project(
    features: Tensor, probability: Tensor, edges: Tensor, cameras: CameraBatch, box: Tensor, grid_shape: tuple
) -> Tensor:
    """The volume (B, C, Z, Y, X) of mean features over the views that see a voxel, times the depth's probability.

    Depth bins must have equal widths.
    """
    batch, views, channels = features.shape[:3]
    height, width = cameras.image.shape[-2:]
    near, far = edges[0], edges[-1]
    scenes = []
    for b in range(batch):
        centers = _centers(box[b], grid_shape)
        total = features.new_zeros(channels, len(centers))
        count = features.new_zeros(len(centers))
        for v in range(views):
            point = centers @ cameras.extrinsic[b, v, :3, :3].T + cameras.extrinsic[b, v, :3, 3]
            z = point[:, 2]
            pixel = (point @ cameras.intrinsic[b, v].T)[:, :2] / z.clamp(min=0.05)[:, None]
            size = cameras.size_px[b, v].flip(0)
            seen = ((z >= 0.05) & ((pixel >= -0.5) & (pixel < size - 0.5)).all(dim=1)).nonzero().squeeze(1)
            z = z[seen]
            place = (pixel[seen] + 0.5) / torch.tensor([width, height]) * 2 - 1
            within = ((z >= near) & (z <= far)).to(z.dtype)
            place_3d = torch.cat((place, ((z - near) / (far - near) * 2 - 1)[:, None]), dim=1)
            options = dict(mode="bilinear", padding_mode="border", align_corners=False)
            read = F.grid_sample(features[b, v][None], place[None, None], **options)[0, :, 0]
            chance = F.grid_sample(probability[b, v][None, None], place_3d[None, None, None], **options).view(-1)
            total = total.index_add(1, seen, read * (chance * within))
            count = count.index_add(0, seen, torch.ones_like(z))
        scenes.append((total / count.clamp(min=1)).view(channels, *reversed(grid_shape)))
    return torch.stack(scenes)


def splat(
    features: Tensor, probability: Tensor, edges: Tensor, cameras: CameraBatch, box: Tensor, grid_shape: tuple
) -> Tensor:
    """The volume (B, C, Z, Y, X) of the sums of feature x probability over the frustum points in each voxel."""
    batch, views, channels, height, width = features.shape
    scale_x, scale_y = cameras.image.shape[-1] / width, cameras.image.shape[-2] / height
    depth = 0.5 * (edges[1:] + edges[:-1])
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    column, row = (column + 0.5) * scale_x - 0.5, (row + 0.5) * scale_y - 0.5
    pixel = torch.stack((column, row, torch.ones_like(row)), dim=-1)
    frustum = pixel * depth[:, None, None, None]  # (D, h, w, 3)
    shape = torch.tensor(grid_shape)
    scenes = []
    for b in range(batch):
        volume = features.new_zeros(int(shape.prod()), channels)
        for v in range(views):
            in_camera = frustum @ torch.linalg.inv(cameras.intrinsic[b, v]).T
            point = (in_camera - cameras.extrinsic[b, v, :3, 3]) @ cameras.extrinsic[b, v, :3, :3]
            cell = ((point - box[b, 0]) / (box[b, 1] - box[b, 0]) * shape).floor()
            inside = ((cell >= 0) & (cell < shape)).all(dim=-1)
            x, y, z = cell[inside].long().unbind(-1)
            lifted = probability[b, v][..., None] * features[b, v].permute(1, 2, 0)  # (D, h, w, C)
            volume = volume.index_add(0, (z * grid_shape[1] + y) * grid_shape[0] + x, lifted[inside])
        scenes.append(volume.view(*reversed(grid_shape), channels).permute(3, 0, 1, 2))
    return torch.stack(scenes)


def _centers(box: Tensor, grid_shape: tuple) -> Tensor:
    z, y, x = torch.meshgrid(*(torch.arange(size) for size in reversed(grid_shape)), indexing="ij")
    index = torch.stack((x, y, z), dim=-1).view(-1, 3)
    return box[0] + (index + 0.5) * (box[1] - box[0]) / torch.tensor(grid_shape)
