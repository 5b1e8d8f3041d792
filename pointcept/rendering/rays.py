"""Rays through chosen pixels of posed views, for all scenes and views at once."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pointcept.ops import random
from pointcept.registry import MODELS
from pointcept.structures import CameraBatch, RayBatch, RayTargets

_PIXEL_STREAM = 11
_OTHER_PIXEL_STREAM = 13


def camera_rays(
    intrinsic: Float[Tensor, "*batch 3 3"], extrinsic: Float[Tensor, "*batch 4 4"], pixel: Float[Tensor, "*batch P 2"]
) -> tuple[Float[Tensor, "*batch 3"], Float[Tensor, "*batch P 3"], Float[Tensor, "*batch P"]]:
    """Origin and directions of the rays through pixels, and the distance along each ray per metre of depth.

    Args:
        intrinsic: Pixels, upper triangular; the centre of the first pixel at (0, 0).
        extrinsic: camera_from_world, rigid (reflections allowed).
        pixel: Column and row, pixels.

    Returns:
        Camera centre (metres, world frame), unit directions (world frame), and ``distance / depth`` of each pixel.
    """
    row = (pixel[..., 1] - intrinsic[..., None, 1, 2]) / intrinsic[..., None, 1, 1]
    skew = intrinsic[..., None, 0, 1] * row
    column = (pixel[..., 0] - intrinsic[..., None, 0, 2] - skew) / intrinsic[..., None, 0, 0]
    direction_camera = torch.stack((column, row, torch.ones_like(row)), dim=-1)
    length = direction_camera.norm(dim=-1)
    rotation, translation = extrinsic[..., :3, :3], extrinsic[..., :3, 3]
    world_from_camera = rotation.transpose(-1, -2)
    with torch.autocast(extrinsic.device.type, enabled=False):  # half precision would bend rays by whole pixels
        origin = -(world_from_camera @ translation[..., None])[..., 0]
        direction = direction_camera @ rotation / length[..., None]
    return origin, direction, length


def intersect_box(
    origins: Float[Tensor, "B R 3"], directions: Float[Tensor, "B R 3"], box: Float[Tensor, "B 2 3"], near_m: float
) -> tuple[Float[Tensor, "B R"], Float[Tensor, "B R"], Bool[Tensor, "B R"]]:
    """Distances at which rays enter and leave their scene's box (slab test; Kay and Kajiya, 1986).

    A ray that starts inside enters at ``near_m``. Rays that miss, are not finite or have no direction get near 0, far 1
    and False, so that what is computed for them stays finite.
    """
    tiny = torch.finfo(directions.dtype).tiny ** 0.5
    safe = torch.where(directions.abs() < tiny, torch.full_like(directions, tiny), directions)
    to_minimum = (box[:, None, 0] - origins) / safe
    to_maximum = (box[:, None, 1] - origins) / safe
    near = torch.minimum(to_minimum, to_maximum).amax(dim=-1).clamp(min=near_m)
    far = torch.maximum(to_minimum, to_maximum).amin(dim=-1)
    hit = (far > near) & torch.isfinite(far - near) & (directions != 0).any(dim=-1)
    return torch.where(hit, near, torch.zeros_like(near)), torch.where(hit, far, torch.ones_like(far)), hit


def make_rays(
    cameras: CameraBatch, box: Float[Tensor, "B 2 3"], pixel: Int[Tensor, "B V P 2"], *, near_m: float = 0.01
) -> tuple[RayBatch, RayTargets, Float[Tensor, "B _R"]]:
    """Rays and targets of pixels (column, row) of each view, views one after the other (R = V P).

    Pixels outside a view's size give invalid rays. The third result is ``distance / depth`` of each ray.
    """
    batch, views, count, _ = pixel.shape
    origin, direction, length = camera_rays(cameras.intrinsic, cameras.extrinsic, pixel.to(cameras.intrinsic.dtype))
    inside = ((pixel >= 0) & (pixel < cameras.size_px[:, :, None].flip(-1))).all(dim=-1).reshape(batch, -1)
    origins = origin[:, :, None].expand(direction.shape).reshape(batch, -1, 3)
    directions, length = direction.reshape(batch, -1, 3), length.reshape(batch, -1)
    near, far, hit = intersect_box(origins, directions, box, near_m)
    rays = RayBatch(origins=origins, directions=directions, near=near, far=far, valid=hit & inside)

    height, width = cameras.depth.shape[-2:]
    flat = (pixel[..., 1].clamp(0, height - 1) * width + pixel[..., 0].clamp(0, width - 1)).reshape(batch, views, count)
    color = cameras.image.flatten(3).gather(3, flat[:, :, None].expand(-1, -1, 3, -1))
    depth = cameras.depth.flatten(2).gather(2, flat).reshape(batch, -1)
    segment = None
    if cameras.segment is not None:
        segment = cameras.segment.flatten(2).gather(2, flat).reshape(batch, -1)
    view = torch.arange(views, device=pixel.device)[:, None, None].expand(batch, -1, count, -1)
    targets = RayTargets(
        color=color.permute(0, 1, 3, 2).reshape(batch, -1, 3),
        distance=depth * length,
        segment=segment,
        pixel=torch.cat((view, pixel), dim=-1).reshape(batch, -1, 3),
    )
    return rays, targets, length


def measured_normals(
    cameras: CameraBatch, pixel: Int[Tensor, "B V P 2"], *, max_step: float = 0.05
) -> Float[Tensor, "B _R 3"]:
    """Normals of the measured surface at pixels, from the depth of the four neighbours (world frame, to the camera).

    The cross product of the differences between opposite neighbours, back-projected. Zero where one of the five depths
    is missing, or differs from the middle one by more than ``max_step`` of it, as at the edge of an object.
    """
    batch, views, count, _ = pixel.shape
    height, width = cameras.depth.shape[-2:]
    offsets = pixel.new_tensor([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
    neighbor = (pixel[:, :, :, None] + offsets).flatten(2, 3)  # (B, V, 5 P, 2)
    inside = ((neighbor >= 0) & (neighbor < cameras.size_px[:, :, None].flip(-1))).all(dim=-1)
    flat = neighbor[..., 1].clamp(0, height - 1) * width + neighbor[..., 0].clamp(0, width - 1)
    depth = cameras.depth.flatten(2).gather(2, flat) * inside
    # Cameras at the origin of the world: the directions are those of the camera frame.
    still = torch.eye(4, dtype=depth.dtype, device=depth.device).expand(batch, views, 4, 4)
    _, direction, length = camera_rays(cameras.intrinsic, still, neighbor.to(depth.dtype))
    point = (direction * (length * depth)[..., None]).view(batch, views, count, 5, 3)
    depth = depth.view(batch, views, count, 5)
    good = ((depth > 0) & ((depth - depth[..., :1]).abs() <= max_step * depth[..., :1])).all(dim=-1)
    normal = torch.cross(point[..., 1, :] - point[..., 2, :], point[..., 3, :] - point[..., 4, :], dim=-1)
    normal = torch.nn.functional.normalize(normal, dim=-1)
    away = (normal * point[..., 0, :]).sum(dim=-1, keepdim=True) > 0
    normal = torch.where(away, -normal, normal) * good[..., None]
    world_from_camera = cameras.extrinsic[..., :3, :3].transpose(-1, -2)
    return torch.einsum("bvij,bvpj->bvpi", world_from_camera, normal).reshape(batch, -1, 3)


@MODELS.register()
class RaySampler:
    """Chooses random pixels of every view, without replacement: with measured depth alone, or a share of others.

    Indoors depth is dense, and rays go through measured pixels (PonderV2, section 3.4). LiDAR measures few pixels of an
    image: there a share of the rays goes through those, and the rest anywhere, for colour (UniPAD, arXiv 2310.08370,
    section 3.4). Rays without measured depth have the target distance 0, which the losses of depth leave out.

    Args:
        num_rays: Rays per view. A view with fewer pixels to choose from gives all it has; the rest are invalid.
        near_m: Distance from the camera at which rays begin, metres.
        with_normals: Also make target normals from the depth images, for ``NormalLoss``.
        depth_share: Share of a view's rays that go through pixels with measured depth, fewer where the view has fewer;
            all others go through any pixels of the view. With 1 no ray goes through a pixel without depth.
    """

    def __init__(
        self, num_rays: int = 256, near_m: float = 0.01, with_normals: bool = False, depth_share: float = 1.0
    ) -> None:
        if num_rays < 1:
            raise ValueError(f"num_rays must be at least 1: got {num_rays}.")
        if not 0 <= depth_share <= 1:
            raise ValueError(f"depth_share must lie in 0..1: got {depth_share}.")
        self.num_rays = num_rays
        self.near_m = near_m
        self.with_normals = with_normals
        self.depth_share = depth_share

    def __call__(
        self, cameras: CameraBatch, box: Float[Tensor, "B 2 3"], seed: Int[Tensor, "B"]
    ) -> tuple[RayBatch, RayTargets]:
        """Rays that start in the box's world frame, with what the images say of them."""
        batch, views, height, width = cameras.depth.shape
        priority = random.uniform(seed, (views, height * width), stream=_PIXEL_STREAM)
        priority = priority.masked_fill(cameras.depth.flatten(2) <= 0, 2.0)
        count = min(self.num_rays, height * width)
        if self.depth_share < 1:
            # The measured pixels first, then any pixel inside the view.
            num_measured = min(round(self.depth_share * self.num_rays), count)
            first, where = priority.topk(num_measured, dim=-1, largest=False)
            row, column = (torch.arange(size, device=priority.device) for size in (height, width))
            in_view = (row < cameras.size_px[..., :1])[..., :, None] & (column < cameras.size_px[..., 1:])[..., None, :]
            others = random.uniform(seed, (views, height * width), stream=_OTHER_PIXEL_STREAM)
            others = others.masked_fill(~in_view.flatten(2), 2.0)
            priority = others.scatter(2, where, torch.where(first < 2.0, first - 1, others.gather(2, where)))
        chosen_priority, chosen = priority.topk(count, dim=-1, largest=False)
        eligible = (chosen_priority < 2.0).reshape(batch, -1)
        pixel = torch.stack((chosen % width, chosen // width), dim=-1)
        rays, targets, _ = make_rays(cameras, box, pixel, near_m=self.near_m)
        if self.with_normals:
            targets = targets.replace(normal=measured_normals(cameras, pixel))
        return rays.replace(valid=rays.valid & eligible), targets
