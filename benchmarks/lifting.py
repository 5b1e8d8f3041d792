"""Measures time and memory of lifting six views to a volume, forward and backward, against loops over the views."""

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import lifting_twin
from benchmarks.sides import SIDES, measured, peak_memory_gb, report
from pointcept.structures import CameraBatch
from ponder2d.depth import DepthBins, DepthDistribution
from ponder2d.lifting import ProjectionLifting, SplattingLifting

SCHEMES = ("projection", "splatting")
NUM_VIEWS, CHANNELS = 6, 256


class Outdoor:
    """Six cameras around a car, UniPAD's range, voxels and depth bins; feature maps of stride 8."""

    box, grid_shape = ((-54.0, -54.0, -3.0), (54.0, 54.0, 5.0)), (180, 180, 5)
    image_size, map_size, focal = (256, 704), (32, 88), 557.0
    bins = (1.0, 60.0, 118)
    eye_height, outward_m, pitch = 1.5, 1.0, 0.0


class Indoor:
    """Six cameras that look across a room; feature maps of stride 8."""

    box, grid_shape = ((-3.2, -3.2, 0.0), (3.2, 3.2, 1.6)), (128, 128, 32)
    image_size, map_size, focal = (480, 640), (60, 80), 577.0
    bins = (0.3, 8.0, 96)
    eye_height, outward_m, pitch = 1.2, -2.0, 0.15


SETTINGS = {"outdoor": Outdoor, "indoor": Indoor}


def cameras_of(setting: type) -> CameraBatch:
    """Views that look away from the centre, from ``outward_m`` in front of it, ``pitch`` radians downwards."""
    angle = torch.arange(NUM_VIEWS) * (2 * math.pi / NUM_VIEWS)
    zero = torch.zeros(NUM_VIEWS)
    ahead = torch.stack((angle.cos(), angle.sin(), zero), dim=-1)
    forward = math.cos(setting.pitch) * ahead - math.sin(setting.pitch) * torch.tensor([0.0, 0.0, 1.0])
    right = torch.stack((angle.sin(), -angle.cos(), zero), dim=-1)
    rotation = torch.stack((right, torch.linalg.cross(forward, right), forward), dim=1)
    eye = setting.outward_m * ahead + torch.tensor([0.0, 0.0, setting.eye_height])
    extrinsic = torch.eye(4).repeat(1, NUM_VIEWS, 1, 1)
    extrinsic[0, :, :3, :3] = rotation
    extrinsic[0, :, :3, 3] = -torch.einsum("vij,vj->vi", rotation, eye)
    height, width = setting.image_size
    intrinsic = torch.tensor(
        [[setting.focal, 0, (width - 1) / 2], [0, setting.focal, (height - 1) / 2], [0, 0, 1.0]]
    ).repeat(1, NUM_VIEWS, 1, 1)
    return CameraBatch(
        image=torch.zeros(1, NUM_VIEWS, 3, height, width),
        depth=torch.zeros(1, NUM_VIEWS, height, width),
        intrinsic=intrinsic,
        extrinsic=extrinsic,
        size_px=torch.tensor([height, width]).repeat(1, NUM_VIEWS, 1),
    )


