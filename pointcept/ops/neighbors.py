"""Neighbours inside each cloud of a batch: nearest, within a radius, and a spread-out subset of the points.

Three back ends give the same distances; which of several equally distant points they name may differ. ``auto`` takes
SciPy's k-d tree on a CPU, on a GPU torch-cluster where it is installed and can do what is asked, and plain torch
otherwise; the environment variable ``POINTCEPT_NEIGHBORS`` and the ``backends`` of a config change what it takes, as
:mod:`pointcept.ops.backends` describes. Nothing here is differentiable.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from pointcept.ops.backends import NEIGHBORS
from pointcept.structures.base import require

_MAX_DISTANCES = 2**24  # that plain torch holds at a time
_MAX_CLUSTER_K = 100  # of torch-cluster's CUDA kernel


class Neighbors(NamedTuple):
    """For each query up to K points, the nearest first.

    Attributes:
        index: Row of the point among all points; -1 where there are fewer than K.
        distance: Metres; infinite where there are fewer than K.
    """

    index: Int[Tensor, "M K"]
    distance: Float[Tensor, "M K"]


class Samples(NamedTuple):
    """Some points of each cloud.

    Attributes:
        index: Row of each chosen point among all points, in the order of choice.
        offset: Cumulative end of each cloud in ``index``.
    """

    index: Int[Tensor, "S"]
    offset: Int[Tensor, "B"]


def knn(
    coord: Float[Tensor, "_N _XYZ"],
    offset: Int[Tensor, "_B"],
    *,
    k: int,
    query_coord: Float[Tensor, "_M _XYZ"] | None = None,
    query_offset: Int[Tensor, "_B"] | None = None,
    backend: str = "auto",
) -> Neighbors:
    """The ``k`` nearest points of the same cloud; a point that is a query itself is its own first neighbour.

    Args:
        coord: Position of the points, metres; clouds one after the other. Finite: checked on a CPU only.
        offset: Cumulative end of each cloud; clouds may be empty.
        k: Number of neighbours; those that a smaller cloud lacks are marked.
        query_coord: Positions to search from; None takes the points themselves.
        query_offset: Cumulative end of each cloud's queries; given if and only if ``query_coord`` is.
        backend: ``auto``, ``torch``, ``scipy`` or ``torch_cluster``.

    Raises:
        ValueError: the sizes contradict each other, a coordinate is not finite, or the back end is unknown, not
            installed or not able to do this.
    """
    return _nearest(coord, offset, k, "k", query_coord, query_offset, backend, limit=float("inf"))


def radius_search(
    coord: Float[Tensor, "_N _XYZ"],
    offset: Int[Tensor, "_B"],
    *,
    radius_m: float,
    max_neighbors: int,
    query_coord: Float[Tensor, "_M _XYZ"] | None = None,
    query_offset: Int[Tensor, "_B"] | None = None,
    backend: str = "auto",
) -> Neighbors:
    """The points of the same cloud at most ``radius_m`` away; of more than ``max_neighbors`` the nearest ones.

    Arguments and errors that are not listed are those of :func:`knn`.

    Args:
        coord: Position of the points, metres.
        offset: Cumulative end of each cloud.
        radius_m: Largest distance, metres; it still counts.
        max_neighbors: K of the result.
        query_coord: Positions to search from.
        query_offset: Cumulative end of each cloud's queries.
        backend: ``auto``, ``torch``, ``scipy`` or ``torch_cluster``.

    Raises:
        ValueError: the radius is not positive.
    """
    require(radius_m > 0, f"radius_m must be positive: got {radius_m}. Give a length in metres.")
    found = _nearest(coord, offset, max_neighbors, "max_neighbors", query_coord, query_offset, backend, limit=radius_m)
    outside = found.distance > radius_m
    return Neighbors(found.index.masked_fill(outside, -1), found.distance.masked_fill(outside, float("inf")))


def farthest_point_sampling(
    coord: Float[Tensor, "_N _XYZ"],
    offset: Int[Tensor, "_B"],
    *,
    num_samples: int | Int[Tensor, "_B"],
    backend: str = "auto",
) -> Samples:
    """Points of each cloud, beginning with its first, each farthest from those chosen before it.

    SciPy has no such search: where the environment or the config asks for it, plain torch samples. Of points that
    coincide torch-cluster may choose one repeatedly.

    Args:
        coord: Position of the points, metres; clouds one after the other.
        offset: Cumulative end of each cloud; clouds may be empty.
        num_samples: Number for every cloud, or for each; a smaller cloud is taken whole.
        backend: ``auto``, ``torch`` or ``torch_cluster``.

    Raises:
        ValueError: the sizes contradict each other, a coordinate is not finite, or the back end cannot do this.
    """
    _check_cloud("coord", coord, "offset", offset)
    require(backend != "scipy", "SciPy has no farthest point sampling: got backend='scipy'. Use 'torch' or 'auto'.")
    wanted = torch.as_tensor(num_samples, device=offset.device).expand(offset.shape)
    require(
        bool((wanted >= 0).all()), f"num_samples must be at least 0: got {wanted.tolist()}. Give a number of points."
    )
    counts = torch.diff(offset, prepend=offset.new_zeros(1))
    taken = torch.minimum(wanted, counts)
    chosen = _backend_for(coord, backend, can_use=lambda name: name != "scipy")
    sample = _sample_with_torch_cluster if chosen == "torch_cluster" else _sample_with_torch
    used = (taken > 0).nonzero().view(-1)
    if not len(used):
        return Samples(offset.new_zeros(0).long(), torch.zeros_like(offset))
    starts = (offset - counts)[used]
    index = sample(_floating(coord), starts, counts[used], taken[used])
    return Samples(index, taken.cumsum(0).to(offset.dtype))


def chosen_backend(device: torch.device | str) -> str:
    """What ``auto`` takes for a search on a device.

    Raises:
        ValueError: ``POINTCEPT_NEIGHBORS`` names something else than an installed back end.
    """
    return _backend_for(torch.empty(0, 3, device=device), "auto", can_use=lambda name: True)


def _backend_for(coord: Tensor, backend: str, can_use: Callable[[str], bool]) -> str:
    name = NEIGHBORS.requested(backend)
    if name == "auto":
        preferred = "torch_cluster" if coord.is_cuda else "scipy"
        return preferred if can_use(preferred) and NEIGHBORS.is_installed(preferred) else "torch"
    # What the whole process is asked to use gives way where it cannot do this; what the caller asks for does not.
    return name if backend != "auto" or can_use(name) else "torch"


def _nearest(
    coord: Tensor,
    offset: Tensor,
    k: int,
    k_name: str,
    query_coord: Tensor | None,
    query_offset: Tensor | None,
    backend: str,
    *,
    limit: float,
) -> Neighbors:
    require(k >= 1, f"{k_name} must be at least 1: got {k}. Ask for a neighbour.")
    require(
        (query_coord is None) == (query_offset is None),
        "query_coord and query_offset must be given together: got one of them. Give both or neither.",
    )
    _check_cloud("coord", coord, "offset", offset)
    if query_coord is None or query_offset is None:
        query_coord, query_offset = coord, offset
    else:
        _check_cloud("query_coord", query_coord, "query_offset", query_offset)
    require(
        len(offset) == len(query_offset),
        f"Points and queries must have the same clouds: got {len(offset)} and {len(query_offset)}. An empty cloud "
        "needs its entry in offset too.",
    )
    fits_cluster = not coord.is_cuda or k <= _MAX_CLUSTER_K
    chosen = _backend_for(coord, backend, can_use=lambda name: name != "torch_cluster" or fits_cluster)
    require(
        chosen != "torch_cluster" or fits_cluster,
        f"torch_cluster finds at most {_MAX_CLUSTER_K} neighbours on a GPU: got {k_name}={k}. Use backend='torch'.",
    )
    points, queries = _floating(coord), _floating(query_coord)
    with torch.no_grad():
        index = _SEARCHES[chosen](points, offset, queries, query_offset, k, limit)
        is_found = index >= 0
        if not len(points):
            distance = queries.new_full(index.shape, float("inf"))
        else:  # measured here, so that the same points have the same distances whoever found them
            found = points.index_select(0, index.clamp(min=0).view(-1)).view(*index.shape, 3)
            distance = (found - queries[:, None]).norm(dim=2).masked_fill(~is_found, float("inf"))
        distance, order = distance.sort(dim=1, stable=True)
    return Neighbors(index.gather(1, order), distance)


def _search_with_torch(
    points: Tensor, offset: Tensor, queries: Tensor, query_offset: Tensor, k: int, limit: float
) -> Tensor:
    index = torch.full((len(queries), k), -1, dtype=torch.long, device=points.device)
    for (start, end), (first, last) in zip(_ranges(offset), _ranges(query_offset)):
        if start == end:
            continue
        rows = max(1, _MAX_DISTANCES // (end - start))
        for low in range(first, last, rows):
            high = min(low + rows, last)
            distance = torch.cdist(queries[low:high], points[start:end], compute_mode="donot_use_mm_for_euclid_dist")
            nearest = distance.topk(min(k, end - start), dim=1, largest=False, sorted=False).indices
            index[low:high, : nearest.shape[1]] = nearest + start
    return index


def _search_with_scipy(
    points: Tensor, offset: Tensor, queries: Tensor, query_offset: Tensor, k: int, limit: float
) -> Tensor:
    index = np.full((len(queries), k), -1, dtype=np.int64)
    all_points, all_queries = points.cpu().numpy(), queries.cpu().numpy()
    for (start, end), (first, last) in zip(_ranges(offset), _ranges(query_offset)):
        if start == end or first == last:
            continue
        ranks = np.arange(1, min(k, end - start) + 1)  # a list of ranks keeps the result two-dimensional
        bound = limit * (1 + 1e-6)  # SciPy leaves out the bound itself
        _, nearest = cKDTree(all_points[start:end]).query(
            all_queries[first:last], k=ranks, distance_upper_bound=bound, workers=torch.get_num_threads()
        )
        is_found = nearest < end - start
        index[first:last, : len(ranks)] = np.where(is_found, nearest + start, -1)
    return torch.from_numpy(index).to(points.device)


def _search_with_torch_cluster(
    points: Tensor, offset: Tensor, queries: Tensor, query_offset: Tensor, k: int, limit: float
) -> Tensor:
    index = torch.full((len(queries), k), -1, dtype=torch.long, device=points.device)
    if not len(points) or not len(queries):
        return index
    row, found = NEIGHBORS.load("torch_cluster").knn(
        points, queries, k, _batch_index(offset), _batch_index(query_offset), batch_size=len(offset)
    )
    row, order = row.sort(stable=True)
    counts = torch.bincount(row, minlength=len(queries))
    rank = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts).index_select(0, row)
    index[row, rank] = found.index_select(0, order)
    return index


_SEARCHES = {"torch": _search_with_torch, "scipy": _search_with_scipy, "torch_cluster": _search_with_torch_cluster}


@torch.no_grad()
def _sample_with_torch(points: Tensor, starts: Tensor, counts: Tensor, taken: Tensor) -> Tensor:
    """All clouds at once, padded to the largest; one step per sample of the largest number."""
    length, num_steps = int(counts.max()), int(taken.max())
    column = torch.arange(length, device=points.device)
    is_point = column < counts[:, None]
    padded = points[(starts[:, None] + column).clamp(max=len(points) - 1)]  # (B, L, 3)
    nearest = padded.new_full(is_point.shape, float("inf")).masked_fill(~is_point, -1.0)  # squared; -1: never chosen
    cloud = torch.arange(len(counts), device=points.device)
    chosen = starts.new_zeros(len(counts), num_steps)
    current = starts.new_zeros(len(counts))
    for step in range(num_steps):
        chosen[:, step] = current
        squared = (padded - padded[cloud, current][:, None]).square().sum(dim=2)
        nearest = torch.minimum(nearest, squared)
        nearest[cloud, current] = -1.0
        current = nearest.argmax(dim=1)
    is_taken = torch.arange(num_steps, device=points.device) < taken[:, None]
    return (chosen + starts[:, None])[is_taken]


def _sample_with_torch_cluster(points: Tensor, starts: Tensor, counts: Tensor, taken: Tensor) -> Tensor:
    ends = counts.cumsum(0)
    ptr = torch.cat([ends.new_zeros(1), ends])
    rows = torch.arange(int(ends[-1]), device=points.device)
    rows = rows + torch.repeat_interleave(starts - ptr[:-1], counts)  # clouds of which nothing is taken are left out
    ratio = (taken.double() - 0.5) / counts  # rounded up to the wanted number there
    index = NEIGHBORS.load("torch_cluster").fps(points.index_select(0, rows), ratio=ratio, random_start=False, ptr=ptr)
    return rows.index_select(0, index)


def _check_cloud(name: str, coord: Tensor, offset_name: str, offset: Tensor) -> None:
    require(
        coord.ndim == 2 and coord.shape[1] == 3,
        f"{name} must have shape (N, 3): got {tuple(coord.shape)}. Give x, y, z.",
    )
    ends = offset.tolist()
    require(
        (ends[-1] if ends else 0) == len(coord) and all(a <= b for a, b in zip([0, *ends], ends)),
        f"{offset_name} must rise from 0 to the {len(coord)} points of {name}: got {ends}. Give each cloud's end.",
    )
    if not coord.is_cuda:
        bad = int((~coord.isfinite()).any(dim=1).sum())
        require(bad == 0, f"{name} must be finite: got {bad} points that are not. Remove them.")


def _floating(coord: Tensor) -> Tensor:
    return (coord if coord.dtype == torch.float64 else coord.float()).detach().contiguous()


def _ranges(offset: Tensor) -> list[tuple[int, int]]:
    ends = offset.tolist()
    return list(zip([0, *ends], ends))


def _batch_index(offset: Tensor) -> Tensor:
    counts = torch.diff(offset, prepend=offset.new_zeros(1))
    return torch.repeat_interleave(torch.arange(len(offset), device=offset.device), counts)
