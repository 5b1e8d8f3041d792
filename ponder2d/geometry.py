"""What the cameras and the scene box say of a pixel before any image is looked at."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pointcept.registry import MODELS
from pointcept.rendering.rays import camera_rays, intersect_box
from pointcept.structures import CameraBatch
from ponder2d.depth import DepthBins

_NUM_DIRECTIONS = 2


@MODELS.register()
class BoxExitEncoding(nn.Module):
    """Encodes at which depth the line of sight of each pixel leaves the scene box, and how steeply it looks.

    In an empty room, whose box ends at its walls, this depth is the answer; elsewhere it is the farthest one possible.
    It tells the network intrinsics and pose, without which one image has no metric depth. Heights count from the box's
    floor, so that the encoding stays the same when world frame, cameras and box move together.

    Args:
        out_channels: Width of the feature map that the encoding is added to.
        bins: Intervals of depth; beyond the last the depth counts as the last one's.
    """

    def __init__(self, out_channels: int, bins: DepthBins) -> None:
        super().__init__()
        self.register_buffer("centers", bins.centers, persistent=False)
        self.embedding = nn.Sequential(
            nn.Conv2d(bins.num_bins + _NUM_DIRECTIONS, out_channels, 1),
            nn.GELU(),
            nn.Conv2d(out_channels, out_channels, 1),
        )

    def forward(
        self, cameras: CameraBatch, box: Float[Tensor, "B 2 3"], height: int, width: int
    ) -> Float[Tensor, "B V C _h _w"]:
        """The encoding of each pixel of feature maps of this size, which cover the cameras' padded images."""
        depth, steepness, eye_height = exit_depth(cameras, box, height, width)
        centers = self.centers
        upper = torch.searchsorted(centers, depth).clamp(1, len(centers) - 1)
        low, high = centers[upper - 1], centers[upper]
        part = ((depth - low) / (high - low)).clamp(0, 1)
        bins = depth.new_zeros(*depth.shape, len(centers))
        bins = bins.scatter(-1, (upper - 1)[..., None], (1 - part)[..., None]).scatter(
            -1, upper[..., None], part[..., None]
        )
        planes = torch.cat((bins, steepness[..., None], eye_height.expand_as(depth)[..., None]), dim=-1)
        encoded = self.embedding(planes.permute(0, 1, 4, 2, 3).flatten(0, 1))
        return encoded.unflatten(0, depth.shape[:2])


def exit_depth(
    cameras: CameraBatch, box: Float[Tensor, "B 2 3"], height: int, width: int
) -> tuple[Float[Tensor, "B V _h _w"], Float[Tensor, "B V _h _w"], Float[Tensor, "B V 1 1"]]:
    """Depth at which each pixel's line of sight leaves the box, 0 where it misses; its rise; the eye's height.

    The depth is along the optical axis, metres; the rise is the z component of the unit direction; the height counts
    from the box's floor, metres.
    """
    batch, views = cameras.image.shape[:2]
    scale = (cameras.image.shape[-1] / width, cameras.image.shape[-2] / height)
    row, column = torch.meshgrid(
        (torch.arange(height, device=box.device) + 0.5) * scale[1] - 0.5,
        (torch.arange(width, device=box.device) + 0.5) * scale[0] - 0.5,
        indexing="ij",
    )
    pixel = torch.stack((column, row), dim=-1).reshape(-1, 2).to(box).expand(batch, views, -1, -1)
    origin, direction, length = camera_rays(cameras.intrinsic, cameras.extrinsic, pixel)
    origins = origin[:, :, None].expand_as(direction).flatten(1, 2)
    _, far, hit = intersect_box(origins, direction.flatten(1, 2), box, near_m=0.01)
    distance = torch.where(hit, far, torch.zeros_like(far)).view(batch, views, height, width)
    eye = (origin[..., 2] - box[:, :1, 2]).view(batch, views, 1, 1)
    shape = (batch, views, height, width)
    return distance / length.view(shape), direction[..., 2].view(shape), eye
