"""Sparse convolution by other packages against plain torch, as far as a CPU can run them, and their input by hand."""

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

from pointcept.ops import backends
from pointcept.ops.backends import SPARSE
from pointcept.ops.sparse import SparseConv3d, SparseInverseConv3d, SparseTensor, SubMConv3d, accelerated, voxelize
from pointcept.ops.sparse.accelerated import _works_on, chosen_backend, masked, pair_lists
from pointcept.ops.sparse.convolution import sparse_convolution
from pointcept.ops.sparse.kernel_map import KernelMap


@pytest.fixture(autouse=True)
def no_choice(monkeypatch):
    monkeypatch.delenv(SPARSE.variable, raising=False)
    backends._load.cache_clear()
    _works_on.cache_clear()
    yield
    backends._load.cache_clear()
    _works_on.cache_clear()


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def clouds(channels: int, *counts: int, seed: int = 0) -> SparseTensor:
    generator = torch.Generator().manual_seed(seed)
    cells = torch.cartesian_prod(*[torch.arange(5)] * 3)
    chosen = torch.cat([cells[torch.randperm(125, generator=generator)[:count]] for count in counts])
    batch_index = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    # negative and beyond 32 bits: no back end sees coordinates
    shift = torch.tensor([-3, 2**33, 0])
    feat = torch.randn(len(chosen), channels, generator=generator)
    return voxelize(feat, chosen + shift, batch_index, len(counts))[0]


def maps_of(x: SparseTensor):
    """Name, kernel size, forward and backward map of every kind of convolution."""
    halved, padded = x.voxels.strided(2, 2), x.voxels.strided(3, 2, 1)
    return [
        ("submanifold", 3, x.voxels.neighbours(3), None),
        ("strided", 2, halved.down, halved.up),
        ("inverse", 2, halved.up, halved.down),
        ("overlapping", 3, padded.down, padded.up),
    ]


class Net(torch.nn.Module):
    """Every kind of layer once."""

    def __init__(self):
        super().__init__()
        self.stem, self.point = SubMConv3d(4, 12, 5), SubMConv3d(12, 10, 1)
        self.inner, self.down, self.up = SubMConv3d(10, 9), SparseConv3d(9, 16), SparseInverseConv3d(16, 7)

    def forward(self, x):
        x = self.inner(self.point(self.stem(x)))
        return self.up(self.down(x), x.voxels).features


def test_the_words_and_their_order_by_hand():
    # taps x rows; 5 = none
    table = torch.tensor([[0, 5, 5, 2], [1, 1, 5, 5], [5, 0, 5, 3]], dtype=torch.int32)
    form = masked(KernelMap(table, 5))
    # row 0 has taps 0 and 1: 3; row 1 taps 1 and 2: 6; row 2 none: 0; row 3 taps 0 and 2: 5
    assert form.words.tolist() == [[0], [3], [5], [6]] and form.order.tolist() == [2, 0, 3, 1]
    assert form.table.tolist() == [[0, -1, -1, 2], [1, 1, -1, -1], [-1, 0, -1, 3]]
    lists, counts = pair_lists(KernelMap(table, 5))
    assert counts.tolist() == [2, 2, 2]
    assert lists.tolist() == [[[0, 2], [1, 1], [0, 3]], [[0, 3], [0, 1], [1, 3]]]
    every = torch.zeros(32, 1, dtype=torch.int32)
    assert masked(KernelMap(every, 1)).words.tolist() == [[-1]]  # 32 bits, all set


def test_a_mirrored_map_is_the_one_seen_from_the_inputs():
    kernel_map = clouds(1, 40, 20).voxels.neighbours(3)
    seen = {(tap, row, int(v)) for tap, line in enumerate(kernel_map.table) for row, v in enumerate(line) if v < 60}
    mirrored = enumerate(kernel_map.mirrored.table)
    assert {(tap, int(v), row) for tap, line in mirrored for row, v in enumerate(line) if v < 60} == seen


def fake_gemm(features, weight, table, words, order, num_out, masks, is_train, is_subm, fp32_accum):
    """What the packages document, in plain torch: rows in the order of their words, taps where the bit is set."""
    assert table.dtype == order[0].dtype == words[0].dtype == torch.int32 and not is_subm and fp32_accum
    out = features.new_full((num_out, weight.shape[0]), float("nan"))
    matrices = weight.reshape(weight.shape[0], -1, weight.shape[-1])
    for word, row in zip(words[0][:, 0].tolist(), order[0].tolist()):
        taps = [tap for tap in range(len(table)) if (word >> tap) & 1]
        out[row] = sum((matrices[:, tap] @ features[table[tap, row]] for tap in taps), out.new_zeros(len(matrices)))
    return out, "kept words", 32


