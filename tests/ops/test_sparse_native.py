"""The compiled sparse convolution against its definition and plain torch, and what is said where it cannot be made."""

import errno
import os
import platform
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pointcept.ops.backends import SPARSE
from pointcept.ops.sparse import VoxelSet, accelerated
from pointcept.ops.sparse.convolution import sparse_convolution
from pointcept.ops.sparse.kernel_map import KernelMap

native = pytest.importorskip("pointcept.ops.sparse.native", reason="there is no C compiler", exc_type=ImportError)

# Below, between and beyond whole tiles, and more channels than are multiplied at once.
WIDTHS = [(1, 1), (9, 5), (12, 32), (33, 40), (16, 100), (300, 17)]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(params=[4096, 16, 1], ids=["one chunk", "many chunks", "single rows"])
def chunk_rows(request, monkeypatch):
    monkeypatch.setattr("pointcept.ops.sparse.kernel_map._CHUNK_ROWS", request.param)


def random_map(num_out: int, *, has_identity: bool) -> KernelMap:
    """Five taps; most rows meet nothing under one."""
    table = torch.randint(0, 3 * num_out + 1, (5, num_out)).clamp_max(num_out)
    table[3] = num_out  # a tap without pairs
    if has_identity:
        table[2] = torch.arange(num_out)
    return KernelMap(table.int(), num_out, identity_tap=2 if has_identity else None)


def assert_as_defined(library, kernel_map: KernelMap, channels_in: int, channels_out: int):
    """Values against the sums over all pairs, one tap after the other, in 64 bits."""
    features, grad = torch.randn(kernel_map.num_in, channels_in), torch.randn(kernel_map.num_out, channels_out)
    weight = torch.randn(channels_out, kernel_map.num_taps, channels_in)
    identity_tap = -1 if kernel_map.identity_tap is None else kernel_map.identity_tap
    padded = torch.cat([features.double(), torch.zeros(1, channels_in)])  # missing rows are zeros
    gathered = padded[kernel_map.table.long()]  # (tap, row, in)
    for matrices in (weight.permute(1, 2, 0), weight.permute(1, 2, 0).contiguous()):
        for is_mirrored in (False, True):
            ordered = matrices.flip(0) if is_mirrored else matrices
            actual = library.convolve(
                features, matrices, kernel_map.plan, kernel_map.num_out, identity_tap, is_mirrored=is_mirrored
            )
            assert_close(actual, torch.einsum("kvi,kio->vo", gathered, ordered.double()))
    actual = library.weight_gradient(features, grad, kernel_map.num_taps, kernel_map.plan, identity_tap)
    assert_close(actual, torch.einsum("vo,kvi->oki", grad.double(), gathered))


def assert_close(actual, expected):
    assert actual.shape == expected.shape and actual.dtype == torch.float32
    if expected.numel():
        assert (actual - expected).abs().max() <= 2e-6 * expected.abs().max()


@pytest.mark.usefixtures("chunk_rows")
@pytest.mark.parametrize("has_identity", [True, False])
@pytest.mark.parametrize(("channels_in", "channels_out"), WIDTHS)
def test_products_and_weight_gradients_are_as_defined(channels_in, channels_out, has_identity):
    for num_out in (0, 1, 13, 300):
        assert_as_defined(native, random_map(num_out, has_identity=has_identity), channels_in, channels_out)


def test_many_rows_on_several_threads_are_as_defined_and_the_same_as_on_one(threads):
    kernel_map = random_map(5000, has_identity=True)
    features, weight, grad = torch.randn(5000, 40), torch.randn(5, 40, 50), torch.randn(5000, 50)
    results = []
    for count in (1, 2, 5, 64):
        threads(count)
        results.append(
            (
                native.convolve(features, weight, kernel_map.plan, 5000, 2),
                native.weight_gradient(features, grad, 5, kernel_map.plan, 2),
            )
        )
        assert all(torch.equal(*pair) for pair in zip(results[0], results[-1]))
    assert_as_defined(native, kernel_map, 40, 50)


@pytest.mark.parametrize("machine", ["x86-64", "x86-64-v3", "x86-64-v4"])
def test_every_size_of_vectors(machine, tmp_path):
    flags = {"x86-64": "sse2", "x86-64-v3": "avx2", "x86-64-v4": "avx512dq"}
    if platform.machine() != "x86_64" or flags[machine] not in Path("/proc/cpuinfo").read_text():
        pytest.skip(f"this machine does not run {machine}")
    library = native.Library(native.build(tmp_path, machine))
    for channels_in, channels_out in WIDTHS:
        assert_as_defined(library, random_map(100, has_identity=True), channels_in, channels_out)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [6, 24])
