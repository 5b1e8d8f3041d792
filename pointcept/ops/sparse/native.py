"""Sparse convolution on a CPU by ``native.c``, compiled for this machine when it is first asked for.

Importing this module compiles it, which takes a second or two, and keeps the library in the user's cache folder
(``$XDG_CACHE_HOME`` or ``~/.cache``, ``pointcept``). The compiler is ``$CC``, else gcc or cc. Where there is none, or
it fails, the import says so by an ``ImportError``, and plain torch computes instead. Threads are those of
torch's own OpenMP, so that the two never compete.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pointcept.ops.sparse.kernel_map import Plan
from pointcept.structures.base import require

SOURCE = Path(__file__).with_name("native.c")
_FLAGS = ("-O3", "-ffp-contract=fast", "-fPIC", "-fopenmp", "-w")
_COMPILE_SECONDS = 300
_POINTER, _COUNT = ctypes.c_void_p, ctypes.c_int64


class Library:
    """The compiled functions, on tensors of 32-bit floats.

    Args:
        path: Of the shared library.

    Raises:
        OSError: it cannot be loaded.
    """

    def __init__(self, path: Path):
        self._functions = ctypes.CDLL(str(path))
        kinds = {"p": _POINTER, "c": _COUNT}
        for function, arguments in (
            (self._functions.sparse_convolution, "pcpccc" + "pppcccc" + "ppcc"),
            (self._functions.sparse_weight_gradient, "pcpc" + "pppcccc" + "pp"),
        ):
            function.argtypes = [*(kinds[letter] for letter in arguments), ctypes.c_int]
            function.restype = None
        names = ("tile_rows", "tile_columns", "pairs_at_once")
        self._tile_rows, self._tile_columns, self._pairs_at_once = (
            _COUNT.in_dll(self._functions, name).value for name in names
        )

    def convolve(
        self,
        features: Float[Tensor, "N C_in"],
        matrices: Float[Tensor, "K C_in C_out"],
        plan: Plan,
        num_out: int,
        identity_tap: int,
        *,
        is_mirrored: bool = False,
    ) -> Float[Tensor, "V C_out"]:
        """Sum over the pairs of all taps of an input row times the tap's matrix.

        Args:
            features: One row per input voxel.
            matrices: Of the taps, with any strides.
            plan: The pairs.
            num_out: V, the number of output rows.
            identity_tap: The tap whose pairs are every row with itself; -1 for none.
            is_mirrored: Whether the matrices belong to the taps in opposite order.
        """
        _check_types(features, matrices)
        num_taps, channels_in, channels_out = matrices.shape
        tap_step, in_step, out_step = matrices.stride()
        first_matrix = matrices.data_ptr()
        if is_mirrored:
            first_matrix += (num_taps - 1) * tap_step * matrices.element_size()
            tap_step = -tap_step
        features, in_rows, out_rows, starts = features.contiguous(), *_pairs(plan)
        panels = features.new_empty(num_taps * channels_in * _rounded_up(channels_out, self._tile_columns))
        out = features.new_empty(num_out, channels_out)
        self._functions.sparse_convolution(
            features.data_ptr(),
            channels_in,
            first_matrix,
            tap_step,
            in_step,
            out_step,
            in_rows.data_ptr(),
            out_rows.data_ptr(),
            starts.data_ptr(),
            plan.counts.shape[0],
            plan.chunk_rows,
            num_taps,
            identity_tap,
            panels.data_ptr(),
            out.data_ptr(),
            num_out,
            channels_out,
            torch.get_num_threads(),
        )
        return out

    def weight_gradient(
        self,
        features: Float[Tensor, "N C_in"],
        grad: Float[Tensor, "V C_out"],
        num_taps: int,
        plan: Plan,
        identity_tap: int,
    ) -> Float[Tensor, "C_out K C_in"]:
        """Sum over the pairs of each tap of the outer product of the output's gradient and the input row."""
        _check_types(features, grad)
        channels_in, channels_out = features.shape[1], grad.shape[1]
        features, grad, in_rows, out_rows, starts = features.contiguous(), grad.contiguous(), *_pairs(plan)
        num_threads = torch.get_num_threads()
        width = _rounded_up(channels_in, self._tile_columns) + _rounded_up(channels_out, self._tile_rows)
        scratch = features.new_empty(num_threads * self._pairs_at_once * width)
        total = features.new_empty(channels_out, num_taps, channels_in)
        self._functions.sparse_weight_gradient(
            features.data_ptr(),
            channels_in,
            grad.data_ptr(),
            channels_out,
            in_rows.data_ptr(),
            out_rows.data_ptr(),
            starts.data_ptr(),
            plan.counts.shape[0],
            num_taps,
            identity_tap,
            grad.shape[0],
            scratch.data_ptr(),
            total.data_ptr(),
            num_threads,
        )
        return total


