"""Neighbour search against brute force, for every back end that is installed."""

import sys
import types

import numpy as np
import pytest
import torch

from pointcept.ops import backends as packages
from pointcept.ops import neighbors
from pointcept.ops.backends import NEIGHBORS
from pointcept.ops.neighbors import chosen_backend, farthest_point_sampling, knn, radius_search

BACKENDS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(version is None, reason=f"{name} is not installed"),
    )
    for name, version in NEIGHBORS.versions().items()
]
backends = pytest.mark.parametrize("backend", BACKENDS)
samplers = pytest.mark.parametrize("backend", [entry for entry in BACKENDS if entry.values != ("scipy",)])


@pytest.fixture(autouse=True)
def no_choice(monkeypatch):
    monkeypatch.delenv(NEIGHBORS.variable, raising=False)
    packages._load.cache_clear()
    yield
    packages._load.cache_clear()


def clouds(*counts, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    coord = scale * torch.rand(sum(counts), 3, generator=generator)
    return coord, torch.tensor(counts, dtype=torch.long).cumsum(0)


def brute_force(coord, offset, query_coord, query_offset, k, radius=np.inf):
    """Sorted distances (M, k), infinite where there are fewer, and the clouds' ranges of each query."""
    coord, query_coord = coord.double().numpy(), query_coord.double().numpy()
    distance = np.full((len(query_coord), k), np.inf)
    ranges = []
    starts, query_starts = [0, *offset.tolist()], [0, *query_offset.tolist()]
    for cloud in range(len(offset)):
        points = coord[starts[cloud] : starts[cloud + 1]]
        for row in range(query_starts[cloud], query_starts[cloud + 1]):
            found = np.sort(np.sqrt(((points - query_coord[row]) ** 2).sum(1)))[:k]
            found = found[found <= radius]
            distance[row, : len(found)] = found
            ranges.append((starts[cloud], starts[cloud + 1]))
    return distance, ranges


def check(found, coord, offset, query_coord, query_offset, k, radius=np.inf):
    distance, ranges = brute_force(coord, offset, query_coord, query_offset, k, radius)
    assert found.index.shape == found.distance.shape == (len(query_coord), k)
    np.testing.assert_allclose(found.distance.numpy(), distance, rtol=1e-5, atol=1e-7)
    for index, own, (start, end), query in zip(found.index, found.distance, ranges, query_coord, strict=True):
        assert torch.equal(index >= 0, own.isfinite())
        index = index[index >= 0]
        assert ((index >= start) & (index < end)).all() and len(index.unique()) == len(index)
        torch.testing.assert_close((coord[index] - query).norm(dim=1), own[own.isfinite()].to(coord.dtype))


@backends
@pytest.mark.parametrize("counts", [(40,), (30, 0, 1, 25), (0, 7, 0), (0,), (0, 0), ()])
@pytest.mark.parametrize("k", [1, 4, 33])
def test_knn_of_the_points_themselves(backend, counts, k):
    coord, offset = clouds(*counts)
    found = knn(coord, offset, k=k, backend=backend)
    check(found, coord, offset, coord, offset, k)
    assert torch.equal(found.index[:, 0], torch.arange(len(coord)))  # itself


@backends
@pytest.mark.parametrize(("counts", "query_counts"), [((30, 0, 20), (5, 4, 0)), ((0, 0), (2, 0)), ((3, 3), (0, 9))])
def test_knn_and_radius_of_other_queries(backend, counts, query_counts):
    coord, offset = clouds(*counts)
    query_coord, query_offset = clouds(*query_counts, seed=1)
    queries = {"query_coord": query_coord, "query_offset": query_offset, "backend": backend}
    check(knn(coord, offset, k=5, **queries), coord, offset, query_coord, query_offset, 5)
    found = radius_search(coord, offset, radius_m=0.3, max_neighbors=6, **queries)
    check(found, coord, offset, query_coord, query_offset, 6, 0.3)


@backends
@pytest.mark.parametrize("max_neighbors", [1, 5, 64])
@pytest.mark.parametrize("radius", [1e-3, 0.25, 10.0])
def test_radius_search(backend, max_neighbors, radius):
    coord, offset = clouds(30, 0, 1, 25)
    found = radius_search(coord, offset, radius_m=radius, max_neighbors=max_neighbors, backend=backend)
    check(found, coord, offset, coord, offset, max_neighbors, radius)


@backends
def test_a_point_exactly_on_the_radius_counts(backend):
    coord, offset = torch.tensor([[0.0, 0, 0], [0.5, 0, 0], [0.5000001, 0, 0]]), torch.tensor([3])
    found = radius_search(coord, offset, radius_m=0.5, max_neighbors=3, backend=backend)
    assert found.index[0].tolist() == [0, 1, -1]
    assert found.distance[0].tolist() == [0.0, 0.5, float("inf")]


@backends
def test_ties_and_coinciding_points(backend):
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    coord = torch.cat([corners, corners, torch.full((3, 3), 0.5)])
    offset = torch.tensor([len(coord)])
    for k in (1, 5, 12, 19):
        check(knn(coord, offset, k=k, backend=backend), *[coord, offset] * 2, k)
    check(radius_search(coord, offset, radius_m=1.0, max_neighbors=9, backend=backend), *[coord, offset] * 2, 9, 1.0)


@backends
def test_far_from_the_origin_and_in_double_precision(backend):
    coord, offset = clouds(50)
    coord = coord.double() + torch.tensor([4e6, -3e5, 100.0], dtype=torch.float64)
    found = knn(coord, offset, k=7, backend=backend)
    assert found.distance.dtype == torch.float64
    check(found, coord, offset, coord, offset, 7)


@backends
def test_by_hand(backend):
    coord = torch.tensor([[0.0, 0, 0], [3, 4, 0], [1, 0, 0], [100, 0, 0], [100, 0, 2]])
    found = knn(coord, torch.tensor([3, 5]), k=3, backend=backend)
    assert found.index.tolist() == [[0, 2, 1], [1, 2, 0], [2, 0, 1], [3, 4, -1], [4, 3, -1]]
    torch.testing.assert_close(found.distance[0], torch.tensor([0.0, 1.0, 5.0]))


def test_plain_torch_gives_the_same_in_chunks(monkeypatch):
    coord, offset = clouds(50, 30)
    whole = knn(coord, offset, k=5, backend="torch")
    monkeypatch.setattr(neighbors, "_MAX_DISTANCES", 170)
    assert torch.equal(knn(coord, offset, k=5, backend="torch").index, whole.index)


def farthest(coord, offset, wanted):
    """The definition, cloud by cloud."""
    chosen = []
    for cloud, (start, end) in enumerate(zip([0, *offset.tolist()], offset.tolist())):
        points, own = coord[start:end].double(), []
        for _ in range(min(wanted[cloud], end - start)):
            if own:
                distance = torch.cdist(points, points[own]).amin(1)
                own.append(int(distance.argmax()))
            else:
                own.append(0)
        chosen += [start + row for row in own]
    return chosen


@samplers
@pytest.mark.parametrize("counts", [(40,), (30, 0, 1, 25), (0, 7, 0), (0,), ()])
@pytest.mark.parametrize("num_samples", [0, 1, 6, 50])
def test_farthest_points(backend, counts, num_samples):
    coord, offset = clouds(*counts)
    found = farthest_point_sampling(coord, offset, num_samples=num_samples, backend=backend)
    assert found.index.tolist() == farthest(coord, offset, [num_samples] * len(counts))
    assert found.offset.tolist() == np.cumsum([min(num_samples, count) for count in counts]).tolist()


@samplers
def test_farthest_points_of_each_cloud_its_own_number(backend):
    coord, offset = clouds(30, 5, 20)
    found = farthest_point_sampling(coord, offset, num_samples=torch.tensor([7, 0, 20]), backend=backend)
    assert found.index.tolist() == farthest(coord, offset, [7, 0, 20])
    assert found.offset.tolist() == [7, 7, 27]


@samplers
def test_farthest_points_by_hand(backend):
    coord = torch.tensor([[0.0, 0, 0], [1, 0, 0], [10, 0, 0], [4, 0, 0]])
    found = farthest_point_sampling(coord, torch.tensor([4]), num_samples=4, backend=backend)
    assert found.index.tolist() == [0, 2, 3, 1]


def test_coinciding_points_are_each_chosen_once_by_plain_torch():
    found = farthest_point_sampling(torch.ones(6, 3), torch.tensor([6]), num_samples=6, backend="torch")
    assert sorted(found.index.tolist()) == list(range(6))


def test_the_back_end_follows_the_environment(monkeypatch):
    coord, offset = clouds(9)
    used = []
    for name, search in list(neighbors._SEARCHES.items()):
        monkeypatch.setitem(
            neighbors._SEARCHES, name, lambda *a, name=name, search=search: used.append(name) or search(*a)
        )
    assert chosen_backend("cpu") == "scipy"
    knn(coord, offset, k=2)
    monkeypatch.setenv(NEIGHBORS.variable, "torch")
    knn(coord, offset, k=2)
    knn(coord, offset, k=2, backend="scipy")  # an argument is stronger
    assert used == ["scipy", "torch", "scipy"] and chosen_backend("cpu") == "torch"
    monkeypatch.setenv(NEIGHBORS.variable, "scipy")
    assert len(farthest_point_sampling(coord, offset, num_samples=2).index) == 2
    monkeypatch.setenv(NEIGHBORS.variable, "scypi")
    with pytest.raises(ValueError, match=r"POINTCEPT_NEIGHBORS must be one of auto, torch, .*: got 'scypi'"):
        knn(coord, offset, k=2)


def test_a_missing_back_end_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_cluster", None)
    coord, offset = clouds(9)
    with pytest.raises(ValueError, match=r"backend asks for torch_cluster, which is not\. pip install torch-cluster"):
        knn(coord, offset, k=2, backend="torch_cluster")
    assert NEIGHBORS.versions()["torch_cluster"] is None
    assert chosen_backend("cpu") == "scipy"


def test_torch_clusters_results_are_brought_into_form(monkeypatch):
    """Its edge lists, of which queries with few neighbours have few, in an order of its own."""

    def fake_knn(points, queries, k, batch_x, batch_y, batch_size):
        assert (k, batch_size, batch_x.tolist(), batch_y.tolist()) == (3, 3, [0, 0, 2], [0, 0, 2])
        return torch.tensor([[1, 1, 0, 0, 2], [1, 0, 0, 1, 2]])

    def fake_fps(points, ratio, random_start, ptr):
        assert ptr.tolist() == [0, 2, 3] and not random_start and len(points) == 3
        assert torch.ceil(ratio * torch.tensor([2, 1])).tolist() == [2, 1]
        return torch.tensor([0, 1, 2])

    package = types.ModuleType("torch_cluster")
    package.knn, package.fps = fake_knn, fake_fps
    monkeypatch.setitem(sys.modules, "torch_cluster", package)
    coord = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 0, 0]])
    offset = torch.tensor([2, 2, 3])
    found = knn(coord, offset, k=3, backend="torch_cluster")
    assert found.index.tolist() == [[0, 1, -1], [1, 0, -1], [2, -1, -1]]
    samples = farthest_point_sampling(coord, offset, num_samples=5, backend="torch_cluster")
    assert samples.index.tolist() == [0, 1, 2] and samples.offset.tolist() == [2, 2, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, r"k must be at least 1: got 0"),
        ({"coord": torch.zeros(9, 2)}, r"coord must have shape \(N, 3\): got \(9, 2\)"),
        ({"offset": torch.tensor([4, 8])}, r"offset must rise from 0 to the 9 points of coord: got \[4, 8\]"),
        ({"offset": torch.tensor([9, 4, 9])}, r"offset must rise from 0 .*: got \[9, 4, 9\]"),
        ({"coord": torch.full((9, 3), float("nan"))}, r"coord must be finite: got 9 points that are not"),
        ({"query_coord": torch.zeros(1, 3)}, r"query_coord and query_offset must be given together"),
        (
            {"query_coord": torch.zeros(1, 3), "query_offset": torch.tensor([1, 1])},
            r"same clouds: got 1 and 2\. An empty cloud needs its entry",
        ),
        (
            {"query_coord": torch.zeros(1, 3), "query_offset": torch.tensor([2])},
            r"query_offset must rise from 0 to the 1 points of query_coord: got \[2\]",
        ),
        ({"backend": "faiss"}, r"backend must be one of auto, torch, scipy, torch_cluster: got 'faiss'"),
    ],
)
def test_messages(change, message):
    coord, offset = clouds(9)
    with pytest.raises(ValueError, match=message):
        knn(**{"coord": coord, "offset": offset, "k": 2, **change})


def test_messages_of_the_others():
    coord, offset = clouds(9)
    with pytest.raises(ValueError, match=r"radius_m must be positive: got 0\.0"):
        radius_search(coord, offset, radius_m=0.0, max_neighbors=3)
    with pytest.raises(ValueError, match=r"max_neighbors must be at least 1: got 0"):
        radius_search(coord, offset, radius_m=1.0, max_neighbors=0)
    with pytest.raises(ValueError, match=r"num_samples must be at least 0: got \[-1\]"):
        farthest_point_sampling(coord, offset, num_samples=-1)
    with pytest.raises(ValueError, match=r"SciPy has no farthest point sampling: got backend='scipy'"):
        farthest_point_sampling(coord, offset, num_samples=1, backend="scipy")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@backends
def test_on_a_gpu_the_same(backend):
    coord, offset = clouds(300, 0, 50)
    found = knn(coord.cuda(), offset.cuda(), k=5, backend=backend)
    torch.testing.assert_close(found.distance.cpu(), knn(coord, offset, k=5, backend="torch").distance)
