import numpy as np
import pytest

from pointcept.utils.arrays import column_range, sorted_rows, stable_order


@pytest.mark.parametrize("num_rows", [1, 3, 255, 256, 257, 2000])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_column_range_is_that_of_numpy(num_rows, dtype):
    array = (np.random.default_rng(num_rows).normal(size=(num_rows, 3)) * 100).astype(dtype)
    low, high = column_range(array)
    np.testing.assert_array_equal(low, array.min(axis=0))
    np.testing.assert_array_equal(high, array.max(axis=0))
    assert low.dtype == dtype


@pytest.mark.parametrize("largest", [1, 200, 2**16, 2**31, 2**63 - 1])
def test_order_is_that_of_a_stable_sort(largest):
    rng = np.random.default_rng(0)
    keys = rng.choice(rng.integers(0, largest, 300), 1000)  # most of them several times
    np.testing.assert_array_equal(stable_order(keys), np.argsort(keys, kind="stable"))
    assert len(stable_order(keys[:0])) == 0


def test_rows_rise():
    assert sorted_rows(9, np.array([7, 0, 3])).tolist() == [0, 3, 7]
