"""Feature maps of views: making images small for an image network, and reading maps at the pixels of rays."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def resize_views(
    image: Float[Tensor, "_N C _H _W"], size_px: Int[Tensor, "_N 2"], size: tuple[int, int]
) -> Float[Tensor, "_N C _h _w"]:
    """Images of any sizes, padded to one, as images of one size without padding; anti-aliased, bilinear.

    The same as ``interpolate(mode="bilinear", antialias=True)`` of each image on its own, in two matrix products for
    all of them and without a wait for the device. An image of size 0 gives zeros.

    Args:
        image: Images, padded at the right and at the bottom.
        size_px: Height and width of each before padding.
        size: Height and width of the result.
    """
    rows = _resize_weights(size_px[:, 0], image.shape[-2], size[0]).to(image.dtype)
    columns = _resize_weights(size_px[:, 1], image.shape[-1], size[1]).to(image.dtype)
    return rows[:, None] @ image @ columns[:, None].transpose(-1, -2)


def read_feature_maps(
    maps: Float[Tensor, "B V _C _h _w"], pixel: Int[Tensor, "B R 3"], size_px: Int[Tensor, "B V 2"]
) -> Float[Tensor, "B R _C"]:
    """Features at pixels, bilinear; zero for rays of no pixel.

    A map covers its whole view, so that cell i of n spans the share i/n to (i+1)/n of it, and the centre of pixel u of
    U lies at the share (u + 0.5) / U (``align_corners=False``). Beyond the outermost centres the nearest cells count.

    Args:
        maps: One map per view.
        pixel: View, column and row of each ray; view -1 = none.
        size_px: Height and width of each view, without padding.
    """
    batch, views, channels, height, width = maps.shape
    exists = pixel[..., 0] >= 0
    view = pixel[..., 0].clamp(min=0) + views * torch.arange(batch, device=pixel.device)[:, None]
    size = size_px.flatten(0, 1).index_select(0, view.flatten()).view(*view.shape, 2).clamp(min=1)
    column, column_share = _cells(pixel[..., 1], size[..., 1], width)
    row, row_share = _cells(pixel[..., 2], size[..., 0], height)
    index, weight = [], []
    for down in (0, 1):
        for right in (0, 1):
            y, x = (row + down).clamp(max=height - 1), (column + right).clamp(max=width - 1)
            index.append((view * height + y) * width + x)
            weight.append((row_share if down else 1 - row_share) * (column_share if right else 1 - column_share))
    rows = maps.permute(0, 1, 3, 4, 2).reshape(-1, channels)
    weights = (torch.stack(weight, dim=-1) * exists[..., None]).to(rows.dtype)
    read = F.embedding_bag(
        torch.stack(index, dim=-1).flatten(0, 1), rows, per_sample_weights=weights.flatten(0, 1), mode="sum"
    )
    return read.view(*view.shape, channels)


def _cells(pixel: Tensor, size: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The cell at or before each pixel, and how far the pixel is on the way to the next."""
    position = ((pixel + 0.5) * (count / size) - 0.5).clamp(0, count - 1)
    cell = position.floor()
    return cell.long(), position - cell


def _resize_weights(size: Int[Tensor, "N"], padded: int, count: int) -> Float[Tensor, "N _o _i"]:
    """How much each of the ``padded`` inputs, of which ``size`` are real, counts in each of ``count`` outputs."""
    scale = size[:, None, None].double() / count
    center = scale * (torch.arange(count, device=size.device)[:, None] + 0.5)
    source = torch.arange(padded, device=size.device)
    weight = (1 - (source + 0.5 - center).abs() / scale.clamp(min=1)).clamp(min=0) * (source < size[:, None, None])
    return weight / weight.sum(dim=-1, keepdim=True).clamp(min=1e-9)