def test_layers_give_the_values_and_gradients_of_plain_torch(channels, dtype):
    grid_coord = torch.randint(-4, 4, (400, 3))
    voxels = VoxelSet.from_points(grid_coord, torch.arange(400) % 3, 3)[0]
    halved, overlapping = voxels.strided(2, 2), voxels.strided(3, 2, 1)
    for size, forward_map, backward_map in (
        (3, voxels.neighbours(3), None),
        (5, voxels.neighbours(5), None),
        (2, halved.down, halved.up),
        (2, halved.up, halved.down),
        (3, overlapping.down, overlapping.up),
    ):
        features = torch.randn(forward_map.num_in, channels).to(dtype).requires_grad_()
        weight = torch.randn(20, size, size, size, channels).to(dtype).requires_grad_()
        grad = torch.randn(forward_map.num_out, 20).to(dtype)
        results = []
        for backend in ("native", "torch"):
            out = sparse_convolution(features, weight, forward_map, backward_map, backend=backend)
            results.append((out, *torch.autograd.grad(out, (features, weight), grad)))
        for actual, expected in zip(*results):
            assert actual.dtype == dtype
            tolerance = 1e-6 if dtype == torch.float32 else 2**-8  # 16-bit results are rounded
            assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


def test_it_is_what_auto_takes_on_a_cpu_but_for_64_bits(monkeypatch):
    monkeypatch.delenv(SPARSE.variable, raising=False)
    x, kernel_map = torch.randn(3, 4), random_map(3, has_identity=True)
    assert accelerated.chosen_backend("cpu") == "native" and "native" in accelerated.backends_on("cpu")
    assert accelerated.backend_for(x, kernel_map) == "native"
    assert accelerated.backend_for(x.double(), kernel_map, "native") == "torch"
    monkeypatch.setattr(accelerated, "_native_works", lambda: False)
    assert accelerated.chosen_backend("cpu") == "torch"
    with pytest.raises(ValueError, match=r"must work on the device of the features: native, .* does not on cuda"):
        accelerated.chosen_backend("cuda", backend="native")


def test_other_types_are_refused():
    plan = random_map(3, has_identity=True).plan
    with pytest.raises(ValueError, match=r"needs 32-bit floats on both sides.*got \[torch.float32, torch.float64\]"):
        native.convolve(torch.randn(3, 4), torch.randn(5, 4, 2).double(), plan, 3, 2)
    with pytest.raises(ValueError, match=r"got \[torch.float16, torch.float32\]"):
        native.weight_gradient(torch.randn(3, 4).half(), torch.randn(3, 2), 5, plan, 2)


def test_it_is_compiled_once(tmp_path, monkeypatch):
    path = native.build(tmp_path / "cache")
    assert os.listdir(path.parent) == [path.name]  # nothing else is left
    monkeypatch.setattr(native, "_run", None)
    assert native.build(tmp_path / "cache") == path
    with pytest.raises(TypeError):  # another machine's is another library
        native.build(tmp_path / "cache", "x86-64")


def compiler(tmp_path: Path, text: str) -> str:
    path = tmp_path / "compiler"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_what_is_said_where_it_cannot_be_compiled(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", compiler(tmp_path, "echo in a function >&2; echo x.c: error: no such type >&2; exit 1"))
    with pytest.raises(ImportError, match=r"compiler must compile native.c: x.c: error: no such type. Install gcc"):
        native.build(tmp_path)
    monkeypatch.setenv("CC", compiler(tmp_path, "exit 7"))
    with pytest.raises(ImportError, match=r"must compile native.c: exit code 7"):
        native.build(tmp_path)
    monkeypatch.setenv("CC", compiler(tmp_path, "exec sleep 60"))
    monkeypatch.setattr(native, "_COMPILE_SECONDS", 0.1)
    with pytest.raises(ImportError, match=r"must compile native.c within 0.1 s: it did not"):
        native.build(tmp_path)
    monkeypatch.setenv("CC", "no-such-compiler -O1")
    with pytest.raises(
        ImportError, match=r"needs a C compiler: found none of no-such-compiler. Install gcc, or set CC"
    ):
        native.build(tmp_path)
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ImportError, match="must be compiled on Linux: this is darwin"):
        native.build(tmp_path)


@pytest.mark.parametrize("error", [PermissionError(), OSError(errno.EROFS, "Read-only file system")])
def test_a_cache_that_cannot_be_written_does_without(monkeypatch, tmp_path, error):
    build, folders = native.build, []

    def refuse_first(folder):
        folders.append(folder)
        if len(folders) == 1:
            raise error
        return build(folder)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native, "build", refuse_first)
    library = native._load()
    assert folders[0] == tmp_path / "pointcept" and not folders[1].exists()
    assert_as_defined(library, random_map(20, has_identity=True), 9, 5)


def test_without_a_compiler_plain_torch_computes(tmp_path):
    code = "from pointcept.ops.sparse.accelerated import chosen_backend; print(chosen_backend('cpu'))"
    environment = {**os.environ, "CC": "no-such-compiler", "XDG_CACHE_HOME": str(tmp_path), SPARSE.variable: "auto"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == "torch\n", done.stderr
    environment[SPARSE.variable] = "native"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "POINTCEPT_SPARSE asks for native, which is not. Install a C compiler, such as gcc, or use" in done.stderr
