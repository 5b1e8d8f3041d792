"""Attention inside windows of consecutive points along a curve, through torch's scaled-dot-product attention."""

import contextlib
import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel


@dataclasses.dataclass(frozen=True)
class Windows:
    """How the points of each cloud, in the order of a curve, are cut into windows.

    Full windows come first, the short windows of small clouds after them, padded to the longest. A window never reaches
    into another cloud, and a cloud's windows depend on that cloud alone.

    Attributes:
        size: Points per full window.
        num_full: Number of full windows.
        num_short: Number of short windows.
        short_size: Length of the longest short window.
        position: Place along the curve that each slot shows, the slots of all windows one after the other.
        slot: The slot from which each place along the curve reads its result.
        is_point: Which slots of the short windows are points; None where all are.
    """

    size: int
    num_full: int
    num_short: int
    short_size: int
    position: Int[Tensor, "_S"]
    slot: Int[Tensor, "_N"]
    is_point: Bool[Tensor, "_W _L"] | None


def make_windows(counts: Int[Tensor, "B"], size: int) -> Windows:
    """Cuts clouds into windows. Waits for the device once.

    A cloud of at least ``size`` points is cut from its start; its last window is filled up with the points that stand
    in the same places of the window before it. A smaller cloud is one short window.

    Args:
        counts: Number of points of each cloud; the clouds follow one another along the curve.
        size: Points per full window.

    Raises:
        ValueError: the size is not positive.
    """
    if size < 1:
        raise ValueError(f"A window must hold at least one point: got patch size {size}.")
    device, clouds = counts.device, torch.arange(counts.shape[0], device=counts.device)
    is_short = (counts > 0) & (counts < size)
    full_windows = torch.where(counts >= size, (counts + size - 1) // size, 0)
    short_counts = counts * is_short
    sums = torch.stack([full_windows, is_short.long(), short_counts, counts]).sum(1)
    longest = F.pad(short_counts, (0, 1)).amax(0, keepdim=True)
    num_full, num_short, num_in_short, num_points, short_size = torch.cat([sums, longest]).tolist()
    start = counts.cumsum(0) - counts

    first_window = full_windows.cumsum(0) - full_windows
    cloud = torch.repeat_interleave(clouds, full_windows, output_size=num_full)
    window = torch.arange(num_full, device=device) - first_window.index_select(0, cloud)
    place = window[:, None] * size + torch.arange(size, device=device)
    place = torch.where(place < counts.index_select(0, cloud)[:, None], place, place - size)
    full_position = (start.index_select(0, cloud)[:, None] + place).view(-1)

    short_rank = is_short.long().cumsum(0) - is_short.long()
    cloud = torch.repeat_interleave(clouds, is_short.long(), output_size=num_short)
    place = torch.arange(short_size, device=device).expand(num_short, -1)
    is_point = place < counts.index_select(0, cloud)[:, None]
    short_position = (start.index_select(0, cloud)[:, None] + place * is_point).view(-1)

    first_slot = torch.where(is_short, num_full * size + short_rank * short_size, first_window * size)
    slot = torch.repeat_interleave(first_slot - start, counts, output_size=num_points)
    return Windows(
        size=size,
        num_full=num_full,
        num_short=num_short,
        short_size=short_size,
        position=torch.cat([full_position, short_position]),
        slot=slot + torch.arange(num_points, device=device),
        is_point=None if num_in_short == num_short * short_size else is_point,
    )


def patch_attention(
    qkv: Float[Tensor, "N 3 H D"],
    windows: Windows,
    order: Int[Tensor, "N"],
    inverse: Int[Tensor, "N"],
    *,
    bias: Callable[[Tensor], Tensor] | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    fused: bool = True,
) -> Float[Tensor, "N H*D"]:
    """Multi-head attention of every point to the points of its window.

    Source: written from the paper, arXiv 2312.10035, section 4.

    Args:
        qkv: Queries, keys and values of each point.
        windows: The cut of the clouds.
        order: Point at each place along the curve; the clouds follow one another.
        inverse: Place of each point along the curve.
        bias: Gives the values (W, H, L, L) that are added to the scores, from the points (W, L) of the windows.
        scale: Factor of the scores; None for D^-0.5.
        dropout: Probability with which an attention weight is dropped.
        fused: Whether torch may use its flash kernels; otherwise it takes memory-efficient or plain ones.
    """
    count, _, heads, width = qkv.shape
    rows = order.index_select(0, windows.position)
    gathered = qkv.reshape(count, 3 * heads * width).index_select(0, rows)
    num_full_slots = windows.num_full * windows.size
    groups = (
        (windows.num_full, windows.size, slice(0, num_full_slots), None),
        (windows.num_short, windows.short_size, slice(num_full_slots, None), windows.is_point),
    )
    backends = contextlib.nullcontext() if fused else sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])
    results = []
    with backends:
        for num_windows, size, slots, is_point in groups:
            if num_windows == 0:
                continue
            # (window, place, part, head, channel) -> (part, window, head, place, channel)
            parts = gathered[slots].view(num_windows, size, 3, heads, width).permute(2, 0, 3, 1, 4)
            mask = None if bias is None else bias(rows[slots].view(num_windows, size)).to(parts.dtype)
            if is_point is not None:
                is_key = is_point[:, None, None, :]
                mask = is_key if mask is None else mask.masked_fill(~is_key, float("-inf"))
            result = F.scaled_dot_product_attention(*parts.unbind(0), attn_mask=mask, dropout_p=dropout, scale=scale)
            results.append(result.transpose(1, 2).reshape(num_windows * size, heads * width))
    if not results:
        return gathered[:, : heads * width]
    return torch.cat(results).index_select(0, windows.slot.index_select(0, inverse))


def relative_position_bias(table: Float[Tensor, "T H"], grid_coord: Int[Tensor, "W L 3"]) -> Float[Tensor, "W H L L"]:
    """Learned value for the difference of voxel index between query and key, one for each axis, added up.

    Args:
        table: The values of the differences from -R to R along x, then y, then z: T = 3 (2 R + 1) rows. Larger
            differences count as R.
        grid_coord: Voxel index of the points of each window.
    """
    per_axis = table.shape[0] // 3
    radius = per_axis // 2
    total = 0
    for axis, values in enumerate(table.view(3, per_axis, -1)):
        along = grid_coord[..., axis]
        index = (along[:, :, None] - along[:, None, :]).clamp(-radius, radius) + radius
        total = total + F.embedding(index, values)
    return total.permute(0, 3, 1, 2)
