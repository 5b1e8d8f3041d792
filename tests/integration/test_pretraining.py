"""Pre-training as a user runs it, on tiny synthetic rooms: what it leaves behind, and what must not change it."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[2]

CONFIG = """
_base_ = ["{base}"]
imports = ["probes"]
_rooms = dict(data_root="{rooms}", num_train=4, num_val=1, frame_size=(24, 32), num_frames=8)
model = dict(
    encoder=dict(
        backbone=dict(base_channels=4, channels=(4, 6, 8, 8, 8, 8, 6, 4)),
        projection=dict(in_channels=4, out_channels=8, channels=(4, 8)),
        grid_shape=(16, 16, 8),
    ),
    ray_sampler=dict(num_rays=16),
    renderer=dict(
        field=dict(in_channels=8, hidden_channels=8, geometry_channels=3),
        sampler=dict(num_samples=12, num_importance=6),
    ),
)
data = dict(train=_rooms, val=dict(**_rooms, num_views=1))
epoch = 6
eval_epoch = 2
num_worker = 0
"""

PROBES = '''
import json, os, signal
from pointcept.engines.hooks.base import Hook
from pointcept.registry import HOOKS


@HOOKS.register()
class KillAt(Hook):
    """Ends the process as if the power had failed."""

    def __init__(self, step: int) -> None:
        self.step = step

    def before_step(self) -> None:
        if self.trainer.step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


@HOOKS.register()
class RecordLosses(Hook):
    """Writes every step's loss terms, exactly."""

    def __init__(self, path: str) -> None:
        self.path = path

    def after_step(self) -> None:
        with open(self.path, "a") as file:
            for record in self.trainer.records:
                file.write(json.dumps({"step": record.step, **record.losses}) + "\\n")
'''


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pretraining")
    (folder / "probes.py").write_text(PROBES)
    base = REPOSITORY / "configs/demo/pretrain-ponder-spunet.py"
    (folder / "tiny.py").write_text(CONFIG.format(base=base, rooms=folder / "rooms"))
    return folder


def train(folder: Path, name: str, *options: str, processes: int = 1) -> int:
    """Exit status of a training in ``folder / name``."""
    command = [sys.executable, "-m", "pointcept.train", "--config-file", str(folder / "tiny.py")]
    command += ["--num-gpus", str(processes), "--options", f"save_path={folder / name}", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(folder), str(REPOSITORY)])}
    finished = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300)
    if finished.returncode > 0:
        raise AssertionError(finished.stdout[-2000:] + finished.stderr[-4000:])
    return finished.returncode


@pytest.fixture(scope="module")
def uninterrupted(workplace) -> Path:
    assert train(workplace, "whole") == 0
    return workplace / "whole"


def test_a_run_leaves_figures_pictures_and_checkpoints(uninterrupted):
    metrics = json.loads((uninterrupted / "metrics.json").read_text())
    assert set(metrics) >= {
        "psnr", "psnr_trivial", "ssim", "abs_rel", "abs_rel_trivial", "rmse", "delta1", "steps", "seconds",
        "peak_memory_gb",
    }  # fmt: skip
    assert metrics["steps"] == 12
    lines = [json.loads(line) for line in (uninterrupted / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [6, 12] and lines[1]["psnr"] == metrics["psnr"]
    assert len(list((uninterrupted / "panels/step_000012").glob("*.png"))) == 1
    assert (uninterrupted / "model/model_best.pth").exists()
    assert list(uninterrupted.glob("events.out.tfevents.*"))


def test_killed_three_times_and_resumed_gives_the_same_weights_bit_by_bit(workplace, uninterrupted):
    kills = sorted(random.Random(0).sample(range(2, 12), 3))
    saver = ["{'type': 'CheckpointSaver', 'save_every_steps': 1}"]
    weight = workplace / "killed/model/model_last.pth"
    for number, step in enumerate(kills):
        resume = [f"weight={weight}", "resume=True"] if number else []
        plan = "hooks=[" + ",".join([f"{{'type': 'KillAt', 'step': {step}}}", *saver]) + "]"
        assert train(workplace, "killed", plan, *resume) == -signal.SIGKILL
    assert train(workplace, "killed", f"hooks=[{saver[0]}]", f"weight={weight}", "resume=True") == 0
    expected = torch.load(uninterrupted / "model/model_last.pth", weights_only=True)["state_dict"]
    found = torch.load(weight, weights_only=True)["state_dict"]
    assert list(found) == list(expected)
    different = [name for name in expected if not torch.equal(found[name], expected[name])]
    assert different == []


def test_more_processes_than_validation_scenes_finish_with_figures(workplace):
    assert train(workplace, "wide", "epoch=1", "eval_epoch=1", processes=2) == 0
    metrics = json.loads((workplace / "wide/metrics.json").read_text())
    assert metrics["steps"] == 2 and metrics["psnr"] > 0


def test_two_processes_train_like_one(workplace):
    """Uniform samples: importance sampling of an untrained field turns rounding into other sample positions."""
    common = [
        "model.renderer.sampler={'type': 'UniformSampler', 'num_samples': 16}",
        "optimizer={'type': 'SGD', 'lr': 0.0005}",
        "scheduler=None",
        "evaluate=False",
        "epoch=2",
        "eval_epoch=1",
    ]
    records = []
    for processes in (1, 2):
        path = workplace / f"losses{processes}.jsonl"
        plan = f"hooks=[{{'type': 'RecordLosses', 'path': '{path}'}}]"
        assert train(workplace, f"processes{processes}", plan, *common, processes=processes) == 0
        records.append([json.loads(line) for line in path.read_text().splitlines()])
    one, two = records
    assert [line["step"] for line in one] == [1, 2, 3, 4]
    assert [line["step"] for line in two] == [1, 1, 2, 2, 3, 3, 4, 4]  # each process records what it was told
    for expected in one:
        for found in two[2 * expected["step"] - 2 : 2 * expected["step"]]:
            assert found == pytest.approx(expected, rel=2e-3)
