"""Cutting away the parts of a surface that nothing was measured of: there a network can only guess."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree

from pointcept.structures import CameraBatch, SceneBatch


def observed(
    positions: Float[np.ndarray, "M 3"], batch: SceneBatch, scene_index: int = 0, *, margin_m: float
) -> Bool[np.ndarray, "M"]:
    """Whether positions are seen in a view of the scene, or lie close to a point of its cloud.

    Args:
        positions: Metres, world frame.
        batch: Holds the scene.
        scene_index: Which scene of the batch.
        margin_m: How far behind what a view measured, and how far from a point, metres.
    """
    known = np.zeros(len(positions), dtype=bool)
    if batch.points is not None:
        cloud = batch.points.coord[batch.points.batch_index == scene_index].cpu().numpy()
        if len(cloud):
            distance, _ = cKDTree(cloud).query(positions, distance_upper_bound=margin_m)
            known |= np.isfinite(distance)
    if batch.cameras is not None:
        place = torch.from_numpy(np.ascontiguousarray(positions)).to(batch.cameras.extrinsic)
        known |= visible(place, batch.cameras, scene_index, margin_m=margin_m).cpu().numpy()
    return known


def visible(
    positions: Float[torch.Tensor, "M 3"], cameras: CameraBatch, scene_index: int = 0, *, margin_m: float
) -> Bool[torch.Tensor, "M"]:
    """Whether positions lie before the measured surface, or little behind it, in any view of a scene.

    Free space that was seen counts as well: a surface that hangs there is an error to be shown, not a guess.

    Args:
        positions: Metres, world frame.
        cameras: The views; pixels without depth see nothing.
        scene_index: Which scene of the cameras.
        margin_m: How far behind, metres along the ray.
    """
    extrinsic, intrinsic = cameras.extrinsic[scene_index], cameras.intrinsic[scene_index]
    in_camera = torch.einsum("vij,mj->vmi", extrinsic[:, :3, :3], positions) + extrinsic[:, None, :3, 3]
    in_image = torch.einsum("vij,vmj->vmi", intrinsic, in_camera)
    depth = in_camera[..., 2]
    is_ahead = depth > 0
    pixel = (in_image[..., :2] / torch.where(is_ahead, depth, torch.ones_like(depth))[..., None]).round()
    size = cameras.size_px[scene_index, :, None].flip(-1)
    is_inside = is_ahead & ((pixel >= 0) & (pixel < size)).all(dim=-1)
    height, width = cameras.depth.shape[-2:]
    column = pixel[..., 0].clamp(0, width - 1).long()
    row = pixel[..., 1].clamp(0, height - 1).long()
    measured = cameras.depth[scene_index].flatten(1).gather(1, row * width + column)
    # Along the ray everything is longer than along the optical axis, by one factor.
    behind = (depth - measured) * in_camera.norm(dim=-1) / depth.clamp(min=torch.finfo(depth.dtype).tiny)
    return (is_inside & (measured > 0) & (behind <= margin_m)).any(dim=0)
