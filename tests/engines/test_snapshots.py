"""Snapshots: which steps are kept, that they hold the weights of just then, and that a resumed run has them too."""

import itertools

import pytest
import torch
from toy_experiment import run, toy_config

from pointcept.engines.hooks import SnapshotWriter
from pointcept.engines.hooks.snapshots import snapshot_steps
from pointcept.models.checkpoints import load_checkpoint

HOOKS = [{"type": "SnapshotWriter", "num_snapshots": 3}, {"type": "CheckpointSaver", "save_freq": 1}]


def names(folder):
    return sorted(path.name for path in (folder / "snapshots").iterdir())


def test_steps_are_closer_together_at_the_beginning():
    assert sorted(snapshot_steps(480, 6)) == [0, 13, 53, 120, 213, 333, 480]
    assert sorted(snapshot_steps(3, 6)) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="num_snapshots must be at least 1: got 0"):
        SnapshotWriter(num_snapshots=0)


def test_snapshots_hold_the_weights_of_their_step(tmp_path):
    run(toy_config(tmp_path, hooks=HOOKS))
    assert names(tmp_path) == ["step_000000.pth", "step_000002.pth", "step_000008.pth", "step_000018.pth"]
    snapshots = [load_checkpoint(tmp_path / "snapshots" / name) for name in names(tmp_path)]
    assert [snapshot["step"] for snapshot in snapshots] == [0, 2, 8, 18]
    assert set(snapshots[0]) == {"state_dict", "step"}
    last = load_checkpoint(tmp_path / "model/model_last.pth")["state_dict"]
    for name, weight in last.items():
        assert torch.equal(snapshots[-1]["state_dict"][name], weight)
    heads = [snapshot["state_dict"]["head.weight"] for snapshot in snapshots]
    assert all(not torch.equal(one, other) for one, other in itertools.pairwise(heads))


def test_a_resumed_run_keeps_the_same_snapshots(tmp_path):
    run(toy_config(tmp_path / "whole", hooks=HOOKS))
    run(toy_config(tmp_path / "resumed", hooks=HOOKS))
    for name in ("step_000008.pth", "step_000018.pth"):
        (tmp_path / "resumed/snapshots" / name).unlink()
    weight = str(tmp_path / "resumed/model/epoch_1.pth")
    run(toy_config(tmp_path / "resumed", hooks=HOOKS, resume=True, weight=weight))
    for name in names(tmp_path / "whole"):
        whole, resumed = (load_checkpoint(tmp_path / run / "snapshots" / name) for run in ("whole", "resumed"))
        assert whole["step"] == resumed["step"]
        assert all(torch.equal(whole["state_dict"][key], resumed["state_dict"][key]) for key in whole["state_dict"])