def fake_gemm_backward(
    features, weight, grad, table, back, words, back_words, order, back_order, kept, masks, width, is_subm, fp32_accum
):
    assert (kept, width) == ("kept words", 32)
    transposed = weight.transpose(0, -1).contiguous()
    given = fake_gemm(grad, transposed, back, back_words, back_order, len(features), masks, True, is_subm, fp32_accum)
    taps = weight.reshape(len(weight), -1, weight.shape[-1])
    grad_weight = torch.zeros_like(taps)
    for tap, line in enumerate(table):
        rows = (line >= 0).nonzero().view(-1)
        grad_weight[:, tap] = grad[rows].T @ features[line[rows]]
    return given[0], grad_weight


def test_the_packages_get_what_they_document(monkeypatch):
    package = types.ModuleType("spconv_triton.pytorch")
    package.ops = types.ModuleType("spconv_triton.pytorch.ops")
    package.ops.implicit_gemm, package.ops.implicit_gemm_backward = fake_gemm, fake_gemm_backward
    constants = types.ModuleType("spconv_triton.constants")
    constants.SPCONV_ALLOW_TF32 = "as the user left it"
    monkeypatch.setitem(sys.modules, "spconv_triton", types.ModuleType("spconv_triton"))
    monkeypatch.setitem(sys.modules, "spconv_triton.pytorch", package)
    monkeypatch.setitem(sys.modules, "spconv_triton.constants", constants)
    for name, size, forward_map, backward_map in maps_of(clouds(9, 40, 0, 20)):
        generator = torch.Generator().manual_seed(1)
        features = torch.randn(forward_map.num_in, 9, generator=generator, requires_grad=True)
        weight = torch.randn(5, size, size, size, 9, generator=generator, requires_grad=True)
        grad = torch.randn(forward_map.num_out, 5, generator=generator)
        expected = sparse_convolution(features, weight, forward_map, backward_map)
        actual = accelerated._AcceleratedConvolution.apply(features, weight, forward_map, backward_map, "spconv_triton")
        gradients = torch.autograd.grad(actual, (features, weight), grad)
        torch.testing.assert_close(
            (actual, *gradients),
            (expected, *torch.autograd.grad(expected, (features, weight), grad)),
            rtol=1e-4,
            atol=1e-4,
            msg=name,
        )
    assert constants.SPCONV_ALLOW_TF32 == "as the user left it"


@pytest.mark.skipif(not SPARSE.is_installed("spconv"), reason="spconv is not installed")
def test_spconv_on_a_cpu_gives_the_results_of_torch(one_thread, monkeypatch):
    torch.manual_seed(0)
    net = Net()
    for x in (clouds(4, 40, 0, 20), clouds(4, 0, 1), clouds(4, 0)):
        with torch.no_grad():
            expected = net(x)
            monkeypatch.setenv(SPARSE.variable, "spconv")
            torch.testing.assert_close(net(x.replace(x.features)), expected, rtol=1e-5, atol=1e-5)
            monkeypatch.delenv(SPARSE.variable)
    for name, size, forward_map, backward_map in maps_of(clouds(9, 40, 0, 20)):
        features, weight = torch.randn(forward_map.num_in, 9), torch.randn(5, size, size, size, 9)
        expected = sparse_convolution(features, weight, forward_map, backward_map)
        actual = sparse_convolution(features, weight, forward_map, backward_map, backend="spconv")
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.skipif(not SPARSE.is_installed("spconv"), reason="spconv is not installed")
def test_spconv_on_a_cpu_says_what_it_cannot_do(one_thread, monkeypatch):
    monkeypatch.setenv(SPARSE.variable, "spconv")
    x = clouds(9, 20)
    with pytest.raises(NotImplementedError, match="spconv has no gradients on a CPU"):
        SubMConv3d(9, 4)(x).features.sum().backward()
    torch.set_num_threads(2)
    with pytest.raises(ValueError, match=r"race unless there is one thread.*got 2\. Set OMP_NUM_THREADS=1"):
        SubMConv3d(9, 4)(x)


