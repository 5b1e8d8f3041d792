"""Windowed attention against a dense twin."""

import pytest
import torch
import torch.nn.functional as F

from pointcept.ops.attention import make_windows, patch_attention, relative_position_bias


def reference_windows(counts: list[int], size: int) -> list[list[int]]:
    """The places along the curve that each window shows, cloud by cloud and window by window."""
    windows, start = [], 0
    for count in counts:
        cloud = list(range(start, start + count))
        start += count
        if 0 < count < size:
            windows.append(cloud)
            continue
        for first in range(0, count, size):
            window = cloud[first : first + size]
            windows.append(window + [place - size for place in range(window[0] + len(window), window[0] + size)])
    return windows


def dense_attention(qkv, counts, size, order, bias_table=None, grid=None):
    """Each window on its own, with an explicit softmax; results read from where a place first appears."""
    results = {}
    for window in reference_windows(counts, size):
        rows = order[torch.tensor(window)]
        q, k, v = qkv[rows].permute(1, 2, 0, 3)
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
        if bias_table is not None:
            difference = grid[rows][:, None] - grid[rows][None]
            per_axis = len(bias_table) // 3
            index = difference.clamp(-(per_axis // 2), per_axis // 2) + per_axis // 2
            scores = scores + (bias_table[index + torch.arange(3) * per_axis].sum(2)).permute(2, 0, 1)
        out = (scores.softmax(-1) @ v).transpose(0, 1).flatten(1)
        for place, row in zip(window, out):
            results.setdefault(place, row)
    by_place = torch.stack([results[place] for place in range(len(qkv))])
    return by_place[order.argsort()]


def make_case(counts: list[int], heads: int = 2, width: int = 3):
    generator = torch.Generator().manual_seed(sum(counts))
    total = sum(counts)
    qkv = torch.randn(total, 3, heads, width, dtype=torch.float64, generator=generator)
    order = torch.cat(
        [torch.randperm(n, generator=generator) + sum(counts[:i]) for i, n in enumerate(counts)]
        + [torch.zeros(0, dtype=torch.long)]
    )
    grid = torch.randint(0, 9, (total, 3), generator=generator)
    return qkv, order, order.argsort(), grid


COUNTS = [[12], [4], [3], [1], [13], [9, 2, 4], [0, 5, 0, 11, 3, 0], [3, 3], [2, 3, 1]]


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_windows(counts):
    windows = make_windows(torch.tensor(counts), 4)
    expected = reference_windows(counts, 4)
    shown = windows.position[: windows.num_full * 4].view(-1, 4).tolist()
    assert shown == [window for window in expected if len(window) == 4]
    short = windows.position[windows.num_full * 4 :].view(windows.num_short, windows.short_size)
    is_point = torch.ones_like(short, dtype=torch.bool) if windows.is_point is None else windows.is_point
    assert [row[mask].tolist() for row, mask in zip(short, is_point)] == [w for w in expected if len(w) < 4]
    assert windows.position[windows.slot].tolist() == list(range(sum(counts)))


@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize("fused", [True, False])
def test_equals_dense_attention(counts, fused):
    qkv, order, inverse, _ = make_case(counts)
    found = patch_attention(qkv, make_windows(torch.tensor(counts), 4), order, inverse, fused=fused)
    torch.testing.assert_close(found, dense_attention(qkv, counts, 4, order))


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_equals_dense_attention_with_relative_positions(counts):
    qkv, order, inverse, grid = make_case(counts)
    table = torch.randn(3 * 7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = patch_attention(
        qkv,
        make_windows(torch.tensor(counts), 4),
        order,
        inverse,
        bias=lambda rows: relative_position_bias(table, grid[rows]),
    )
    torch.testing.assert_close(found, dense_attention(qkv, counts, 4, order, table, grid))


def test_gradients_are_those_of_dense_attention():
    counts = [0, 5, 3, 1]
    qkv, order, inverse, grid = make_case(counts)
    table = torch.randn(3 * 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    windows = make_windows(torch.tensor(counts), 4)

    def attend(values, bias_table):
        bias = lambda rows: relative_position_bias(bias_table, grid[rows])  # noqa: E731
        return patch_attention(values, windows, order, inverse, bias=bias)

    inputs = (qkv.requires_grad_(), table.requires_grad_())
    assert torch.autograd.gradcheck(attend, inputs)
    assert torch.autograd.gradcheck(lambda values: patch_attention(values, windows, order, inverse), inputs[:1])
    weight = torch.randn(9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = torch.autograd.grad((attend(*inputs) * weight).sum(), inputs)
    expected = torch.autograd.grad((dense_attention(qkv, counts, 4, order, table, grid) * weight).sum(), inputs)
    torch.testing.assert_close(found, expected)


def test_one_window_is_plain_attention():
    qkv, order, inverse, _ = make_case([7])
    q, k, v = qkv.permute(1, 2, 0, 3)
    expected = F.scaled_dot_product_attention(q, k, v, scale=0.3).transpose(0, 1).flatten(1)
    found = patch_attention(qkv, make_windows(torch.tensor([7]), 64), order, inverse, scale=0.3)
    torch.testing.assert_close(found, expected)


def test_nothing_gives_nothing():
    qkv, order, inverse, _ = make_case([])
    for counts in ([], [0, 0]):
        windows = make_windows(torch.tensor(counts, dtype=torch.long), 4)
        assert patch_attention(qkv, windows, order, inverse).shape == (0, 6)


def test_dropout_leaves_attention_weights_out():
    qkv, order, inverse, _ = make_case([8])
    qkv[:, 2] = 1.0  # with values of one, the result is the sum of the weights
    windows = make_windows(torch.tensor([8]), 4)
    torch.manual_seed(0)
    dropped = patch_attention(qkv, windows, order, inverse, dropout=0.5)
    assert dropped.std() > 0.1
    torch.testing.assert_close(patch_attention(qkv, windows, order, inverse), torch.ones(8, 6, dtype=torch.float64))


def test_a_window_holds_at_least_one_point():
    with pytest.raises(ValueError, match="at least one point: got patch size 0"):
        make_windows(torch.tensor([4]), 0)
