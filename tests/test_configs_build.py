"""Every file under configs/ loads, suits the signatures it will be built with, and has a model that builds."""

from pathlib import Path

import pytest

from pointcept.config import load_config, validate_config
from pointcept.registry import MODELS, build

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
RUNNABLE = sorted(path for path in CONFIGS.rglob("*.py") if "_base_" not in path.parts)


def name_of(path: Path) -> str:
    return path.relative_to(CONFIGS).with_suffix("").as_posix()


def test_there_are_configs() -> None:
    assert (CONFIGS / "_base_" / "default_runtime.py").is_file()


@pytest.mark.parametrize("path", RUNNABLE, ids=name_of)
def test_config_is_valid(path: Path) -> None:
    settings = validate_config(load_config(path))
    assert settings.save_path == "exp/default", "the command line chooses the folder"


@pytest.mark.parametrize("path", RUNNABLE, ids=name_of)
def test_model_builds(path: Path) -> None:
    model = build(load_config(path).model, "model", MODELS)
    assert sum(parameter.numel() for parameter in model.parameters()) > 0


@pytest.mark.parametrize("path", [p for p in RUNNABLE if "pretrain" in p.name], ids=name_of)
def test_a_config_that_uses_labels_says_so_in_its_name_and_its_log(path: Path) -> None:
    model = build(validate_config(load_config(path)).model, "model", MODELS)
    is_named = "labels" in path.stem.split("-")
    assert any(loss.uses_labels for loss in model.losses) == is_named
    assert ("No labels are used." in model.describe_targets()) != is_named
    assert is_named or not getattr(model.encoder, "uses_labels", False)


def test_the_ponderv2_recipe_has_the_published_numbers() -> None:
    config = load_config("scannet/pretrain-ponder-spunet-v1m1-2-ponderv2")
    validate_config(config)
    losses = {loss["type"]: loss for loss in config.model["losses"]}
    weights = {name: loss["weight"] for name, loss in losses.items()}
    assert weights == {"ColorLoss": 10, "DepthLoss": 1, "SDFLoss": 10, "FreeSpaceLoss": 1, "EikonalLoss": 0.01}
    assert losses["SDFLoss"]["truncation_m"] == losses["FreeSpaceLoss"]["truncation_m"] == 0.05
    renderer, encoder = config.model.renderer, config.model.encoder
    assert (renderer.sampler.num_samples, renderer.sampler.num_importance) == (96, 36)
    assert renderer.sample_position == "start" and config.model.length_unit == "box"
    assert config.model.ray_sampler.num_rays == 256 and encoder.cube and encoder.mask is None
    assert config.optimizer == dict(type="SGD", lr=0.002, momentum=0.9, weight_decay=1e-4, nesterov=True)
    assert config.clip_grad is None and (config.batch_size, config.epoch) == (32, 2000)


def test_a_misspelt_key_in_a_config_is_caught(tmp_path: Path) -> None:
    base = CONFIGS / "_base_" / "default_runtime.py"
    path = tmp_path / "broken.py"
    path.write_text(
        f'_base_ = "{base}"\nmodel = dict(type="Ponder", encodr=None)\ndata = dict()\noptimizer = dict(type="SGD")\n'
    )
    with pytest.raises(
        ValueError, match=r"Keys of model must be parameters of Ponder: got 'encodr'\. Did you mean 'encoder'"
    ):
        validate_config(load_config(path))
