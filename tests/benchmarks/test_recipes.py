import json

import pytest
import torch

from benchmarks import packaged_teacher, recipes
from benchmarks.linear_probe import fit_linear
from pointcept.config import load_config, validate_config
from pointcept.registry import MODELS, build


def test_every_row_is_a_config_that_builds_and_differs_as_its_name_says(tmp_path):
    shared = recipes.small_runs(tmp_path, 12)
    rows = recipes.variants(tmp_path / "weights.safetensors")
    default = validate_config(load_config(recipes.CONFIG, [*shared, *rows["default"]]))
    for name, overrides in rows.items():
        settings = validate_config(load_config(recipes.CONFIG, [*shared, *overrides]))
        model = build(settings.model, "model", MODELS)
        assert not any(loss.uses_labels for loss in model.losses)
        assert settings.optimizer == default.optimizer and settings.scheduler == default.scheduler
        assert settings.model["renderer"]["sampler"] == default.model["renderer"]["sampler"]
        losses = {type(loss).__name__ for loss in model.losses}
        assert (model.length_unit == "box") == (name in ("ponderv2", "lengths in boxes"))
        weight = {loss.name: loss.weight for loss in model.losses}.get("color_loss")
        assert weight == {"without color": None, "color weight 10": 10}.get(
            name, 40 if model.length_unit == "metre" else 10
        )
        term = name.removeprefix("without ")
        if term in recipes.LOSSES:
            assert losses == set(recipes.LOSSES.values()) - {recipes.LOSSES[term]}
        assert ("FeatureCosineLoss" in losses) == ("+" in name)
        assert (model.encoder.mask is None) == (name in ("without mask", "ponderv2"))
    assert len(rows) == 4 + len(recipes.LOSSES) + 3 and len(recipes.variants(None)) == len(rows) - 2


def test_a_kept_result_is_not_computed_again(tmp_path):
    folder = tmp_path / "default-12-seed0"
    folder.mkdir()
    settings = {"config": recipes.CONFIG, "overrides": recipes.small_runs(tmp_path / "rooms", 12), "seed": 0}
    (folder / "result.json").write_text(json.dumps({"settings": settings, "figures": {"psnr": 15.0}}))
    (folder / "probe.json").write_text(json.dumps({"miou": 20.0}))
    assert recipes.run(tmp_path, "default", [], steps=12, seed=0) == {"psnr": 15.0, "miou": 20.0}


def test_the_probe_separates_what_a_line_separates_and_leaves_unlabelled_points_out():
    features = torch.tensor([[0.0], [1.0], [4.0], [5.0], [100.0]])
    labels = torch.tensor([3, 3, 7, 7, -1])
    weight, bias = fit_linear(features, labels)
    assert (features[:4] @ weight.T + bias).argmax(dim=1).tolist() == [3, 3, 7, 7]


def test_the_table_by_hand():
    text = recipes.table({"untrained": {"miou": (7.21, 0.04)}, "default": {"psnr": (15.0, 0.5), "abs_rel": (0.1, 0.0)}})
    assert text.splitlines() == [
        "| recipe | PSNR, dB | AbsRel | probe mIoU, % |",
        "|---|---|---|---|",
        "| untrained |  |  | 7.2 (0.0) |",
        "| default | 15.00 (0.50) | 0.100 (0.000) |  |",
    ]


def test_teachers_are_left_out_where_there_are_no_weights(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(packaged_teacher.importlib, "import_module", missing)
    assert recipes.packaged_weights(tmp_path / "none.safetensors") is None
    (tmp_path / "there.safetensors").touch()
    assert recipes.packaged_weights(tmp_path / "there.safetensors") == tmp_path / "there.safetensors"
    with pytest.raises(ValueError, match="must be a multiple of 12"):
        recipes.small_runs(tmp_path, 30)
