"""Voxel sets and kernel maps against brute force over dictionaries."""

import itertools

import pytest
import torch

from pointcept.ops.sparse import VoxelSet, voxelize
from pointcept.ops.sparse.kernel_map import KernelMap


def scattered(count: int, *, extent: int = 6, clouds: int = 2, low: int = -3, seed: int = 0):
    """Distinct voxels of several clouds in random order, the clouds interleaved."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.cartesian_prod(*[torch.arange(length) for length in (clouds, extent, extent, extent)])
    cells = cells[torch.randperm(len(cells), generator=generator)[:count]]
    return cells[:, 1:] + low, cells[:, 0]


def rows_by_coord(voxels: VoxelSet) -> dict[tuple[int, ...], int]:
    return {tuple(coord): row for row, coord in enumerate(voxels.coord.tolist())}


def test_voxels_are_unique_and_points_find_theirs():
    grid_coord = torch.tensor([[5, 0, -2], [1, 1, 1], [5, 0, -2], [5, 0, -2]])
    batch_index = torch.tensor([1, 0, 1, 0])
    voxels, voxel_of_point = VoxelSet.from_points(grid_coord, batch_index, 3)
    assert sorted(voxels.coord.tolist()) == [[0, 1, 1, 1], [0, 5, 0, -2], [1, 5, 0, -2]]
    assert torch.equal(voxels.coord[voxel_of_point], torch.cat([batch_index[:, None], grid_coord], dim=1))


def test_voxelize_averages_the_points_of_a_voxel():
    grid_coord = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]])
    feat = torch.tensor([[1.0], [10.0], [2.0], [6.0]])
    x, voxel_of_point = voxelize(feat, grid_coord, torch.zeros(4, dtype=torch.long), 1)
    assert x.features[voxel_of_point].tolist() == [[3.0], [10.0], [3.0], [3.0]]


@pytest.mark.usefixtures("cells_per_voxel")
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_neighbours_agree_with_a_dictionary(kernel_size):
    voxels, _ = VoxelSet.from_points(*scattered(150), 2)
    table = voxels.neighbours(kernel_size).table
    rows = rows_by_coord(voxels)
    reach = range(-(kernel_size // 2), kernel_size // 2 + 1)
    for tap, shift in enumerate(itertools.product(reach, repeat=3)):
        expected = [
            rows.get((cloud, *(c + s for c, s in zip(coord, shift))), len(voxels))
            for cloud, *coord in voxels.coord.tolist()
        ]
        assert table[tap].tolist() == expected


@pytest.mark.usefixtures("cells_per_voxel")
def test_a_small_kernel_is_cut_out_of_a_larger_one():
    points = scattered(100)
    both, _ = VoxelSet.from_points(*points, 2)
    both.neighbours(5)
    alone, _ = VoxelSet.from_points(*points, 2)
    assert torch.equal(both.neighbours(3).table, alone.neighbours(3).table)


def test_neighbours_are_found_across_the_whole_range_of_a_thin_cloud():
    # Far apart along x, and edges along y and z where a careless key would run over into the next line.
    grid_coord = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [2**30, 1, 1], [2**30 - 1, 1, 1]])
    voxels, _ = VoxelSet.from_points(grid_coord, torch.zeros(6, dtype=torch.long), 1)
    present = (voxels.neighbours(3).table < 6).sum(0)
    rows = rows_by_coord(voxels)
    assert [int(present[rows[(0, *coord)]]) for coord in grid_coord.tolist()] == [4, 4, 4, 4, 2, 2]


@pytest.mark.parametrize(("kernel_size", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, 0), (2, 3, 0), (4, 2, 1)])
def test_strided_maps_agree_with_brute_force(kernel_size, stride, padding):
    voxels, _ = VoxelSet.from_points(*scattered(60, extent=5), 2)
    maps = voxels.strided(kernel_size, stride, padding)
    taps = list(itertools.product(range(kernel_size), repeat=3))
    expected = set()
    for in_row, (cloud, *coord) in enumerate(voxels.coord.tolist()):
        for tap, shift in enumerate(taps):
            scaled = [c + padding - s for c, s in zip(coord, shift)]
            if all(value % stride == 0 for value in scaled):
                expected.add((tap, in_row, (cloud, *(value // stride for value in scaled))))
    coarse = [tuple(coord) for coord in maps.voxels.coord.tolist()]
    assert len(set(coarse)) == len(coarse) and set(coarse) == {coord for *_, coord in expected}
    down, up = maps.down.table, maps.up.table
    tap, out_row = (down < len(voxels)).nonzero(as_tuple=True)
    found = zip(tap.tolist(), down[tap, out_row].tolist(), [coarse[row] for row in out_row.tolist()])
    assert set(found) == expected
    tap, in_row = (up < len(coarse)).nonzero(as_tuple=True)
    assert set(zip(tap.tolist(), in_row.tolist(), [coarse[row] for row in up[tap, in_row].tolist()])) == expected


@pytest.mark.parametrize("identity_tap", [None, 1])
def test_chunks_hold_every_pair_once_and_sum_it_into_its_row(identity_tap, monkeypatch):
    monkeypatch.setattr("pointcept.ops.sparse.kernel_map._CHUNK_ROWS", 4)
    table = torch.randint(0, 6, (3, 10), generator=torch.Generator().manual_seed(1), dtype=torch.int32)
    kernel_map = KernelMap(table, 5, identity_tap=identity_tap)
    pairs = []
    for chunk in kernel_map.plan.chunks(kernel_map.num_out):
        out_rows = chunk.out_rows
        tap = torch.repeat_interleave(torch.arange(3), torch.tensor(chunk.counts))
        assert (tap.diff() >= 0).all()
        pairs += zip(tap.tolist(), chunk.in_rows.tolist(), out_rows.tolist())
        for row in range(chunk.start, chunk.stop):
            first, last = chunk.bag_offsets[row - chunk.start : row - chunk.start + 2].tolist()
            assert (out_rows[chunk.bag_rows[first:last].long()] == row).all()
    expected = {
        (tap, int(table[tap, row]), row)
        for tap in range(3)
        for row in range(10)
        if tap != identity_tap and table[tap, row] < 5
    }
    assert len(pairs) == len(expected) and set(pairs) == expected


def test_a_cloud_a_million_metres_away_has_the_maps_of_one_at_the_origin():
    grid_coord, batch_index = scattered(80)
    shift = torch.tensor([50_000_000, -50_000_000, 50_000_000])  # 1e6 m in voxels of 2 cm
    near, _ = VoxelSet.from_points(grid_coord, batch_index, 2)
    # Only one of the clouds moves: each is packed relative to its own minimum.
    far, _ = VoxelSet.from_points(grid_coord + shift * batch_index[:, None], batch_index, 2)
    assert torch.equal(near.neighbours(3).table, far.neighbours(3).table)
    assert torch.equal(near.strided(2, 2).down.table, far.strided(2, 2).down.table)


def test_an_extent_beyond_64_bit_keys_is_an_error():
    grid_coord = torch.tensor([[0, 0, 0], [2**30, 2**30, 2**30]])
    with pytest.raises(
        ValueError, match=r"extent of the clouds must fit 64-bit voxel keys.*1073741825.*Remove outliers"
    ):
        VoxelSet.from_points(grid_coord, torch.zeros(2, dtype=torch.long), 1)
    grid_coord = torch.tensor([[-(2**62), 0, 0], [2**62, 0, 0]])
    with pytest.raises(ValueError, match="extent of the clouds must fit 64-bit voxel keys"):
        VoxelSet.from_points(grid_coord, torch.zeros(2, dtype=torch.long), 1)


def test_no_points_at_all():
    voxels, voxel_of_point = VoxelSet.from_points(
        torch.zeros(0, 3, dtype=torch.long), torch.zeros(0, dtype=torch.long), 2
    )
    assert len(voxels) == 0 and voxel_of_point.shape == (0,)
    assert voxels.neighbours(3).table.shape == (27, 0)
    assert len(voxels.strided(2, 2).voxels) == 0


def test_messages():
    voxels, _ = VoxelSet.from_points(torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, dtype=torch.long), 1)
    with pytest.raises(ValueError, match=r"odd size from 1 to 17.*got 4. Use SparseConv3d"):
        voxels.neighbours(4)
    with pytest.raises(ValueError, match=r"stride >= 1.*got kernel_size=2, stride=0"):
        voxels.strided(2, 0)
    with pytest.raises(ValueError, match=r"features must have one row for each of the 1 voxels: got \(2, 3\)"):
        type(voxelize(torch.zeros(1, 3), *([voxels.coord[:, 1:], voxels.coord[:, 0]]), 1)[0])(torch.zeros(2, 3), voxels)


@pytest.mark.usefixtures("cells_per_voxel")
def test_windows_hold_a_value_for_every_cell_of_the_cubes():
    voxels, _ = VoxelSet.from_points(*scattered(90), 2)
    windows, table = voxels.neighbours(5).windows, voxels.neighbours(5).table
    values = torch.randn(len(voxels) + 1, 3, generator=torch.Generator().manual_seed(0))
    found = torch.empty(len(voxels), 125 * 3)
    for rows, lines in windows.chunks(values):
        found[rows] = lines
    assert torch.equal(found, values[table.long()].transpose(0, 1).flatten(1))


def test_the_cubes_of_the_outermost_voxels_hold_nothing_from_beyond():
    # Full columns at the corners of the key space, where windows reach over the ends of digits and of the cells.
    corner = torch.cartesian_prod(torch.tensor([0, 3]), torch.tensor([0, 3]), torch.arange(4))
    voxels, _ = VoxelSet.from_points(corner, torch.zeros(len(corner), dtype=torch.long), 1)
    present = (voxels.neighbours(7).table < len(corner)).sum(0).view(2, 2, 4)
    assert (present == 16).all()
