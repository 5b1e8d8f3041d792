"""The probes of the demo's configs: a step of training changes what it should, bit for bit, and nothing else."""

import numpy as np
import pytest
import torch

from pointcept.config import load_config
from pointcept.engines.optim import build_optimizer
from pointcept.engines.tester import evaluate
from pointcept.registry import MODELS, OPTIMIZERS, build
from pointcept.structures import PointBatch, SceneBatch

ENCODER = ("backbone.conv_input.", "backbone.down.", "backbone.enc.")


def rooms() -> SceneBatch:
    """Two flat clouds with features and labels of 20 classes."""
    generator = torch.Generator().manual_seed(0)
    grid_coord = torch.unique(torch.randint(0, 40, (500, 3), generator=generator) // torch.tensor([1, 1, 4]), dim=0)
    count = len(grid_coord)
    points = PointBatch(
        coord=grid_coord * 0.06,
        grid_coord=grid_coord,
        feat=torch.rand(count, 6, generator=generator),
        offset=torch.tensor([count // 2, count]),
        segment=torch.randint(-1, 20, (count,), generator=generator),
    )
    return SceneBatch(seed=torch.tensor([1, 2]), name=("a", "b"), points=points)


def changed_by_a_step(name: str) -> tuple[torch.nn.Module, set[str]]:
    """The names of the entries of the state that two steps of the config's optimizer change, weight decay included."""
    config = load_config(name, ["optimizer.weight_decay=0.5"])
    torch.manual_seed(0)
    model = build(config.model, "model", MODELS)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = build_optimizer(model, build(config.optimizer, "optimizer", OPTIMIZERS), config.param_dicts)
    for _ in range(2):
        model.train()
        optimizer.zero_grad()
        sum(model(rooms()).values()).backward()
        optimizer.step()
        model.eval()
    return model, {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}


def test_a_linear_probe_changes_the_head_alone():
    model, changed = changed_by_a_step("demo/semseg-spunet-probe")
    assert changed == {name for name in model.state_dict() if name.startswith("seg_head.")}
    weights = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert weights == {f"seg_head.proj.{stage}.{kind}" for stage in range(5) for kind in ("weight", "bias")}
    assert not any(module.training for module in model.train().backbone.modules())


def test_a_decoder_probe_leaves_the_encoder_as_it_is():
    model, changed = changed_by_a_step("demo/semseg-spunet-decoder")
    rest = {key for key in model.state_dict() if not key.startswith(ENCODER)}
    assert changed == rest  # every weight and every running statistic of decoder and head


def test_full_fine_tuning_changes_everything():
    model, changed = changed_by_a_step("demo/semseg-spunet")
    assert changed == set(model.state_dict())


def test_lora_changes_adapters_and_head():
    model, changed = changed_by_a_step("demo/semseg-ptv3-lora")
    adapters = {key for key in model.state_dict() if key.endswith(("lora_down", "lora_up"))}
    assert len(adapters) == 2 * 2 * 8  # A and B of qkv and proj of the 8 blocks
    assert changed == adapters | {"seg_head.weight", "seg_head.bias"}


def test_a_frozen_backbone_gives_the_same_features_in_training():
    model = build(load_config("demo/semseg-spunet-probe").model, "model", MODELS)
    points = rooms().points
    features = [model.train(mode).backbone(points).feat for mode in (True, False)]
    assert torch.equal(*features)  # a batch norm in training mode would use the batch's statistics


def test_the_nearest_neighbour_probe_scores_a_backbone(tmp_path):
    """Two classes that the input features tell apart are told apart by any backbone that keeps them apart."""
    rng = np.random.default_rng(0)
    for split, names in (("train", "abc"), ("val", "de")):
        for name in names:
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            segment = rng.integers(0, 2, 80)
            np.save(folder / "coord.npy", rng.uniform(0, 8, (80, 3)).astype(np.float32))
            np.save(folder / "color.npy", (segment[:, None] * np.full((80, 3), 200)).astype(np.float32))
            np.save(folder / "segment20.npy", segment)
    transform = [
        {"type": "GridSample", "grid_size": 0.02, "return_inverse": True},
        {"type": "NormalizeColor"},
        {"type": "Collect", "feat_keys": ("color",)},
    ]
    data = {"type": "SceneDataset", "data_root": str(tmp_path / "data"), "transform": transform}
    backbone = {"type": "SpUNet-v1m1", "in_channels": 3, "base_channels": 8, "channels": (8, 8), "layers": (1, 1)}
    config = {
        "model": backbone,
        "data": {"test": {**data, "split": "val"}},
        "test": {
            "type": "KNNProbe",
            "memory": {**data, "split": "train"},
            "evaluator": {"type": "SemSegEvaluator", "num_classes": 2},
            "k": 5,
        },
        "optimizer": {"type": "SGD", "lr": 0.1},
        "num_worker": 0,
        "save_path": str(tmp_path / "exp"),
    }
    torch.manual_seed(0)
    weights = {f"encoder.backbone.{key}": w for key, w in build(backbone, "model", MODELS).state_dict().items()}
    torch.save({"state_dict": weights | {"renderer.x": torch.zeros(1)}}, tmp_path / "pretrained.pth")
    figures = evaluate({**config, "weight": str(tmp_path / "pretrained.pth")})
    assert figures["allAcc"] > 0.95
    (folder,) = (tmp_path / "exp/result").iterdir()
    assert (folder / "metrics.json").is_file() and (folder / "confusion.png").is_file()

    for name in "abc":
        (tmp_path / "data/train" / name / "segment20.npy").unlink()
    with pytest.raises(ValueError, match=r"The memory of a probe needs labels: scene 'a' has none\. Set segment_key"):
        evaluate({**config, "weight": str(tmp_path / "pretrained.pth")})
