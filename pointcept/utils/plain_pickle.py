"""Reading pickled files of arrays and plain values without executing anything from them."""

import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

try:
    from numpy._core import multiarray
except ImportError:  # NumPy 1
    from numpy.core import multiarray


def _array_from_buffer(
    buffer: bytes | bytearray, dtype: np.dtype, shape: tuple[int, ...], order: str, *_: Any
) -> np.ndarray:
    """How NumPy rebuilds an array since pickle protocol 5."""
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order="F" if order == "F" else "C").copy()


_NUMPY_DTYPES = {
    f"numpy.dtypes.{name}": kind for name, kind in vars(np.dtypes).items() if name.endswith("DType") and name[0] != "_"
}
_ALLOWED: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    **{
        f"numpy.{package}.multiarray.{name}": getattr(multiarray, name)
        for package in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    },
    "numpy.core.numeric._frombuffer": _array_from_buffer,
    "numpy._core.numeric._frombuffer": _array_from_buffer,
    **_NUMPY_DTYPES,
}
"""What a file of arrays names: none of it runs anything but the making of an array."""


def load_torch_file(path: Path) -> Any:
    """Tensors, NumPy arrays and plain values of a file that ``torch.save`` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds something else, which would have to be executed.
    """
    _require_file(path)
    allowed: list[Any] = [(target, name) for name, target in _ALLOWED.items()]
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError) as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        problem = f"it names {named[1]}." if named else _first_line(error)
        raise ValueError(
            f"{path} must hold tensors, NumPy arrays, numbers and strings only: {problem} Save it again "
            "with torch.save({name: torch.as_tensor(array), ...}, path) where you trust it, or download it again."
        ) from error


def load_pickle(path: Path) -> Any:
    """Lists, dicts, numbers, strings and NumPy arrays of a pickle.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds something else, which would have to be executed.
    """
    _require_file(path)
    try:
        return _PlainUnpickler(io.BytesIO(path.read_bytes())).load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        raise ValueError(
            f"{path} must hold lists, dicts, numbers, strings and NumPy arrays only: {_first_line(error)} Write it "
            "again as plain data (or as JSON) where you trust it, or download it again."
        ) from error


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):  # how old protocols write bytes
            return _encode_latin1
        if f"{module}.{name}" not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}.")
        return _ALLOWED[f"{module}.{name}"]


def _encode_latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes bytes as {encoding!r}.")
    return text.encode("latin1")


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"A file must exist: {path} does not. Correct the path, or make the file first.")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if lines[0].endswith(".") else f"{lines[0]}."