def _check_types(*tensors: Tensor) -> None:
    types = [tensor.dtype for tensor in tensors]
    require(
        all(dtype == torch.float32 for dtype in types),
        f"native.c needs 32-bit floats on both sides of a product: got {types}. Give features the type of the weights.",
    )


def _pairs(plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """Input and output row of the pairs, and where those of each chunk and tap begin."""
    return plan.in_rows.int(), plan.out_rows.int(), F.pad(plan.counts.view(-1).cumsum(0), (1, 0))


def _rounded_up(count: int, step: int) -> int:
    return -(-count // step) * step


def build(folder: Path, machine: str | None = None) -> Path:
    """Compiles the library into a folder, unless it is there already.

    Args:
        folder: Made if need be.
        machine: Instruction set to compile for, as the compiler calls it; None for this machine's.

    Raises:
        ImportError: there is no compiler, or it fails.
        OSError: the folder cannot be written.
    """
    compiler = _compiler()
    flags = (*_FLAGS, f"-{'march' if platform.machine() in ('x86_64', 'AMD64') else 'mcpu'}={machine or 'native'}")
    text = "\n".join([SOURCE.read_text(encoding="utf-8"), *compiler, *flags, *_cpu()])
    path = folder / f"sparse-{hashlib.sha256(text.encode()).hexdigest()[:16]}.so"
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch, "sparse.o"), Path(scratch, "sparse.so")
        # Linked without OpenMP: its functions are then those of the library that torch has loaded.
        _run([*compiler, *flags, "-c", str(SOURCE), "-o", str(made[0])])
        _run([*compiler, "-shared", str(made[0]), "-o", str(made[1])])
        made[1].replace(path)  # whole or not at all, also where several processes build it at once
    return path


def _compiler() -> list[str]:
    """The command."""
    if sys.platform != "linux":
        raise ImportError(f"native.c must be compiled on Linux: this is {sys.platform}. Plain torch computes instead.")
    chosen = os.environ.get("CC", "").split()
    names = [chosen[0]] if chosen else ["gcc", "cc"]
    found = next((name for name in names if shutil.which(name)), None)
    if found is None:
        raise ImportError(f"native.c needs a C compiler: found none of {', '.join(names)}. Install gcc, or set CC.")
    return [found, *chosen[1:]]


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ImportError(f"{command[0]} must compile native.c within {_COMPILE_SECONDS} s: it did not.") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        reason = next((line for line in lines if "error" in line), lines[0])
        raise ImportError(f"{command[0]} must compile native.c: {reason}. Install gcc, or set CC.")


def _cpu() -> Iterator[str]:
    """What tells CPUs apart whose libraries may differ: folders are shared by the machines of a cluster."""
    yield platform.machine()
    names = ("model name", "flags", "Features", "CPU part")
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
    except OSError:
        return
    yield from (line for line in lines if line.startswith(names))


def _load() -> Library:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    try:
        path = build(cache / "pointcept")
    except OSError:  # not permitted, read-only, or full
        with tempfile.TemporaryDirectory() as folder:  # a loaded library needs its file no longer
            return Library(build(Path(folder)))
    return Library(path)


_LIBRARY = _load()
convolve, weight_gradient = _LIBRARY.convolve, _LIBRARY.weight_gradient
