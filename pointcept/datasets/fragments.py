"""Cutting a cloud into pieces that a network can take, so that every point is predicted: tiles, and voxel fragments."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int64

from pointcept.datasets.transforms.sampling import grid_indices, voxel_keys
from pointcept.utils.arrays import stable_order


@dataclasses.dataclass(frozen=True)
class Tile:
    """A part of a cloud.

    Attributes:
        core: Rows of the points that are predicted here, in rising order; every point is in the core of one tile.
        context: Rows of the points that the network sees: the core, and its surroundings.
        core_in_context: Where in ``context`` the core is.
    """

    core: Int64[np.ndarray, "_N"]
    context: Int64[np.ndarray, "_M"]
    core_in_context: Int64[np.ndarray, "_N"]


def tiles(coord: Float[np.ndarray, "N 3"], max_points: int, overlap_m: float) -> Iterator[Tile]:
    """Cuts a cloud at medians, across its longest side, until no core has more than ``max_points``.

    Args:
        coord: Metres.
        max_points: Of the core; a cloud that has no more is one tile.
        overlap_m: Width of the surroundings of a core that the network sees too, metres.
    """
    parts = [np.arange(len(coord))]
    while parts:
        rows = parts.pop()
        part = coord[rows]
        low, high = part.min(axis=0, initial=np.inf), part.max(axis=0, initial=-np.inf)
        if len(rows) > max_points:
            order = np.argpartition(part[:, np.argmax(high - low)], len(rows) // 2)
            parts += [rows[order[len(rows) // 2 :]], rows[order[: len(rows) // 2]]]
            continue
        core = np.sort(rows)
        if len(rows) == len(coord):
            yield Tile(core, core, core)
            return
        context = np.flatnonzero(((coord >= low - overlap_m) & (coord <= high + overlap_m)).all(axis=1))
        yield Tile(core, context, np.searchsorted(context, core))


class VoxelFragments:
    """Several samplings of a cloud with one point per voxel that together take every point.

    Fragment i takes the point i mod n of a voxel with n points. There are as many fragments as the fullest voxel has
    points. ``max_fragments`` limits their number, since one dense voxel would multiply the cost of the whole cloud;
    then the points of fuller voxels that no fragment takes get the result of a point of their voxel.

    Args:
        coord: Metres.
        grid_size: Voxel edge, metres.
        max_fragments: Largest number of fragments; None for no limit.
    """

    def __init__(self, coord: Float[np.ndarray, "N 3"], grid_size: float, max_fragments: int | None = None) -> None:
        grid = grid_indices(coord, grid_size)
        keys = voxel_keys(grid)
        self._order = stable_order(keys)
        self._starts = np.flatnonzero(np.diff(keys[self._order], prepend=-1) != 0)
        self._counts = np.diff(self._starts, append=len(keys))
        self.grid_coord = grid[self._order[self._starts]]
        fullest = int(self._counts.max(initial=1))
        self._num = fullest if max_fragments is None else min(fullest, max_fragments)
        rank = np.arange(len(keys)) - np.repeat(self._starts, self._counts)
        left_over = np.flatnonzero(rank >= self._num)
        self._left_over = (self._order[left_over], np.repeat(np.arange(len(self._starts)), self._counts)[left_over])
        self._left_over_fragment = rank[left_over] % self._num

    def __len__(self) -> int:
        return self._num

    def rows(self, index: int) -> Int64[np.ndarray, "V"]:
        """The point that a fragment takes of each voxel; ``grid_coord`` (V, 3) has the voxels' indices."""
        return self._order[self._starts + index % self._counts]

    def left_over(self, index: int) -> tuple[Int64[np.ndarray, "L"], Int64[np.ndarray, "L"]]:
        """Points that no fragment takes and that get the result of this one, and the voxel whose result it is."""
        points, voxels = self._left_over
        chosen = self._left_over_fragment == index
        return points[chosen], voxels[chosen]
