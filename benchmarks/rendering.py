"""Measures time and memory of rendering with all losses, forward and backward, against a straightforward twin."""

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import rendering_twin
from benchmarks.sides import SIDES, measured, peak_memory_gb, report
from pointcept.rendering import (
    ColorLoss,
    DepthLoss,
    EikonalLoss,
    FreeSpaceLoss,
    NeuSRenderer,
    NeuSSampler,
    NormalLoss,
    SDFField,
    SDFLoss,
    SemanticLoss,
    SmoothnessLoss,
)
from pointcept.rendering.rays import intersect_box
from pointcept.structures import FeatureVolume, RayBatch, RayTargets

NUM_CLASSES, FEATURE_CHANNELS = 512, 512  # one-hot embeddings stand for those of a text encoder


class Setting:
    """A room seen by five cameras, in the published indoor sizes (PonderV2)."""

    channels, grid_shape, num_views, rays_per_view, hidden = 128, (128, 128, 32), 5, 256, 128
    num_samples, num_importance = 96, 36

    def __init__(self, device: str, side: str) -> None:
        torch.manual_seed(0)
        size_x, size_y, size_z = self.grid_shape
        features = torch.randn(1, size_z, size_y, size_x, self.channels).mul_(0.5).permute(0, 4, 1, 2, 3)
        # Each side gets the volume in its own order: the toolkit's encoders make it channels-last, the twin's volume is
        # in the order that a convolution gives by default.
        order = torch.channels_last_3d if side == "toolkit" else torch.contiguous_format
        self.features = features.to(device).contiguous(memory_format=order).requires_grad_()
        del features
        self.box = torch.tensor([[[-3.2, -3.2, 0.0], [3.2, 3.2, 1.6]]], device=device)
        self.rays, self.targets = self._rays(device)
        field = SDFField(self.channels, hidden_channels=self.hidden, feature_channels=FEATURE_CHANNELS)
        self.renderer = NeuSRenderer(field, NeuSSampler(self.num_samples, self.num_importance)).to(device)
        losses = (ColorLoss(), DepthLoss(), SDFLoss(), FreeSpaceLoss(), EikonalLoss(), NormalLoss(), SmoothnessLoss())
        self.losses = nn.ModuleList((*losses, SemanticLoss(num_classes=NUM_CLASSES))).to(device)
        self.seed = torch.tensor([1], device=device)

    def _rays(self, device: str) -> tuple[RayBatch, RayTargets]:
        views, count = self.num_views, self.num_views * self.rays_per_view
        origins = (torch.rand(views, 1, 3) - 0.5) * torch.tensor([3.0, 3.0, 0.6]) + torch.tensor([0.0, 0.0, 0.8])
        axis = F.normalize(torch.randn(views, 1, 3) * torch.tensor([1.0, 1.0, 0.2]), dim=-1)
        directions = F.normalize(axis + (torch.rand(views, self.rays_per_view, 3) - 0.5), dim=-1)
        origins = origins.expand_as(directions).reshape(1, count, 3).to(device)
        directions = directions.reshape(1, count, 3).to(device)
        near, far, valid = intersect_box(origins, directions, self.box, 0.01)
        share = 0.5 + 0.5 * torch.rand(1, count, device=device)
        targets = RayTargets(
            color=torch.rand(1, count, 3, device=device),
            distance=near + (far - near) * share,
            segment=torch.randint(0, NUM_CLASSES, (1, count), device=device),
            normal=F.normalize(-directions + 0.3 * torch.randn(1, count, 3, device=device), dim=-1),
        )
        return RayBatch(origins=origins, directions=directions, near=near, far=far, valid=valid), targets

    def step(self, side: str) -> Tensor:
        """Forward and backward; gives the loss."""
        self.features.grad = None
        self.renderer.zero_grad(set_to_none=True)
        volume = FeatureVolume(self.features, self.box)
        if side == "twin":
            rendering = rendering_twin.render(self.renderer, volume, self.rays, self.seed)
        else:
            rendering = self.renderer(volume, self.rays, self.seed)
        parts = [(term.weight, *term(rendering, self.targets, self.rays)) for term in self.losses]
        loss = sum(weight * total / count.clamp(min=1) for weight, total, count in parts)
        loss.backward()
        return loss.detach()


def measure(side: str, *, steps: int, device: str) -> dict[str, float]:
    """Milliseconds of a step and the peak of memory, and the numbers in which the sides must agree."""
    before_gb = peak_memory_gb()
    setting = Setting(device, side)
    figures, loss = measured(lambda: setting.step(side), steps, device, before_gb)
    return {**figures, "loss": float(loss), "volume_gradient": float(setting.features.grad.norm())}


def compare(*, steps: int, twin_steps: int, threads: int, device: str) -> dict[str, float]:
    """Runs each side in a process of its own, one after the other, and gives the ratios."""
    figures: dict[str, float] = {"threads": threads}
    for side, count in zip(SIDES, (steps, twin_steps), strict=True):
        command = [sys.executable, "-m", "benchmarks.rendering", "--side", side, "--steps", str(count)]
        command += ["--threads", str(threads), "--device", device]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        figures |= {f"{side}_{name}": value for name, value in json.loads(output).items()}
    for name in ("loss", "volume_gradient"):
        found, expected = figures[f"toolkit_{name}"], figures[f"twin_{name}"]
        if not math.isclose(found, expected, rel_tol=1e-2):
            raise SystemExit(f"The sides must agree on {name}: got {found} and {expected}.")
    figures["speedup"] = figures["twin_ms"] / figures["toolkit_ms"]
    figures["memory_ratio"] = figures["toolkit_memory_gb"] / figures["twin_memory_gb"]
    figures["rays_per_second"] = Setting.num_views * Setting.rays_per_view / figures["toolkit_ms"] * 1e3
    return figures


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of each side")
    parser.add_argument("--steps", type=int, default=5, help="steps of the toolkit to measure (default 5)")
    parser.add_argument("--twin-steps", type=int, default=2, help="steps of the twin (default 2)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--side", choices=SIDES, help="measure one side in this process and print its figures as JSON")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    if arguments.side:
        print(json.dumps(measure(arguments.side, steps=arguments.steps, device=arguments.device)))
        return
    figures = compare(
        steps=arguments.steps,
        twin_steps=arguments.twin_steps,
        threads=arguments.threads,
        device=arguments.device,
    )
    report(figures, arguments.json)


if __name__ == "__main__":
    main()
