import json

import pytest

from benchmarks.pretraining_runs import CONFIG, run_pretraining, small_rooms, summarize
from pointcept.config import load_config, validate_config


def test_a_result_that_is_there_is_not_computed_again(tmp_path):
    settings = {"config": "demo/any", "overrides": ["epoch=1"], "seed": 3}
    (tmp_path / "result.json").write_text(json.dumps({"settings": settings, "figures": {"psnr": 17.5}}))
    assert run_pretraining("demo/any", ["epoch=1"], tmp_path, 3) == {"psnr": 17.5}
    with pytest.raises(ValueError, match=r"result\.json must be of a run with the same settings"):
        run_pretraining("demo/any", ["epoch=2"], tmp_path, 3)


def test_a_training_that_fails_is_told_with_its_reason(tmp_path):
    with pytest.raises(RuntimeError, match=r"must succeed: it ended with status 1(.|\n)*'demo/no-such-config'"):
        run_pretraining("demo/no-such-config", [], tmp_path / "run", 0)
    assert not (tmp_path / "run/result.json").exists()


def test_mean_and_spread_by_hand():
    runs = [{"psnr": 1.0, "rmse": 4.0}, {"psnr": 3.0, "rmse": 4.0}]
    assert summarize(runs, ["psnr", "rmse"]) == {"psnr": (2.0, 2.0**0.5), "rmse": (4.0, 0.0)}
    assert summarize(runs[:1], ["psnr"]) == {"psnr": (1.0, 0.0)}


def test_small_rooms_make_a_whole_config(tmp_path):
    settings = validate_config(load_config(CONFIG, small_rooms(tmp_path, 24)))
    assert settings.epoch == 2 and settings.data["train"]["num_train"] // settings.batch_size * settings.epoch == 24
    with pytest.raises(ValueError, match="must be a multiple of 12, one pass over the rooms: got 30"):
        small_rooms(tmp_path, 30)
