"""Times the backbones on a room of 60,000 voxels, each side in a process of its own.

On a CPU the 39.2 M-parameter SparseUNet, by the compiled convolution where there is a C compiler and in plain torch,
beside the same network in spconv's CPU wheel, and the base size of Point Transformer V3; on a GPU every back end of
sparse convolution in TF32, bfloat16 and float16. ``--million`` instead takes a batch of many millions of points through
voxel search, kernel maps, serialization and a SparseUNet.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.room import IN_CHANNELS, calibrate, large_batch, make_points
from benchmarks.sides import timed
from pointcept import create_model
from pointcept.ops.backends import SPARSE
from pointcept.ops.serialization import ORDERS, serialize
from pointcept.ops.sparse.accelerated import backends_on
from pointcept.ops.sparse.voxels import VoxelSet
from pointcept.structures import PointBatch

NUM_CLASSES = 20
SIDES = ("spunet_forward", "spunet_train", "ptv3_forward", "ptv3_train")
GPU_DTYPES = {"tf32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each side (default 2)")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs, of which the fastest counts (default 5)")
    parser.add_argument("--spconv-python", default=sys.executable, help="interpreter that has spconv==2.3.8")
    parser.add_argument("--only", nargs="+", default=SIDES, choices=SIDES, metavar="SIDE", help=", ".join(SIDES))
    parser.add_argument("--devices", nargs="+", choices=("cpu", "cuda"), help="where (default: all that there are)")
    parser.add_argument("--backends", nargs="+", choices=SPARSE.names, help="on a GPU (default: all that work)")
    parser.add_argument("--million", type=float, metavar="M", help="the large batch instead, of M million points")
    parser.add_argument("--side", help=argparse.SUPPRESS)  # what a process of its own is started with
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.side:
        print(json.dumps(run_side(arguments.side, arguments)))
        return
    figures: dict[str, float] = {"threads": arguments.threads}
    if arguments.million:
        sides = ["large_maps", "large_network"]
    else:
        devices = arguments.devices or (("cpu", "cuda") if torch.cuda.is_available() else ("cpu",))
        sides = [f"{name}:{device}" for device in devices for name in arguments.only]
    for side in sides:
        figures |= in_own_process(side, arguments)
    for name in ("spunet_forward", "spunet_forward_plain_torch"):
        if {"spconv_forward_s", f"{name}_s"} <= figures.keys():
            figures[f"{name}_ratio_vs_spconv"] = figures["spconv_forward_s"] / figures[f"{name}_s"]
    for name, value in figures.items():
        print(f"{name:52s} {value:>14,.6g}" if isinstance(value, float) else f"{name:52s} {value:>14,}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def in_own_process(side: str, arguments: argparse.Namespace) -> dict[str, float]:
    """The figures of one side, so that neither memory nor warm caches carry over from another."""
    command = [sys.executable, "-m", "benchmarks.backbones", "--side", side]
    for name in ("threads", "repeats", "spconv_python", "million"):
        value = getattr(arguments, name)
        command += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
    command += ["--backends", *arguments.backends] if arguments.backends else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    *notes, figures = done.stdout.splitlines()
    for note in notes:
        print(note)
    return json.loads(figures)


def run_side(side: str, arguments: argparse.Namespace) -> dict[str, float]:
    """What ``--side`` computes: ``network_work:device``, or a large batch."""
    if side.startswith("large"):
        return (large_maps if side == "large_maps" else large_network)(int(arguments.million * 1e6))
    name, device = side.split(":")
    torch.manual_seed(0)
    points, network = make_points().to(device), build(name.partition("_")[0]).to(device)
    if name.endswith("forward"):
        calibrate(network, points)
    return (run_on_cpu if device == "cpu" else run_on_gpu)(name, network, points, arguments)


def run_on_cpu(name: str, network: nn.Module, points: PointBatch, arguments: argparse.Namespace) -> dict[str, float]:
    """Figures in float32 of what ``auto`` takes, of plain torch where that is another, and of spconv if installed."""
    figures: dict[str, float] = {}
    backends = [backend for backend in ("native", "torch") if SPARSE.is_installed(backend)]
    for backend in backends:
        os.environ[SPARSE.variable] = backend
        label = name if backend == backends[0] else f"{name}_plain_torch"
        if name.endswith("train"):
            seconds = time_train_step(network, points, max(arguments.repeats // 2, 1), torch.float32)
            figures[f"{label}_step_s"] = seconds
        else:
            with torch.no_grad():
                figures[f"{label}_s"] = fastest(lambda: network(points), arguments.repeats, "cpu")
        figures.setdefault(f"{name}_peak_memory_gb", peak_memory_gb("cpu"))
    figures[f"{name.partition('_')[0]}_parameters"] = sum(p.numel() for p in network.parameters())
    if name == "spunet_forward":
        os.environ[SPARSE.variable] = backends[0]
        with torch.no_grad():
            figures |= compare_spconv(network, points, network(points).feat, arguments)
    return figures


def run_on_gpu(name: str, network: nn.Module, points: PointBatch, arguments: argparse.Namespace) -> dict[str, float]:
    """Milliseconds and memory of every back end in every precision, and how far outputs are from float32's."""
    figures: dict[str, float] = {}
    os.environ[SPARSE.variable] = "torch"
    is_forward = name.endswith("forward")
    with torch.no_grad():
        expected = network(points).feat if is_forward else None
    for backend in arguments.backends or ("torch", *backends_on("cuda")):
        os.environ[SPARSE.variable] = backend
        for precision, dtype in GPU_DTYPES.items():
            label = f"{name}_cuda_{precision}_{backend}"
            torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
            torch.cuda.reset_peak_memory_stats()
            if is_forward:
                with torch.no_grad(), autocast("cuda", dtype):
                    output = network(points).feat.float()
                    figures[f"{label}_ms"] = 1e3 * fastest(lambda: network(points), arguments.repeats, "cuda")
                error = (output - expected).norm() / expected.norm()
                figures[f"{label}_relative_difference"] = error.item()
            else:
                figures[f"{label}_step_ms"] = 1e3 * time_train_step(network, points, arguments.repeats, dtype)
            figures[f"{label}_peak_memory_gb"] = peak_memory_gb("cuda")
    return figures


