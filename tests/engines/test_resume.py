import json
import random

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_experiment import run, run_in_processes, toy_config

NOISY_MODEL = {"type": "ToyModel", "dropout": 0.3, "noise": 0.1}  # draws from torch's, NumPy's and Python's generators


def last_checkpoint(folder):
    return torch.load(folder / "model" / "model_last.pth", weights_only=True)


def evaluations(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def killed_at(folder, step, moment="before_step", **changes):
    hooks = toy_config(folder)["hooks"]
    hook = {"type": "SignalAt", "step": step, "moment": moment}
    position = len(hooks) if moment == "before_step" else len(hooks) - 1
    return toy_config(folder, hooks=[*hooks[:position], hook, *hooks[position:]], **changes)


@pytest.mark.parametrize("num_worker", [0, 2])
def test_killed_three_times_and_resumed_is_bit_identical_to_an_uninterrupted_run(tmp_path, num_worker):
    changes = {"model": NOISY_MODEL, "num_worker": num_worker, "gradient_accumulation_steps": 2, "batch_size": 1}
    kills = sorted(random.Random(num_worker).sample(range(2, 18), 3))
    assert run_in_processes(toy_config(tmp_path / "whole", **changes)) == [0]

    folder = tmp_path / "killed"
    for number, step in enumerate(kills):
        resume = {"resume": True, "weight": str(folder / "model/model_last.pth")} if number else {}
        assert run_in_processes(killed_at(folder, step, **changes, **resume)) == [-9]
    resume = {"resume": True, "weight": str(folder / "model/model_last.pth")}
    assert run_in_processes(toy_config(folder, **changes, **resume)) == [0]

    whole, resumed = last_checkpoint(tmp_path / "whole"), last_checkpoint(folder)
    assert whole["step"] == resumed["step"] == 18
    for name, weight in whole["state_dict"].items():
        assert torch.equal(weight, resumed["state_dict"][name]), name
    for state, other in zip(whole["optimizer"]["state"].values(), resumed["optimizer"]["state"].values()):
        assert all(torch.equal(state[key], other[key]) for key in state)
    assert torch.equal(whole["rng"][0]["torch"], resumed["rng"][0]["torch"])
    assert evaluations(tmp_path / "whole") == evaluations(folder)
    assert scalar_steps(folder, "train_batch/fit") == list(range(1, 19))


def scalar_steps(folder, tag):
    events = EventAccumulator(str(folder), purge_orphaned_data=False).Reload()
    return sorted(event.step for event in events.Scalars(tag))


def test_a_kill_between_evaluation_and_checkpoint_leaves_no_line_or_event_twice(tmp_path):
    assert run_in_processes(killed_at(tmp_path, 12, "after_epoch")) == [-9]
    assert [line["step"] for line in evaluations(tmp_path)] == [6, 12]
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 12, "ep')  # as if killed while writing
    run(toy_config(tmp_path, resume=True, weight=str(tmp_path / "model/model_last.pth")))
    assert [line["step"] for line in evaluations(tmp_path)] == [6, 12, 18]
    assert scalar_steps(tmp_path, "val/error") == [6, 12, 18]
    assert scalar_steps(tmp_path, "params/lr") == list(range(1, 19))


def test_a_kill_long_after_the_last_checkpoint_repeats_the_steps_in_between(tmp_path):
    config = killed_at(tmp_path, 11)
    config["hooks"][-2] = {"type": "CheckpointSaver", "save_every_steps": 4}
    assert run_in_processes(config) == [-9]
    assert last_checkpoint(tmp_path)["step"] == 8
    run(toy_config(tmp_path, resume=True, weight=str(tmp_path / "model/model_last.pth")))
    assert scalar_steps(tmp_path, "train_batch/total") == list(range(1, 19))


def test_sigterm_finishes_the_step_saves_and_exits_with_143(tmp_path):
    config = toy_config(tmp_path / "stopped", model=NOISY_MODEL)
    config["hooks"] = [{"type": "SignalAt", "step": 9, "signal_name": "SIGTERM"}, *config["hooks"][:-1]]
    config["hooks"].append({"type": "CheckpointSaver", "save_every_minutes": None})
    with pytest.raises(SystemExit) as stopped:
        run(config)
    assert stopped.value.code == 143
    assert last_checkpoint(tmp_path / "stopped")["step"] == 9
    assert not (tmp_path / "stopped/metrics.json").exists()

    weight = str(tmp_path / "stopped/model/model_last.pth")
    run(toy_config(tmp_path / "stopped", model=NOISY_MODEL, resume=True, weight=weight))
    run(toy_config(tmp_path / "whole", model=NOISY_MODEL))
    whole, resumed = last_checkpoint(tmp_path / "whole"), last_checkpoint(tmp_path / "stopped")
    assert all(torch.equal(whole["state_dict"][name], resumed["state_dict"][name]) for name in whole["state_dict"])


def test_sigterm_to_the_loading_workers_too_still_saves(tmp_path):
    config = toy_config(tmp_path, num_worker=2, epoch=30, eval_epoch=1)
    config["hooks"].insert(0, {"type": "SignalAt", "step": 9, "signal_name": "SIGTERM", "to_group": True})
    assert run_in_processes(config) == [143]
    assert last_checkpoint(tmp_path)["step"] == 9


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    run(toy_config(tmp_path))
    before = last_checkpoint(tmp_path)["state_dict"]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    seconds = last_checkpoint(tmp_path)["seconds"]
    run(toy_config(tmp_path, resume=True, weight=str(tmp_path / "model/model_last.pth")))
    again = json.loads((tmp_path / "metrics.json").read_text())
    assert all(torch.equal(before[name], weight) for name, weight in last_checkpoint(tmp_path)["state_dict"].items())
    assert {**metrics, "seconds": 0, "peak_memory_gb": 0} == {**again, "seconds": 0, "peak_memory_gb": 0}
    assert again["seconds"] >= round(seconds, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 3}, r"resumed as it was begun: batch_size is 3 now and was 2 in .*model_last\.pth"),
        ({"seed": 8}, "seed is 8 now and was 7"),
        ({"optimizer": {"type": "SGD", "lr": 0.1}}, "optimizer is SGD now and was AdamW"),
        ({"model": {"type": "ToyModel", "width": 9}}, r"holds another \(.*of another shape \(backbone.0.weight"),
    ],
)
def test_resuming_another_run_says_what_differs(tmp_path, change, message):
    run(toy_config(tmp_path, epoch=1, eval_epoch=1))
    config = toy_config(tmp_path, resume=True, weight=str(tmp_path / "model/model_last.pth"), **change)
    with pytest.raises(ValueError, match=message):
        run(config)


def test_resuming_from_weights_alone_is_refused(tmp_path):
    run(toy_config(tmp_path, epoch=1, eval_epoch=1))
    torch.save({"state_dict": last_checkpoint(tmp_path)["state_dict"]}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"weights\.pth lacks optimizer, scaler, epoch.*resume=False"):
        run(toy_config(tmp_path, resume=True, weight=str(tmp_path / "weights.pth")))
