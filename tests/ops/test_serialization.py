"""Space-filling curves: bijective, continuous where they should be, and the same alone and in a batch."""

import pytest
import torch

from pointcept.ops.serialization import ORDERS, hilbert_order, serialize, z_order


def cube(edge: int) -> torch.Tensor:
    return torch.cartesian_prod(*[torch.arange(edge)] * 3)


def one_cloud(grid: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(grid), dtype=torch.long)


def test_z_order_by_hand():
    # x = 011, y = 101, z = 110 interleave, x first, to 011 101 110.
    assert z_order(torch.tensor([[3, 5, 6]])).tolist() == [0b011_101_110]
    assert z_order(torch.tensor([[2**21 - 1] * 3])).tolist() == [2**63 - 1]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("edge", [2, 8, 16])
def test_every_curve_numbers_the_cells_of_a_cube_once(order, edge):
    (codes,) = serialize(cube(edge), one_cloud(cube(edge)), 1, [order])
    assert codes.sort().values.tolist() == list(range(edge**3))


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_neighbours_along_the_hilbert_curve_are_adjacent_cells(depth):
    grid = cube(2**depth)
    along = grid[hilbert_order(grid, depth).argsort()]
    assert (along.diff(dim=0).abs().sum(1) == 1).all()


def test_hilbert_order_of_one_point_and_of_the_largest_cube():
    assert hilbert_order(torch.zeros(1, 3, dtype=torch.long), 21).tolist() == [0]
    corners = torch.tensor([[2**21 - 1, 0, 0], [0, 0, 2**21 - 1]])
    codes = hilbert_order(corners, 21)
    assert (codes >= 0).all() and codes[0] != codes[1]


@pytest.mark.parametrize("curve", ["z", "hilbert"])
def test_transposed_curves_exchange_x_and_y(curve):
    grid = cube(8)
    plain, transposed = serialize(grid, one_cloud(grid), 1, [curve, f"{curve}-trans"])
    (swapped,) = serialize(grid[:, [1, 0, 2]], one_cloud(grid), 1, [curve])
    assert torch.equal(transposed, swapped) and not torch.equal(plain, transposed)


@pytest.mark.parametrize("order", ORDERS)
def test_shifting_keys_by_three_bits_gives_the_keys_of_the_coarser_grid(order):
    grid = cube(16)
    (fine,) = serialize(grid, one_cloud(grid), 1, [order])
    coarse = hilbert_order if order.startswith("hilbert") else lambda cells, depth: z_order(cells)
    cells = grid[:, [1, 0, 2]] if order.endswith("trans") else grid
    # 15 + 1 cells need five bits where the curve fills cubes beyond the largest index, which turns it once.
    cells = cells.roll(1 if order.startswith("hilbert") else 0, dims=1)
    assert torch.equal(fine >> 3, coarse(cells >> 1, 3))


def test_clouds_stand_one_after_the_other_and_each_as_if_alone():
    generator = torch.Generator().manual_seed(0)
    clouds = [torch.randint(0, extent, (50, 3), generator=generator) for extent in (4, 300, 20, 60)]
    batch = torch.arange(4).repeat_interleave(50)
    codes = serialize(torch.cat(clouds), batch, 4, ORDERS)
    for together, order in zip(codes, ORDERS):
        along = together.argsort(stable=True)
        assert torch.equal(batch[along], batch), "a cloud's keys lie between those of its neighbours"
        for index, cloud in enumerate(clouds):
            (alone,) = serialize(cloud, one_cloud(cloud), 1, [order])
            mine = together[batch == index]
            assert torch.equal(mine - (mine.min() - alone.min()), alone), (order, index)


def test_empty_clouds_and_empty_batches():
    assert serialize(torch.zeros(0, 3, dtype=torch.long), torch.zeros(0, dtype=torch.long), 3, ORDERS).shape == (4, 0)
    codes = serialize(torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([1, 3]), 5, ["z"])
    assert (codes[0] >> 9).tolist() == [1, 3]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shift", [(-64, -16, -160), (2**40, -(2**40), 2**33), (2**16, 0, 0)])
def test_clouds_outside_the_kept_range_move_to_their_corner_by_whole_coarse_voxels(order, shift):
    grid = cube(12)
    (there,) = serialize(grid + torch.tensor(shift) + 3, one_cloud(grid), 1, [order], alignment=16)
    (here,) = serialize(grid + 3, one_cloud(grid), 1, [order])
    assert torch.equal(there, here)


def test_all_63_bits_are_used_and_no_more():
    corners = torch.tensor([[0, 0, 0], [2**21 - 1] * 3])
    codes = serialize(corners, one_cloud(corners), 1, ORDERS)
    assert (codes >= 0).all() and codes[0].tolist() == [0, 2**63 - 1]
    last = serialize(corners.clamp(max=2**20 - 1), torch.tensor([7, 7]), 8, ["z"])
    assert last[0].tolist() == [7 << 60, 2**63 - 1]
    with pytest.raises(ValueError, match=r"2 clouds, which leave 20 bits per axis, and an extent of 2097152 voxels"):
        serialize(corners, torch.tensor([0, 0]), 2, ["z"])
    with pytest.raises(ValueError, match=r"leave 21 bits per axis.*Remove outliers"):
        serialize(corners * 2, one_cloud(corners), 1, ["z"])
    with pytest.raises(ValueError, match="Remove outliers"):
        serialize(torch.tensor([[-(2**62)] * 3, [2**62 + 5] * 3]), one_cloud(corners), 1, ["z"])


def test_messages():
    grid = cube(2)
    with pytest.raises(ValueError, match="curves among z, z-trans, hilbert, hilbert-trans: got 'peano'"):
        serialize(grid, one_cloud(grid), 1, ["peano"])
    with pytest.raises(ValueError, match=r"must be integers: got torch.float32"):
        serialize(grid.float(), one_cloud(grid), 1, ["z"])
