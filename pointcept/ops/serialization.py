"""Space-filling curves: the place of each voxel along z-order and Hilbert curves through its cloud."""

import functools
from collections.abc import Sequence

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

ORDERS = ("z", "z-trans", "hilbert", "hilbert-trans")

# Grids inside [0, 2^16) stay where they are, as in Pointcept, whose curves end there; others move to their own corner.
_KEPT_EXTENT = 2**16
_KEY_BITS = 63


def serialize(
    grid_coord: Shaped[Tensor, "N 3"],
    batch_index: Int[Tensor, "N"],
    batch_size: int,
    orders: Sequence[str],
    *,
    alignment: int = 1,
) -> Int[Tensor, "K N"]:
    """Sort keys of voxels along each of K curves: the cloud in the highest bits, the place along its curve below.

    The key of a voxel depends on its own cloud alone. Shifting all keys right by 3 bits gives the keys of the voxels of
    twice the size. Clouds with negative indices, or indices from 2^16 on, are moved to their minimum corner first, so
    that only their extent is limited. Waits for the device once.

    Args:
        grid_coord: Voxel index of each point; may be negative.
        batch_index: Cloud of each point.
        batch_size: Number of clouds; clouds may be empty.
        orders: Names of the curves, from ``ORDERS``; ``-trans`` exchanges x and y.
        alignment: Edge, in voxels, of the coarsest voxels that keys are going to be shifted to. Clouds move by whole
            multiples of it.

    Raises:
        ValueError: an unknown curve, coordinates that are no integers, or an extent that does not fit 63 bits together
            with the number of clouds.
    """
    for order in orders:
        if order not in ORDERS:
            raise ValueError(f"order must name curves among {', '.join(ORDERS)}: got {order!r}. Correct the name.")
    if grid_coord.is_floating_point():
        raise ValueError(
            f"Voxel indices must be integers: got {grid_coord.dtype}. Divide coordinates by the voxel size and round "
            "down first."
        )
    if grid_coord.shape[0] == 0:
        return grid_coord.new_zeros(len(orders), 0, dtype=torch.int64)
    local, largest = _local_grid(grid_coord.long(), batch_index, batch_size, alignment)
    extent = int(largest.max())
    depth = max(extent.bit_length(), 1)
    batch_bits = (batch_size - 1).bit_length()
    if extent < 0 or 3 * depth + batch_bits > _KEY_BITS:
        raise ValueError(
            f"The extent of every cloud must fit curve keys of {_KEY_BITS} bits: got {batch_size} clouds, which leave "
            f"{(_KEY_BITS - batch_bits) // 3} bits per axis, and an extent of {extent + 1} voxels. Remove outliers, "
            "crop the clouds, or use larger voxels."
        )
    # A Hilbert curve is turned by every doubling of the cube that it fills: each cloud fills a cube of its own size.
    own_depth = _bit_length(largest + 1).index_select(0, batch_index)
    codes = [_encode(local, depth, own_depth, order) for order in orders]
    return torch.stack(codes) | (batch_index.long() << (3 * depth))


def z_order(grid_coord: Int[Tensor, "N 3"]) -> Int[Tensor, "N"]:
    """Place along the z-order (Morton) curve; x has the highest bit of each triple. Indices in [0, 2^21)."""
    x, y, z = (_spread_bits(axis) for axis in grid_coord.unbind(1))
    return (x << 2) | (y << 1) | z


def hilbert_order(grid_coord: Int[Tensor, "N 3"], depth: int) -> Int[Tensor, "N"]:
    """Place along the Hilbert curve that fills a cube of 2^depth voxels. Indices in [0, 2^depth), depth at most 21.

    Source: written from J. Skilling, "Programming the Hilbert curve", AIP Conference Proceedings 707, 2004.
    """
    axes = list(grid_coord.unbind(1))
    for bit in range(depth - 1, -1, -1):
        lower = (1 << bit) - 1
        for axis in range(3):
            is_set = (axes[axis] >> bit) & 1
            # Where the bit is set, the lower bits of x are inverted, elsewhere they are exchanged with the axis'.
            exchanged = (axes[0] ^ axes[axis]) & lower & (is_set - 1)
            axes[0] = axes[0] ^ exchanged ^ (lower * is_set)
            if axis:
                axes[axis] = axes[axis] ^ exchanged
    code = z_order(torch.stack(axes, dim=1))
    for shift in (1, 2, 4, 8, 16, 32):  # from Gray code to binary
        code = code ^ (code >> shift)
    return code


def _encode(grid_coord: Int[Tensor, "N 3"], depth: int, own_depth: Int[Tensor, "N"], order: str) -> Int[Tensor, "N"]:
    curve, _, transposed = order.partition("-")
    if transposed:
        x, y, z = grid_coord.unbind(1)  # a list as index would be copied to the device, which waits
        grid_coord = torch.stack((y, x, z), dim=1)
    if curve == "z":
        return z_order(grid_coord)
    # Each level of zeros above a cloud's own cube would exchange the axes cyclically; start from the inverse of that.
    turn = torch.remainder(depth - own_depth, 3)[:, None]
    axis = torch.remainder(torch.arange(3, device=grid_coord.device) + turn, 3)
    return hilbert_order(grid_coord.gather(1, axis), depth)


def _local_grid(
    grid_coord: Int[Tensor, "N 3"], batch_index: Int[Tensor, "N"], batch_size: int, alignment: int
) -> tuple[Int[Tensor, "N 3"], Int[Tensor, "B"]]:
    """Non-negative voxel indices, and the largest one of each cloud (0 for an empty cloud)."""
    limits = torch.iinfo(torch.int64)
    index = batch_index[:, None].expand(-1, 3)
    reduce = functools.partial(torch.Tensor.scatter_reduce, dim=0, index=index, src=grid_coord)
    lowest = reduce(grid_coord.new_full((batch_size, 3), limits.max), reduce="amin")
    highest = reduce(grid_coord.new_full((batch_size, 3), limits.min), reduce="amax")
    kept = (lowest.amin(1) >= 0) & (highest.amax(1) < _KEPT_EXTENT)
    corner = torch.where(kept[:, None], 0, lowest - torch.remainder(lowest, alignment))
    extent = highest - corner
    # An extent beyond 63 bits wraps around to a negative number: report it as too large.
    extent = torch.where((highest >= lowest) & (extent < 0), limits.max - 1, extent)
    largest = torch.where(highest < lowest, 0, extent).amax(1)
    return grid_coord - corner.index_select(0, batch_index), largest


def _bit_length(value: Int[Tensor, "B"]) -> Int[Tensor, "B"]:
    """Number of bits of non-negative values below 2^53."""
    return torch.frexp(value.double()).exponent.long()


def _spread_bits(value: Int[Tensor, "N"]) -> Int[Tensor, "N"]:
    """Two zero bits between any two of the lowest 21 bits."""
    for shift, mask in (
        (32, 0x1F00000000FFFF),
        (16, 0x1F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    ):
        value = (value | (value << shift)) & mask
    return value
