import json

import pytest
import torch
from toy_experiment import run, run_in_processes, toy_config


def recorded(folder, **changes):
    hooks = [*toy_config(folder)["hooks"], {"type": "LossRecorder", "path": str(folder) + ".records"}]
    return toy_config(folder, hooks=hooks, sync_bn=True, batch_size=4, clip_grad=1.0, **changes)


def test_two_processes_train_like_one_with_the_same_global_batch(tmp_path):
    run(recorded(tmp_path / "one", gradient_accumulation_steps=2))
    config = recorded(tmp_path / "two", gradient_accumulation_steps=2, num_worker=2)
    assert run_in_processes(config, world_size=2) == [0, 0]
    one, two = torch.load(str(tmp_path / "one") + ".records"), torch.load(str(tmp_path / "two") + ".records")
    assert len(one) == len(two) == 6
    for (step, losses, norm), (other_step, other_losses, other_norm) in zip(one, two):
        assert step == other_step and norm == pytest.approx(other_norm, rel=1e-4)
        assert losses == pytest.approx(other_losses, rel=1e-5)
    figures = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two")]
    assert figures[1]["num_scenes"] == 5  # an odd number, each evaluated exactly once
    assert figures[0]["error"] == pytest.approx(figures[1]["error"], rel=1e-4)
    weights = [torch.load(tmp_path / name / "model/model_last.pth", weights_only=True) for name in ("one", "two")]
    assert list(weights[0]["state_dict"]) == list(weights[1]["state_dict"])
    assert len(weights[1]["rng"]) == 2


def test_sigterm_to_one_process_stops_all_at_the_same_step_and_the_run_resumes(tmp_path):
    config = recorded(tmp_path / "stopped", model={"type": "ToyModel", "dropout": 0.3})
    config["hooks"].insert(0, {"type": "SignalAt", "step": 4, "signal_name": "SIGTERM", "rank": 1})
    config["hooks"][-2] = {"type": "CheckpointSaver"}
    assert run_in_processes(config, world_size=2) == [143, 143]
    weight = str(tmp_path / "stopped/model/model_last.pth")
    assert torch.load(weight, weights_only=True)["step"] == 5  # a vote is counted one step later
    assert run_in_processes({**config, "hooks": config["hooks"][1:], "resume": True, "weight": weight}, 2) == [0, 0]
    resumed = torch.load(weight, weights_only=True)
    assert resumed["step"] == 9 and len(resumed["rng"]) == 2


def test_a_nan_in_one_process_ends_them_all(tmp_path):
    config = toy_config(tmp_path, model={"type": "ToyModel", "nan_scene": "scene3"})
    assert run_in_processes(config, world_size=2) == [1, 1]
