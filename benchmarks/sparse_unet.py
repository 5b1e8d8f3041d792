"""Times the 39.2 M-parameter SparseUNet on a room of 60,000 voxels, beside the same network in spconv's CPU wheel."""

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

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pointcept.models.backbones import SparseUNet
from pointcept.structures import PointBatch

IN_CHANNELS, NUM_CLASSES, NUM_VOXELS, VOXEL_SIZE = 6, 20, 60_000, 0.02


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--threads", type=int, default=2, help="threads of this project's network (default 2)")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs, of which the fastest counts (default 5)")
    parser.add_argument("--spconv-python", default=sys.executable, help="interpreter that has spconv==2.3.8")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    points = make_points()
    torch.manual_seed(0)
    network = SparseUNet(IN_CHANNELS, NUM_CLASSES)
    calibrate(network, points)
    figures = {
        "voxels": points.num_points,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "threads": arguments.threads,
    }
    with torch.no_grad():
        output = network(points).feat
        figures["forward_s"] = fastest(lambda: network(points), arguments.repeats)
    figures |= compare_spconv(network, points, output, arguments)
    if "spconv_forward_s" in figures:
        figures["forward_ratio_vs_spconv"] = figures["spconv_forward_s"] / figures["forward_s"]
    figures["train_step_s"] = time_train_step(network, points, max(arguments.repeats // 2, 1))
    figures["peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    for name, value in figures.items():
        print(f"{name:36s} {value:>14,.6g}" if isinstance(value, float) else f"{name:36s} {value:>14,}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def make_points() -> PointBatch:
    """One furnished room, scanned with noise, at about one point per voxel face; always the same one."""
    rng = np.random.default_rng(0)
    coord = scan_room(rng)
    grid_coord = np.unique(np.floor((coord - coord.min(0)) / VOXEL_SIZE).astype(np.int64), axis=0)
    if len(grid_coord) < NUM_VOXELS:
        raise RuntimeError(f"The room must fill {NUM_VOXELS} voxels: got {len(grid_coord)}.")
    # The indices are sorted by x first, so this cuts the room's far end off.
    grid_coord = torch.from_numpy(grid_coord[:NUM_VOXELS])
    feat = torch.from_numpy(rng.standard_normal((NUM_VOXELS, IN_CHANNELS)).astype(np.float32))
    return PointBatch(
        coord=grid_coord.float() * VOXEL_SIZE,
        grid_coord=grid_coord,
        feat=feat,
        offset=torch.tensor([NUM_VOXELS]),
    )


def scan_room(rng: np.random.Generator) -> np.ndarray:
    """Points on the floor, the walls and eight boxes of a room that is not aligned with the grid, metres."""
    length, width, height = 2.8, 2.4, 1.4
    axes = np.diag([length, width, height])
    faces = [(np.zeros(3), axes[0], axes[1])]
    faces += [(corner, side, axes[2]) for corner, side in ((axes[0] * 0, axes[0]), (axes[1], axes[0]))]
    faces += [(corner, side, axes[2]) for corner, side in ((axes[0] * 0, axes[1]), (axes[0], axes[1]))]
    for _ in range(8):
        size, angle = rng.uniform([0.3, 0.3, 0.3], [0.7, 0.6, 0.9]), rng.uniform(0, np.pi)
        side_a = size[0] * np.array([np.cos(angle), np.sin(angle), 0])
        side_b = size[1] * np.array([-np.sin(angle), np.cos(angle), 0])
        up = np.array([0, 0, size[2]])
        corner = np.array([rng.uniform(0.4, length - 0.4), rng.uniform(0.4, width - 0.4), 0]) - (side_a + side_b) / 2
        faces += [
            (corner, side_a, up),
            (corner + side_b, side_a, up),
            (corner, side_b, up),
            (corner + side_a, side_b, up),
        ]
        faces.append((corner + up, side_a, side_b))
    cloud = []
    for corner, side_a, side_b in faces:
        normal = np.cross(side_a, side_b)
        area = np.linalg.norm(normal)
        share = rng.random((int(1.9 * area / VOXEL_SIZE**2), 2))
        noise = rng.normal(0, 0.002, (len(share), 1))
        cloud.append(corner + share[:, :1] * side_a + share[:, 1:] * side_b + noise * normal / area)
    cos, sin = np.cos(0.35), np.sin(0.35)
    return np.concatenate(cloud) @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])


@torch.no_grad()
def calibrate(network: nn.Module, points: PointBatch) -> None:
    """Give batch norm the room's statistics, so that features keep their scale through the network; then evaluate."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d)]
    for norm in norms:
        norm.momentum = 1.0
    network.train()
    network(points)
    for norm in norms:
        norm.momentum = 0.01
    network.eval()


def fastest(function: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of some runs, after one to warm up."""
    function()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def time_train_step(network: nn.Module, points: PointBatch, repeats: int) -> float:
    """Seconds of forward, cross-entropy, backward and optimizer."""
    target = torch.arange(points.num_points) % NUM_CLASSES
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    network.train()

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(points).feat, target).backward()
        optimizer.step()

    return fastest(step, repeats)


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
    return {"spconv_forward_s": result["seconds"].item(), "max_relative_difference": difference.item()}


if __name__ == "__main__":
    main()
