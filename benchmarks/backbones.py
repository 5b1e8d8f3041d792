"""Times the backbones on a room of 60,000 voxels, each side in a process of its own.

On a CPU the 39.2 M-parameter SparseUNet beside the same network in spconv's CPU wheel, and the base size of Point
Transformer V3; on a GPU also every back end of sparse convolution in TF32 and bfloat16. ``--million`` instead takes a
batch of many millions of points through voxel search, kernel maps, serialization and a SparseUNet.
"""

import argparse
import contextlib
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


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each side (default 2)")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs, of which the fastest counts (default 5)")
    parser.add_argument("--spconv-python", default=sys.executable, help="interpreter that has spconv==2.3.8")
    parser.add_argument("--only", nargs="+", default=SIDES, choices=SIDES, metavar="SIDE", help=", ".join(SIDES))
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
        sides = [f"{name}:cpu:float32:torch" for name in arguments.only]
        if torch.cuda.is_available():
            sides += [
                f"{name}:cuda:{dtype}:{backend}"
                for name in arguments.only
                for dtype in ("tf32", "bfloat16")
                for backend in ("torch", *backends_on("cuda"))
            ]
    for side in sides:
        figures |= in_own_process(side, arguments)
    if "spconv_forward_s" in figures:
        figures["spunet_forward_ratio_vs_spconv"] = figures["spconv_forward_s"] / figures["spunet_forward_s"]
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
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    *notes, figures = done.stdout.splitlines()
    for note in notes:
        print(note)
    return json.loads(figures)


def run_side(side: str, arguments: argparse.Namespace) -> dict[str, float]:
    """What ``--side`` computes: ``network_work:device:precision:backend``, or a large batch."""
    if side.startswith("large"):
        return (large_maps if side == "large_maps" else large_network)(int(arguments.million * 1e6))
    name, device, precision, backend = side.split(":")
    os.environ[SPARSE.variable] = backend
    torch.manual_seed(0)
    points = make_points()
    network = build(name.partition("_")[0])
    is_reference = (device, precision) == ("cpu", "float32")
    label = name if is_reference else f"{name}_{device}_{precision}_{backend}"
    if precision == "tf32":
        torch.set_float32_matmul_precision("high")
    autocast = torch.autocast(device, dtype=torch.bfloat16) if precision == "bfloat16" else contextlib.nullcontext()
    figures: dict[str, float] = {}
    if name.endswith("train"):
        network, points = network.to(device), points.to(device)
        figures[f"{label}_step_s"] = time_train_step(network, points, max(arguments.repeats // 2, 1), autocast)
    else:
        calibrate(network, points)
        network, points = network.to(device), points.to(device)
        with torch.no_grad(), autocast:
            output = network(points).feat
            figures[f"{label}_s"] = fastest(lambda: network(points), arguments.repeats, device)
        if is_reference:
            figures[f"{name.partition('_')[0]}_parameters"] = sum(p.numel() for p in network.parameters())
        if label == "spunet_forward":
            figures |= compare_spconv(network, points, output, arguments)
    return figures | {f"{label}_peak_memory_gb": peak_memory_gb(device)}


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


def time_train_step(
    network: nn.Module, points: PointBatch, repeats: int, autocast: contextlib.AbstractContextManager
) -> float:
    """Seconds of forward, cross-entropy, backward and optimizer."""
    target = torch.arange(points.num_points, device=points.feat.device) % NUM_CLASSES
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    network.train()

    def step() -> None:
        optimizer.zero_grad()
        with autocast:
            loss = F.cross_entropy(network(points).feat.float(), target)
        loss.backward()
        optimizer.step()

    return fastest(step, repeats, points.feat.device.type)


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
