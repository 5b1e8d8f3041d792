"""The command ``python -m pointcept.doctor``: what is installed, used, faster, and whether it works."""

import functools
import importlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

import pointcept
from pointcept.ops.backends import NEIGHBORS
from pointcept.ops.neighbors import chosen_backend, farthest_point_sampling, knn
from pointcept.ops.sparse import SubMConv3d, accelerated, voxelize
from pointcept.ops.sparse.convolution import sparse_convolution
from pointcept.ops.sparse.kernel_map import KernelMap

PACKAGES = {
    "torch": "everything",
    "scipy": "neighbours on a CPU",
    "huggingface_hub": "checkpoints on the Hub",
    "torch_cluster": "neighbours on a GPU",
    "spconv": "sparse convolution on an NVIDIA GPU",
    "spconv_triton": "sparse convolution on a GPU, bfloat16 too",
}
# Relative; a wrong result is off by its own size.
_TOLERANCES = {torch.float32: 5e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
_TOLERANCE = 1e-3


class Check(NamedTuple):
    """One comparison with plain torch.

    Attributes:
        operation: What is computed.
        backend: What computes it.
        device: Where.
        difference: Runs both and gives the largest difference relative to the largest value.
        tolerance: Up to which difference they agree.
    """

    operation: str
    backend: str
    device: str
    difference: Callable[[], float]
    tolerance: float = _TOLERANCE


def main() -> int:
    """Prints each table as soon as it is known, and the progress of the self-checks to the error stream.

    Returns:
        1 where a self-check failed, else 0.
    """
    devices = available_devices()
    used, problems = [], []
    for operation, device, choose in choices(devices):
        try:
            used.append((operation, device, choose()))
        except ValueError as error:
            used.append((operation, device, "nothing"))
            problems.append(str(error))
    _print(table("Installed", ("package", "version", "for"), installed()))
    _print(table("Used", ("operation", "device", "back end"), used))
    results = self_checks(devices)
    header = ("operation", "back end", "device", "result", "detail")
    _print(table("Self-check against plain torch", header, results))
    advice = suggestions(devices) or ["nothing that is known of"]
    _print("What would be faster\n" + "".join(f"  {line}\n" for line in advice) + "\n")
    _print("".join(f"Wrong: {problem}\n" for problem in dict.fromkeys(problems)))
    failed = sum(row[3] != "ok" for row in results)
    _print(f"{failed} of {len(results)} self-checks failed.\n" if failed else "All self-checks passed.\n")
    return 1 if failed or problems else 0


def self_checks(devices: Sequence[str]) -> list[tuple[str, str, str, str, str]]:
    """Operation, back end, device, outcome and detail of every self-check.

    A bar says which one runs: a back end that compiles its kernels at first use can take minutes.
    """
    results = []
    with tqdm(checks(devices), unit="check", leave=False) as bar:
        for check in bar:
            bar.set_description(f"{check.operation}, {check.backend}, {check.device}")
            results.append((check.operation, check.backend, check.device, *outcome(check)))
    return results


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def choices(devices: Sequence[str]) -> list[tuple[str, str, Callable[[], str]]]:
    """Every operation that has a choice of back ends, the device, and what says which one is used there."""
    found = []
    for device in devices:
        types = (torch.float32,) if device == "cpu" else (torch.float32, torch.float16, torch.bfloat16)
        for dtype in types:
            name = "sparse convolution" if device == "cpu" else f"sparse convolution, {str(dtype).partition('.')[2]}"
            found.append((name, device, functools.partial(accelerated.chosen_backend, device, dtype)))
        found.append(("neighbours", device, functools.partial(chosen_backend, device)))
    return found


def available_devices() -> list[str]:
    """``cpu``, and ``cuda`` where torch has a device."""
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def installed() -> list[tuple[str, str, str]]:
    """Name, version and purpose of everything that matters."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none that torch can use"
    return [
        ("python", platform.python_version(), ""),
        ("pointcept", pointcept.__version__, ""),
        ("CUDA of torch", torch.version.cuda or "none, a CPU build", ""),
        ("GPU", gpu, ""),
        *((name, version_of(name), purpose) for name, purpose in PACKAGES.items()),
        ("native", native_state(), "sparse convolution on a CPU"),
    ]


def version_of(name: str) -> str:
    """Version of the package that provides a module, ``not installed``, or why it cannot be imported."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            return "not installed"
        return f"broken: {error}"
    except (ImportError, OSError, RuntimeError, AttributeError) as error:  # built for another torch, for example
        return f"broken: {(str(error).splitlines() or [type(error).__name__])[0]}"
    providers = importlib.metadata.packages_distributions().get(name, [name])
    try:
        return importlib.metadata.version(providers[0])
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def native_state() -> str:
    """``compiled``, or why not."""
    try:
        importlib.import_module("pointcept.ops.sparse.native")
    except (ImportError, OSError, RuntimeError) as error:
        return f"not compiled: {error}"
    return "compiled"


def suggestions(devices: Sequence[str]) -> list[str]:
    """What to install or to set on this machine."""
    advice = []
    if "cuda" in devices and version_of("torch_cluster") == "not installed":
        advice.append("neighbours on the GPU: pip install torch-cluster")
    if "cuda" in devices:
        has = {name: version_of(name) != "not installed" for name in ("spconv", "spconv_triton")}
        if not any(has.values()):
            advice.append("sparse convolution on the GPU: pip install spconv-cu126, or pip install spconv-triton")
        elif not has["spconv_triton"]:
            advice.append("sparse convolution in bfloat16, which spconv does not have: pip install spconv-triton")
    if native_state() != "compiled":
        advice.append("sparse convolution on the CPU: install a C compiler, such as gcc")
    if "cuda" not in devices and os.path.exists("/dev/nvidia0"):
        advice.append(
            "this machine has an NVIDIA GPU that torch cannot use: install a CUDA build of torch, or its driver"
        )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if torch.get_num_threads() < cores:
        advice.append(f"torch uses {torch.get_num_threads()} of {cores} cores: raise OMP_NUM_THREADS")
    return advice


def checks(devices: Sequence[str]) -> list[Check]:
    """Every installed back end on every device, beside a plain computation."""
    found = []
    for device in devices:
        found.append(Check("sparse convolution", "torch", device, lambda d=device: dense_convolution_difference(d)))
        for backend in accelerated.backends_on(device):
            types = (torch.float32,) if device == "cpu" else accelerated.DTYPES[backend]
            for dtype in types:
                name = f"sparse convolution, {str(dtype).partition('.')[2]}"
                difference = functools.partial(sparse_backend_difference, backend, device, dtype)
                found.append(Check(name, backend, device, difference, _TOLERANCES[dtype]))
        for backend, version in NEIGHBORS.versions().items():
            if version is None:
                continue
            found.append(Check("neighbours", backend, device, lambda b=backend, d=device: neighbors_difference(b, d)))
            if backend != "scipy":
                found.append(
                    Check("farthest points", backend, device, lambda b=backend, d=device: samples_difference(b, d))
                )
    return found


def outcome(check: Check) -> tuple[str, str]:
    """``ok`` or ``FAILED``, and the difference or the error."""
    try:
        difference = check.difference()
    except (RuntimeError, ValueError, TypeError, AttributeError, OSError, AssertionError, KeyError) as error:
        return "FAILED", f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return ("ok" if difference <= check.tolerance else "FAILED"), f"difference {difference:.1e}"


def dense_convolution_difference(device: str) -> float:
    """A submanifold convolution beside a dense one, which sees zeros in the empty voxels."""
    generator = torch.Generator().manual_seed(0)
    cells = torch.cartesian_prod(*[torch.arange(7)] * 3)
    grid_coord = cells[torch.randperm(len(cells), generator=generator)[:120]].to(device)
    feat = torch.randn(120, 5, generator=generator).to(device)
    layer = SubMConv3d(5, 6, 3).to(device)
    with torch.no_grad():
        sparse, voxel_of_point = voxelize(feat, grid_coord, torch.zeros_like(grid_coord[:, 0]), 1)
        result = layer(sparse).features[voxel_of_point]
        dense = feat.new_zeros(5, 7, 7, 7)
        x, y, z = grid_coord.T
        dense[:, x, y, z] = feat.T
        expected = F.conv3d(dense[None].double(), layer.weight.permute(0, 4, 1, 2, 3).double(), padding=1)[0]
        expected = expected[:, x, y, z].T + layer.bias.double()
    return _relative_difference(result, expected)


def sparse_backend_difference(backend: str, device: str, dtype: torch.dtype) -> float:
    """The layers of a sparse network by a back end beside plain torch: results and, where it has them, gradients."""
    generator = torch.Generator().manual_seed(0)
    grid_coord = torch.randint(0, 12, (400, 3), generator=generator)
    batch_index = torch.arange(400) % 3
    voxels = voxelize(torch.zeros(400, 1), grid_coord, batch_index, 3)[0].voxels
    strided = voxels.strided(2, 2)
    differences = []
    for maps, size in (
        ((voxels.neighbours(3), None), 3),
        ((strided.down, strided.up), 2),
        ((strided.up, strided.down), 2),
    ):
        features = torch.randn(maps[0].num_in, 16, generator=generator)
        weight = torch.randn(32, size, size, size, 16, generator=generator)
        grad = torch.randn(maps[0].num_out, 32, generator=generator)
        expected = _values_and_gradients("torch", features, weight, grad, *maps)
        moved = [tensor.to(device, dtype) for tensor in (features, weight, grad)]
        actual = _values_and_gradients(backend, *moved, *(None if m is None else m.to(device) for m in maps))
        differences += [_relative_difference(*pair) for pair in zip(actual, expected)]
    return max(differences)


def _values_and_gradients(
    backend: str, features: Tensor, weight: Tensor, grad: Tensor, *maps: KernelMap | None
) -> list[Tensor]:
    inputs = [tensor.requires_grad_() for tensor in (features, weight)]
    has_gradients = backend != "spconv" or features.device.type != "cpu"
    with torch.set_grad_enabled(has_gradients):
        result = sparse_convolution(*inputs, *maps, backend=backend)
    return [result.detach(), *(torch.autograd.grad(result, inputs, grad) if has_gradients else ())]


def neighbors_difference(backend: str, device: str) -> float:
    """Distances to the nearest points beside those of all pairs."""
    coord, offset = _clouds()
    distance = knn(coord.to(device), offset.to(device), k=8, backend=backend).distance
    parts = [coord[start:end].double() for start, end in ((0, 200), (200, 300))]
    expected = torch.cat([torch.cdist(part, part).topk(8, largest=False).values for part in parts])
    return _relative_difference(distance, expected)


def samples_difference(backend: str, device: str) -> float:
    """The points chosen beside those of the definition."""
    coord, offset = _clouds()
    index = farthest_point_sampling(coord.to(device), offset.to(device), num_samples=20, backend=backend).index
    expected = []
    for start, end in ((0, 200), (200, 300)):
        chosen, points = [0], coord[start:end].double()
        while len(chosen) < 20:
            chosen.append(int(torch.cdist(points, points[chosen]).amin(1).argmax()))
        expected += [start + row for row in chosen]
    return _relative_difference(index, torch.tensor(expected))


def _clouds() -> tuple[Tensor, Tensor]:
    coord = torch.rand(300, 3, generator=torch.Generator().manual_seed(0))
    return coord, torch.tensor([200, 200, 300])


def _relative_difference(result: Tensor, expected: Tensor) -> float:
    if result.shape != expected.shape:
        raise ValueError(f"shapes differ: {tuple(result.shape)} and {tuple(expected.shape)}")
    expected = expected.double().cpu()
    difference = ((result.double().cpu() - expected).abs().max() / expected.abs().max()).item()
    return difference if difference == difference else float("inf")  # NaN is a failure too


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text with aligned columns."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    lines.insert(1, tuple("-" * width for width in widths))
    text = ("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)
    return f"{title}\n" + "\n".join(text) + "\n\n"


if __name__ == "__main__":
    sys.exit(main())
