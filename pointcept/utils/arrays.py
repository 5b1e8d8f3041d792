"""NumPy operations on long arrays that NumPy's own general functions do several times slower."""

import numpy as np
from jaxtyping import Int64, Shaped

_ROWS = 256
_BITS = 16


def column_range(
    array: Shaped[np.ndarray, "_N _C"],
) -> tuple[Shaped[np.ndarray, "_C"], Shaped[np.ndarray, "_C"]]:
    """Smallest and largest value of each column.

    NumPy reduces the first axis row by row; rows of three are too short for that. Joining many rows to one reduces
    whole blocks at a time.

    Args:
        array: At least one row.
    """
    columns = array.shape[1]
    even = len(array) // _ROWS * _ROWS
    blocks = np.ascontiguousarray(array[:even]).reshape(-1, _ROWS * columns)
    parts = [array[even:]]
    if len(blocks):
        parts += [blocks.min(axis=0).reshape(-1, columns), blocks.max(axis=0).reshape(-1, columns)]
    rows = np.concatenate(parts)
    return rows.min(axis=0), rows.max(axis=0)


def stable_order(keys: Int64[np.ndarray, "N"]) -> Int64[np.ndarray, "N"]:
    """The rows in the order of their keys; rows of equal keys stay in their old order.

    The same as ``np.argsort(keys, kind="stable")``, which compares 64-bit integers but sorts 16-bit ones by counting:
    so the keys are sorted 16 bits at a time, the lowest ones first.

    Args:
        keys: Not negative.
    """
    order = np.argsort((keys & 0xFFFF).astype(np.uint16), kind="stable")
    for shift in range(_BITS, int(keys.max(initial=0)).bit_length(), _BITS):
        digit = ((keys >> shift) & 0xFFFF).astype(np.uint16)
        order = order.take(np.argsort(digit.take(order), kind="stable"))
    return order


def sorted_rows(num_rows: int, index: Int64[np.ndarray, "_K"]) -> Int64[np.ndarray, "_K"]:
    """Different row numbers in rising order.

    Args:
        num_rows: Number of rows that there are.
        index: The numbers, each once.
    """
    mask = np.zeros(num_rows, dtype=bool)
    mask[index] = True
    return np.flatnonzero(mask)