INTERPRETED = """
import torch
from unittest import mock
from spconv_triton.pytorch._impl import gemm
from pointcept.ops.sparse import accelerated
from pointcept.ops.sparse.convolution import sparse_convolution
from tests.ops.test_sparse_backends import clouds, maps_of

gemm._multiprocessor_count = lambda device: 1
for kernel in (gemm._gather_gemm_kernel, gemm._dweight_masked_kernel):
    kernel.configs = kernel.configs[:1]  # nothing to tune without a GPU
for dtype, tolerance in ((torch.float32, 1e-5), (torch.float16, 2e-3)):
    for name, size, forward_map, backward_map in maps_of(clouds(9, 30, 0, 12)):
        features = torch.randn(forward_map.num_in, 9).to(dtype).requires_grad_()
        weight = torch.randn(5, size, size, size, 9).to(dtype).requires_grad_()
        grad = torch.randn(forward_map.num_out, 5).to(dtype)
        expected = sparse_convolution(features.float(), weight.float(), forward_map, backward_map)
        expected = (expected, *torch.autograd.grad(expected, (features, weight), grad.float()))
        with mock.patch.object(torch.Tensor, "is_cuda", True):
            maps = (forward_map, backward_map)
            actual = accelerated._AcceleratedConvolution.apply(features, weight, *maps, "spconv_triton")
            actual = (actual, *torch.autograd.grad(actual, (features, weight), grad))
        for ours, theirs in zip(expected, actual):
            assert theirs.dtype == dtype
            difference = (ours.float() - theirs.float()).abs().max() / ours.float().abs().max()
            assert difference < tolerance, (dtype, name, difference)
print("all the same")
"""


@pytest.mark.skipif(not SPARSE.is_installed("spconv_triton"), reason="spconv-triton is not installed")
def test_spconv_tritons_kernels_in_tritons_interpreter_give_the_results_of_torch():
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TRITON_INTERPRET": "1"},
    )
    assert done.stdout == "all the same\n", done.stderr


def test_what_auto_takes(monkeypatch):
    monkeypatch.setattr(accelerated, "_works_on", lambda name, device: device.type == "cuda")
    assert chosen_backend("cuda") == chosen_backend("cuda", torch.float16) == "spconv"
    assert chosen_backend("cuda", torch.bfloat16) == "spconv_triton"
    assert chosen_backend("cuda", torch.float64) == "torch"
    monkeypatch.setattr(accelerated, "_works_on", lambda name, device: name == "spconv_triton")
    assert chosen_backend("cuda") == "spconv_triton"
    monkeypatch.setenv(SPARSE.variable, "torch")
    assert chosen_backend("cuda") == "torch"


def test_a_back_end_that_cannot_work_on_the_device_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "spconv_triton.pytorch", types.ModuleType("spconv_triton.pytorch"))
    monkeypatch.setenv(SPARSE.variable, "spconv_triton")
    with pytest.raises(ValueError, match=r"must work on the device of the features: spconv_triton.*not on cpu"):
        SubMConv3d(9, 4)(clouds(9, 20))


def test_what_a_back_end_cannot_do_is_left_to_torch(monkeypatch):
    monkeypatch.setattr(accelerated, "chosen_backend", lambda device, dtype, backend: "spconv")
    x = clouds(9, 20)
    assert accelerated.backend_for(x.features, x.voxels.neighbours(3)) == "spconv"
    assert accelerated.backend_for(x.features.double(), x.voxels.neighbours(3)) == "torch"
    assert accelerated.backend_for(x.features, x.voxels.neighbours(5)) == "torch"  # 125 taps
    empty = clouds(9, 0)
    assert accelerated.backend_for(empty.features, empty.voxels.neighbours(3)) == "torch"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", SPARSE.names)
def test_on_a_gpu_the_same(name, dtype):
    if not (name == "torch" or _works_on(name, torch.device("cuda"))):
        pytest.skip(f"{name} is not installed for CUDA")
    torch.manual_seed(0)
    tolerance = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 4e-2}[dtype]
    for x in (clouds(16, 100, 0, 60), clouds(16, 0, 1), clouds(16, 0)):
        for kind, size, forward_map, backward_map in maps_of(x):
            features = torch.randn(forward_map.num_in, 16).requires_grad_()
            weight = torch.randn(24, size, size, size, 16).requires_grad_()
            grad = torch.randn(forward_map.num_out, 24)
            expected = sparse_convolution(features, weight, forward_map, backward_map)
            expected = (expected, *torch.autograd.grad(expected, (features, weight), grad))
            on_gpu = [None if m is None else m.to("cuda") for m in (forward_map, backward_map)]
            ours = [tensor.detach().cuda().to(dtype).requires_grad_() for tensor in (features, weight)]
            actual = sparse_convolution(*ours, *on_gpu, backend=name)
            actual = (actual, *torch.autograd.grad(actual, ours, grad.cuda().to(dtype)))
            for want, got in zip(expected, actual):
                assert got.dtype == dtype
                scale = max(float(want.detach().abs().max()), 1.0) if want.numel() else 1.0
                torch.testing.assert_close(
                    got.float().cpu(), want.detach(), rtol=0, atol=tolerance * scale, msg=f"{kind}, {len(x.voxels)}"
                )
