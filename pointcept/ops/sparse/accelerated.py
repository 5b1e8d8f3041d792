"""Sparse convolution by spconv and by spconv-triton, over the kernel maps of this package.

Both packages compute from a table of input rows (-1 for none) and, per output row, a word with one bit for each tap
that is present. Rows are worked on in the order of these words, so that neighbouring rows share taps and absent ones
are skipped. Only these operations are used; voxels are found by this package, so that no back end limits coordinates.

spconv's CPU wheel computes results, without gradients, and only with one thread, since its kernels race.
"""

import contextlib
import functools
import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from pointcept.ops.backends import SPARSE
from pointcept.ops.sparse.kernel_map import KernelMap
from pointcept.structures.base import require

_MAX_TAPS = 32  # of a word; larger kernels are left to plain torch
DTYPES = {
    "spconv": (torch.float16, torch.float32),
    "spconv_triton": (torch.float16, torch.bfloat16, torch.float32),
}
_ALL_BITS = (np.array([2**32 - 1], dtype=np.uint32),)


class Masked(NamedTuple):
    """A kernel map in the form that both packages read.

    Attributes:
        table: Input row by tap and output row, -1 for none.
        words: The taps that an output row has, as bits, in rising order.
        order: Output row that each word belongs to.
    """

    table: Int[Tensor, "_K _V"]
    words: Int[Tensor, "_V 1"]
    order: Int[Tensor, "_V"]


def masked(kernel_map: KernelMap) -> Masked:
    """The map in the packages' form, made once."""
    if "masked" not in kernel_map.forms:  # forms belong to the back ends, so that maps need not know them
        present = kernel_map.table < kernel_map.num_in
        bits = torch.arange(kernel_map.num_taps, device=present.device)[:, None]
        words, order = (present.long() << bits).sum(0).sort(stable=True)
        signed = torch.where(words < 2**31, words, words - 2**32).int()  # the same 32 bits
        table = torch.where(present, kernel_map.table, -1).contiguous()
        kernel_map.forms["masked"] = Masked(table, signed[:, None].contiguous(), order.int())
    return kernel_map.forms["masked"]


def backends_on(device: torch.device | str) -> list[str]:
    """The packages that are installed and can work on a device."""
    device = torch.device(device)
    if device.type == "cpu":
        names = ("native", "spconv") if torch.get_num_threads() == 1 else ("native",)
        return [name for name in names if SPARSE.is_installed(name)]
    return [name for name in DTYPES if _works_on(name, device)]


def chosen_backend(device: torch.device | str, dtype: torch.dtype = torch.float32, backend: str = "auto") -> str:
    """What computes sparse convolutions of features of a type on a device, as far as it can compute them at all.

    ``auto`` takes the native back end on a CPU, but for 64-bit floats; on CUDA, for 16-bit and 32-bit floats, spconv
    before spconv-triton, and for bfloat16, which spconv does not have, spconv-triton; else plain torch.

    Raises:
        ValueError: what is asked for is unknown, not installed, or cannot work on the device.
    """
    device = torch.device(device)
    name = SPARSE.requested(backend)
    if name == "auto":
        if device.type == "cpu" and dtype != torch.float64 and _native_works():
            return "native"
        fitting = (candidate for candidate, dtypes in DTYPES.items() if dtype in dtypes)
        return next((candidate for candidate in fitting if _works_on(candidate, device)), "torch")
    if name == "native" and device.type == "cpu":
        return name
    if name == "spconv" and device.type == "cpu":
        require(
            torch.get_num_threads() == 1,
            "spconv's kernels for CPUs race unless there is one thread, and give wrong values: got "
            f"{torch.get_num_threads()}. Set OMP_NUM_THREADS=1, or use the back end 'torch'.",
        )
        return name
    require(
        name == "torch" or _works_on(name, device),
        f"A back end must work on the device of the features: {name}, as it is installed, does not on {device}. Use "
        f"'auto' or 'torch' for {SPARSE.variable} and in the config's backends, or install a build that does.",
    )
    return name


def backend_for(features: Tensor, kernel_map: KernelMap, backend: str = "auto") -> str:
    """What computes one convolution: what is chosen, or plain torch for what that cannot do."""
    name = chosen_backend(features.device, features.dtype, backend)
    if name not in DTYPES:
        return "torch" if features.dtype == torch.float64 else name
    if kernel_map.num_taps > _MAX_TAPS or features.dtype == torch.float64:
        return "torch"
    return name if min(kernel_map.num_out, kernel_map.num_in) > 0 else "torch"