def autocast(device: str, dtype: torch.dtype) -> torch.autocast:
    """Mixed precision with 16 bits, and none with 32."""
    return torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32)


def build(name: str) -> nn.Module:
    """The SparseUNet, or Point Transformer V3 as the reference has it: 16 channels to a head, windows of 1,024."""
    if name == "spunet":
        return create_model("SpUNet-v1m1", in_channels=IN_CHANNELS, num_classes=NUM_CLASSES)
    windows = {"enc_patch_size": (1024,) * 5, "dec_patch_size": (1024,) * 4}
    network = create_model("PT-v3m1", in_channels=IN_CHANNELS, order=ORDERS, **windows)
    network.reset_head(NUM_CLASSES)
    return network


def fastest(function: Callable[[], object], repeats: int, device: str) -> float:
    """Seconds of the fastest of some runs, after one to warm up."""
    return min(timed(function, repeats, device)[0])


def time_train_step(network: nn.Module, points: PointBatch, repeats: int, dtype: torch.dtype) -> float:
    """Seconds of forward, cross-entropy, backward and optimizer."""
    device = points.feat.device
    target = torch.arange(points.num_points, device=device) % NUM_CLASSES
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    network.train()

    def step() -> None:
        optimizer.zero_grad()
        with autocast(device.type, dtype):
            loss = F.cross_entropy(network(points).feat.float(), target)
        loss.backward()
        optimizer.step()

    return fastest(step, repeats, device.type)


def compare_spconv(network: nn.Module, points: PointBatch, output: Tensor, arguments: argparse.Namespace) -> dict:
    """Time of the same network in spconv, and how far its output is from ours. Empty where spconv is missing.

    spconv runs alone in a process of one thread: with more, its CPU kernels race and return other values each time.
    """
    probe = "import importlib.util as u; raise SystemExit(u.find_spec('spconv') is None)"
    found = subprocess.run([arguments.spconv_python, "-c", probe]).returncode == 0
    if not found:
        print(f"spconv is not installed for {arguments.spconv_python}: no comparison. Install spconv==2.3.8.")
        return {}
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "given.safetensors"), Path(folder, "made.safetensors")
        state = {f"state.{name}": value for name, value in network.state_dict().items()}
        save_file(state | {"feat": points.feat, "grid_coord": points.grid_coord}, given)
        twin = Path(__file__).with_name("spconv_twin.py")
        subprocess.run(
            [arguments.spconv_python, str(twin), str(given), str(made), str(max(arguments.repeats // 2, 1))],
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        result = load_file(made)
    difference = (result["output"] - output).abs().max() / output.abs().max()
    return {"spconv_forward_s": result["seconds"].item(), "spconv_max_relative_difference": difference.item()}


def large_maps(num_points: int) -> dict[str, float]:
    """Seconds of each step before a network on a batch of millions of points, and peak memory up to its end."""
    figures: dict[str, float] = {"points": num_points}
    points = large_batch(num_points)

    def timed(name: str, function: Callable[[], object]) -> object:
        start = time.perf_counter()
        result = function()
        figures[f"{name}_s"] = time.perf_counter() - start
        figures[f"{name}_peak_memory_gb"] = peak_memory_gb("cpu")
        return result

    figures["points_peak_memory_gb"] = peak_memory_gb("cpu")
    batch_index = points.batch_index
    voxels, _ = timed("voxels", lambda: VoxelSet.from_points(points.grid_coord, batch_index, points.batch_size))
    figures["voxels"] = len(voxels)
    coord = voxels.coord
    timed("serialize_4_curves", lambda: serialize(coord[:, 1:], coord[:, 0], points.batch_size, ORDERS))
    strided = timed("map_strided", lambda: voxels.strided(2, 2))
    figures["coarse_voxels"] = len(strided.voxels)
    timed("map_3x3x3", lambda: voxels.neighbours(3))
    figures["pairs_3x3x3"] = timed("plan_3x3x3", lambda: voxels.neighbours(3).plan).in_rows.shape[0] + len(voxels)
    return figures


def large_network(num_points: int) -> dict[str, float]:
    """Seconds and peak memory of a SparseUNet, small so that memory is that of the maps, on millions of points."""
    points = large_batch(num_points)
    sizes = {"base_channels": 16, "channels": (16, 32, 32, 16), "layers": (1, 1, 1, 1)}
    network = create_model("SpUNet-v1m1", in_channels=IN_CHANNELS, num_classes=NUM_CLASSES, **sizes).eval()
    start = time.perf_counter()
    with torch.no_grad():
        output = network(points).feat
    seconds = time.perf_counter() - start
    if not bool(torch.isfinite(output).all()):
        raise RuntimeError("The output must be finite: it is not.")
    return {"small_spunet_forward_s": seconds, "small_spunet_forward_peak_memory_gb": peak_memory_gb("cpu")}


def peak_memory_gb(device: str) -> float:
    """Of this process, or of the device."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
