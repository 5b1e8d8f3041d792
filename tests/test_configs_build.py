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