@torch.compiler.disable
def accelerated_convolution(
    name: str, features: Tensor, weight: Tensor, forward_map: KernelMap, backward_map: KernelMap | None
) -> Tensor:
    """As :func:`pointcept.ops.sparse.convolution.sparse_convolution`, by a package; a break in compiled graphs."""
    if features.device.type == "cpu":
        return _SpconvOnCpu.apply(features, weight, forward_map, backward_map)
    if features.dtype in DTYPES[name]:
        return _AcceleratedConvolution.apply(features, weight, forward_map, backward_map, name)
    return _AcceleratedConvolution.apply(features.float(), weight.float(), forward_map, backward_map, name).to(
        features.dtype
    )


class _AcceleratedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, features: Tensor, weight: Tensor, forward_map: KernelMap, backward_map: KernelMap | None, name: str
    ) -> Tensor:
        features, weight = features.contiguous(), weight.contiguous()
        is_training = any(ctx.needs_input_grad[:2])
        pairs = masked(forward_map)
        with _precision(name):
            result, words, width = _operations(name).implicit_gemm(
                features,
                weight,
                pairs.table,
                [pairs.words],
                [pairs.order],
                forward_map.num_out,
                list(_ALL_BITS),
                is_training,
                False,
                fp32_accum=True,
            )
        ctx.save_for_backward(features, weight)
        ctx.maps, ctx.name, ctx.words, ctx.width = (forward_map, backward_map), name, words, width
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        features, weight = ctx.saved_tensors
        forward_map, backward_map = ctx.maps
        pairs, back = masked(forward_map), masked(backward_map or forward_map.mirrored)
        with _precision(ctx.name):
            grad_features, grad_weight = _operations(ctx.name).implicit_gemm_backward(
                features,
                weight,
                grad.contiguous(),
                pairs.table,
                back.table,
                [pairs.words],
                [back.words],
                [pairs.order],
                [back.order],
                ctx.words,
                list(_ALL_BITS),
                ctx.width,
                False,
                fp32_accum=True,
            )
        return grad_features, grad_weight.view(weight.shape), None, None, None


class _SpconvOnCpu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, features: Tensor, weight: Tensor, forward_map: KernelMap, backward_map: KernelMap | None
    ) -> Tensor:
        lists, counts = pair_lists(forward_map)
        result = _operations("spconv").indice_conv(
            features.float().contiguous(), weight.float().contiguous(), lists, counts, forward_map.num_out
        )
        return result.to(features.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[None, None, None, None]:
        raise NotImplementedError(
            "spconv has no gradients on a CPU: a backward pass came through it. Use the back end 'torch' for training."
        )


def pair_lists(kernel_map: KernelMap) -> tuple[Int[Tensor, "2 K L"], Int[Tensor, "K"]]:
    """Input and output row of each tap's pairs, -1 behind the last, and their numbers: what spconv reads on a CPU."""
    present = kernel_map.table < kernel_map.num_in
    counts = present.sum(1)
    tap, out_row = present.nonzero(as_tuple=True)
    place = torch.arange(len(tap)) - (counts.cumsum(0) - counts).index_select(0, tap)
    lists = torch.full((2, kernel_map.num_taps, int(counts.max())), -1, dtype=torch.int32)
    lists[0, tap, place], lists[1, tap, place] = kernel_map.table[tap, out_row], out_row.int()
    return lists, counts.int()


def _operations(name: str) -> ModuleType:
    return SPARSE.load(name).ops


@contextlib.contextmanager
def _precision(name: str) -> Iterator[None]:
    """While it is open, a package's 32-bit products use TF32 if and only if torch's own do."""
    constants = importlib.import_module(f"{name}.constants")
    matmul = torch.backends.cuda.matmul
    precision = getattr(matmul, "fp32_precision", None)  # since torch 2.9
    before = constants.SPCONV_ALLOW_TF32
    constants.SPCONV_ALLOW_TF32 = matmul.allow_tf32 if precision is None else precision == "tf32"
    try:
        yield
    finally:
        constants.SPCONV_ALLOW_TF32 = before


@torch.compiler.assume_constant_result
def _native_works() -> bool:
    """Whether the native back end is there: a constant of compiled graphs, as finding out may compile it."""
    return SPARSE.is_installed("native")


@functools.cache
def _works_on(name: str, device: torch.device) -> bool:
    """Whether a package is installed in a build for a device."""
    if device.type != "cuda" or name not in DTYPES or not SPARSE.is_installed(name):
        return False
    if name == "spconv_triton":
        return True
    from spconv.core_cc.cumm.common import CompileInfo
    from spconv.cppconstants import CPU_ONLY_BUILD

    arch = torch.cuda.get_device_capability(device)
    return not CPU_ONLY_BUILD and (CompileInfo.arch_is_compatible(arch) or CompileInfo.algo_can_use_ptx((0, 0), arch))
