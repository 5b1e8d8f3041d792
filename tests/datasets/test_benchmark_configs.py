"""The pipelines of the benchmarks' configs turn a cloud into what the config's model takes."""

from pathlib import Path

import numpy as np
import pytest

from pointcept.config import load_config
from pointcept.datasets.collate import collate
from pointcept.datasets.labels import label_set
from pointcept.datasets.transforms import apply_transforms
from pointcept.registry import build
from pointcept.structures import PointSample

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PATHS = sorted(CONFIGS.glob("*/semseg-*-0-base.py"))


def cloud(num_points: int = 4000) -> PointSample:
    rng = np.random.default_rng(0)
    coord = (rng.uniform(0, 1, (num_points, 3)) * (3, 2, 1)).astype(np.float32)
    normal = rng.normal(size=(num_points, 3)).astype(np.float32)
    point = {
        "color": rng.uniform(0, 255, (num_points, 3)).astype(np.float32),
        "normal": normal / np.linalg.norm(normal, axis=1, keepdims=True),
        "strength": rng.uniform(0, 1, (num_points, 1)).astype(np.float32),
        "segment": rng.integers(-1, 13, num_points),
    }
    return PointSample(coord=coord, point=point, scene={"name": "cloud", "condition": "any"}, seed=3)


def test_every_benchmark_has_two_configs():
    assert len(PATHS) == 12


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_pipelines_suit_the_model(path):
    config = load_config(path)
    backbone = config.model["backbone"]
    num_classes = config.model.get("num_classes") or backbone["num_classes"]
    assert len(label_set(config.test["evaluator"]["class_names"])) == num_classes
    rng = np.random.default_rng(0)

    train = collate([apply_transforms(cloud(), build(config.data["train"]["transform"]), rng)])
    assert train.points.feat.shape == (train.points.num_points, backbone["in_channels"])
    grid = train.points.grid_coord.numpy()
    assert len(np.unique(grid, axis=0)) == len(grid) and train.points.segment is not None

    val = collate([apply_transforms(cloud(), build(config.data["val"]["transform"]), rng)])
    assert val.points.feat.shape[1] == backbone["in_channels"] and len(val.origin.inverse) == 4000
    np.testing.assert_array_equal(val.origin.segment.numpy(), cloud().point["segment"])

    prepared = apply_transforms(cloud(), build(config.data["test"].get("transform", [])), rng)
    variants = build(config.test["inference"]["aug_transform"])
    assert len(variants) in (10, 13)
    for variant in variants:
        turned = apply_transforms(prepared, variant, rng).with_point(grid_coord=np.zeros((4000, 3), np.int64))
        ready = apply_transforms(turned, build(config.test["inference"]["post_transform"]), rng)
        assert ready.point["feat"].shape == (4000, backbone["in_channels"])
