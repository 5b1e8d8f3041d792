"""Measures the peak memory of evaluating one large cloud with many classes, in a process of its own."""

import argparse
import json
import resource
import sys
import time

import numpy as np
import torch

from pointcept import create_model
from pointcept.datasets.transforms import Collect
from pointcept.engines.amp import Precision
from pointcept.engines.inference import FragmentInference
from pointcept.evaluation import SemanticSegmentationEvaluator
from pointcept.models.segmentation import Segmentor
from pointcept.structures import PointSample


def large_cloud(num_points: int, num_classes: int) -> PointSample:
    """A building: floors of 20 x 20 metres, one above the other, with random labels."""
    rng = np.random.default_rng(0)
    coord = rng.uniform(0, 20, (num_points, 3)).astype(np.float32)
    coord[:, 2] = np.floor(coord[:, 2] / 4) * 3 + 0.02 * rng.standard_normal(num_points, dtype=np.float32)
    point = {
        "color": rng.uniform(0, 1, (num_points, 3)).astype(np.float32),
        "segment": rng.integers(-1, num_classes, num_points),
    }
    return PointSample(coord=coord, point=point, scene={"name": "building"})


def measure(num_points: int, num_classes: int, *, grid_size: float, max_fragments: int | None) -> dict[str, float]:
    """Predicts and scores the cloud; returns seconds and the peak resident memory in gigabytes (10^9 bytes)."""
    torch.manual_seed(0)
    backbone = create_model(
        "SpUNet-v1m1", in_channels=6, base_channels=8, channels=(8, 8, 16, 16, 8, 8), layers=(1,) * 6
    )
    model = Segmentor(backbone, num_classes).eval()
    sample = large_cloud(num_points, num_classes)
    inference = FragmentInference(
        grid_size, [Collect(feat_keys=("coord", "color"), keys=("coord", "grid_coord"))], max_fragments=max_fragments
    )
    evaluator = SemanticSegmentationEvaluator(num_classes)
    started = time.perf_counter()
    classes = inference.predict(model, sample, torch.device("cpu"), Precision())
    evaluator.add(torch.from_numpy(classes), torch.from_numpy(sample.point["segment"]))
    evaluator.compute()
    seconds = time.perf_counter() - started
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "seconds": round(seconds, 1),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, 3),
        "all_logits_gb": round(4e-9 * num_points * num_classes, 3),
    }


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=5_000_000)
    parser.add_argument("--classes", type=int, default=200)
    parser.add_argument("--grid-size", type=float, default=0.02, metavar="METRES")
    parser.add_argument("--max-fragments", type=int, metavar="N")
    options = parser.parse_args()
    figures = measure(options.points, options.classes, grid_size=options.grid_size, max_fragments=options.max_fragments)
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