class Work:
    """The input of one measurement and what is computed from it.

    Each side gets and gives features in its own order of memory: the toolkit's networks make volumes channels-last.
    """

    def __init__(self, setting: type, scheme: str, side: str, device: str) -> None:
        generator = torch.Generator().manual_seed(0)
        height, width = setting.map_size
        bins = DepthBins(*setting.bins)
        self.scheme, self.side, self.grid_shape = scheme, side, setting.grid_shape
        self.cameras = cameras_of(setting).to(device)
        self.box = torch.tensor([setting.box], device=device)
        self.edges = bins.edges.to(device)
        features = torch.randn(1, NUM_VIEWS, CHANNELS, height, width, generator=generator)
        logits = torch.randn(1, NUM_VIEWS, bins.num_bins, height, width, generator=generator)
        self.features = features.to(device).requires_grad_()
        self.probability = logits.softmax(dim=2).to(device).requires_grad_()
        size_x, size_y, size_z = setting.grid_shape
        gradient = torch.randn(1, size_z, size_y, size_x, CHANNELS, generator=generator).permute(0, 4, 1, 2, 3)
        self.gradient = gradient.to(device)
        if side == "twin" and scheme == "projection":  # the only one whose volume has the channels first
            self.gradient = self.gradient.contiguous()

    def forward(self) -> Tensor:
        """The volume (1, C, Z, Y, X)."""
        if self.side == "twin":
            lift = lifting_twin.project if self.scheme == "projection" else lifting_twin.splat
            return lift(self.features, self.probability, self.edges, self.cameras, self.box, self.grid_shape)
        lifting = ProjectionLifting() if self.scheme == "projection" else SplattingLifting()
        depth = DepthDistribution(self.probability, self.edges)
        return lifting(self.features, depth, self.cameras, self.box, self.grid_shape).features

    def step(self) -> Tensor:
        """Forward and backward; gives the volume."""
        self.features.grad = self.probability.grad = None
        volume = self.forward()
        volume.backward(self.gradient)
        return volume.detach()

    def values(self, volume: Tensor) -> dict[str, float]:
        """Numbers in which the sides must agree: inner products with fixed random directions."""
        generator = torch.Generator().manual_seed(1)
        figures = {
            "value": float(sum((a * b).double().sum() for a, b in zip(volume[0], self.gradient[0], strict=True)))
        }
        for name, tensor in (("feature_gradient", self.features.grad), ("depth_gradient", self.probability.grad)):
            direction = torch.randn(tensor.shape, generator=generator).to(tensor.device)
            figures[name] = float((tensor * direction).double().sum())
            figures[f"{name}_norm"] = float(tensor.double().norm())
        return figures


def measure(setting: str, scheme: str, side: str, *, steps: int, device: str) -> dict[str, float]:
    """Milliseconds of a step and the peak of memory, and the numbers in which the sides must agree."""
    before_gb = peak_memory_gb()
    work = Work(SETTINGS[setting], scheme, side, device)
    figures, volume = measured(work.step, steps, device, before_gb)
    return {**figures, **work.values(volume)}


def compare(*, steps: int, twin_steps: int, threads: int, device: str) -> dict[str, float]:
    """Runs each side in a process of its own, one after the other, and gives the ratios.

    ``projection_speedup`` and ``splatting_speedup`` are the smaller one of the two settings'.
    """
    figures: dict[str, float] = {"threads": threads}
    for scheme in SCHEMES:
        for setting in SETTINGS:
            name = f"{setting}_{scheme}"
            found = {}
            for side, count in zip(SIDES, (steps, twin_steps), strict=True):
                command = [sys.executable, "-m", "benchmarks.lifting", "--side", side, "--scheme", scheme]
                command += ["--setting", setting, "--steps", str(count), "--threads", str(threads), "--device", device]
                found[side] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
                figures |= {f"{name}_{side}_{key}": found[side][key] for key in ("ms", "memory_gb")}
            for key, expected in found["twin"].items():
                scale = abs(found["twin"].get(f"{key}_norm", expected))
                if key not in ("ms", "memory_gb") and abs(found["toolkit"][key] - expected) > 1e-3 * scale:
                    raise SystemExit(
                        f"The sides must agree on {key} of {name}: {found['toolkit'][key]} and {expected}."
                    )
            figures[f"{name}_speedup"] = found["twin"]["ms"] / found["toolkit"]["ms"]
            figures[f"{name}_memory_ratio"] = found["toolkit"]["memory_gb"] / found["twin"]["memory_gb"]
        figures[f"{scheme}_speedup"] = min(figures[f"{setting}_{scheme}_speedup"] for setting in SETTINGS)
    return figures


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of each side")
    parser.add_argument("--steps", type=int, default=5, help="steps of the toolkit to measure (default 5)")
    parser.add_argument("--twin-steps", type=int, default=3, help="steps of the twin (default 3)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--side", choices=SIDES, help="measure one side in this process and print its figures as JSON")
    parser.add_argument("--scheme", choices=SCHEMES, default="projection", help="with --side")
    parser.add_argument("--setting", choices=SETTINGS, default="outdoor", help="with --side")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    if arguments.side:
        setting, scheme, side = arguments.setting, arguments.scheme, arguments.side
        print(json.dumps(measure(setting, scheme, side, steps=arguments.steps, device=arguments.device)))
        return
    figures = compare(
        steps=arguments.steps, twin_steps=arguments.twin_steps, threads=arguments.threads, device=arguments.device
    )
    report(figures, arguments.json)


if __name__ == "__main__":
    main()
