"""A tiny dataset, model, evaluator and hooks with which the real engine trains in a fraction of a second."""

import multiprocessing
import os
import random
import signal
import subprocess
import tempfile
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import nn

import pointcept
from pointcept.engines import Hook, build_trainer
from pointcept.registry import DATASETS, EVALUATORS, HOOKS, MODELS
from pointcept.structures import PointSample
from pointcept.utils import distributed
from pointcept.utils.distributed import all_reduce_sum
from pointcept.utils.logging import remove_log_handlers

NUM_FEATURES = 4


@DATASETS.register()
class ToyDataset:
    """Clouds of a few points whose features are shifted by the sample's seed."""

    def __init__(self, num_samples: int = 12, num_points: int = 6, jitter: float = 0.1) -> None:
        self.num_samples, self.num_points, self.jitter = num_samples, num_points, jitter

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, key: int | tuple[int, int]) -> PointSample:
        index, seed = key if isinstance(key, tuple) else (key, 0)
        shape = np.random.default_rng(index)
        augmentation = np.random.default_rng(seed)
        coord = shape.uniform(size=(self.num_points, 3)).astype(np.float32)
        feat = shape.normal(size=(self.num_points, NUM_FEATURES)) + self.jitter * augmentation.normal(size=NUM_FEATURES)
        point = {"feat": feat.astype(np.float32), "grid_coord": np.zeros((self.num_points, 3), dtype=np.int64)}
        return PointSample(coord=coord, point=point, scene={"name": f"scene{index}"}, seed=seed)


@MODELS.register()
class ToyModel(nn.Module):
    """Predicts a coordinate from the features; each scene counts the same, so that batches can be split."""

    def __init__(self, width: int = 8, dropout: float = 0.0, nan_scene: str = "", noise: float = 0.0) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(NUM_FEATURES, width, bias=False), nn.BatchNorm1d(width), nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, 3)
        self.nan_scene, self.noise = nan_scene, noise

    def forward(self, batch):
        points = batch.points
        predicted = self.head(self.dropout(self.backbone(points.feat)))
        if not self.training:
            return {"coord": predicted}
        noise = self.noise * (random.random() + np.random.rand())  # noqa: NPY002 - to be restored on a resume
        error = ((predicted - points.coord) ** 2).mean(1)
        per_scene = error.new_zeros(batch.batch_size).index_add(0, points.batch_index, error) / points.counts
        fit = per_scene.mean() + noise
        if self.nan_scene in batch.name:
            fit = fit * float("nan")
        return {"fit": fit, "shrink": 0.01 * self.head.weight.square().sum()}


@EVALUATORS.register()
class ToyEvaluator:
    """Mean error over scenes, and how many scenes there were."""

    main_metric = "error"
    higher_is_better = False

    def reset(self) -> None:
        self.sums = torch.zeros(2, dtype=torch.float64)

    def update(self, output, batch) -> None:
        error = (output["coord"] - batch.points.coord).abs().mean(1)
        per_scene = torch.zeros(batch.batch_size).to(error).index_add(0, batch.points.batch_index, error)
        self.sums += torch.stack([(per_scene / batch.points.counts).sum(), torch.tensor(float(batch.batch_size))])

    def compute(self) -> dict[str, float]:
        total, count = all_reduce_sum(self.sums).tolist()
        return {"error": total / count, "num_scenes": count}


@HOOKS.register()
class SignalAt(Hook):
    """Sends this process, or its loading workers too, a signal before a step or at the end of the epoch it ends."""

    def __init__(
        self,
        step: int,
        signal_name: str = "SIGKILL",
        moment: str = "before_step",
        rank: int = 0,
        to_group: bool = False,
    ) -> None:
        self.step, self.signal, self.moment = step, getattr(signal, signal_name), moment
        self.rank, self.to_group = rank, to_group

    def before_step(self) -> None:
        self._kill(self.moment == "before_step" and self.trainer.step + 1 == self.step)

    def after_epoch(self) -> None:
        self._kill(self.moment == "after_epoch" and self.trainer.step == self.step)

    def _kill(self, is_due: bool) -> None:
        if is_due and distributed.get_rank() == self.rank:
            if self.to_group:  # from another process, as a scheduler would
                subprocess.run(["kill", f"-{self.signal:d}", "--", f"-{os.getpgrp()}"])
            else:
                os.kill(os.getpid(), self.signal)


@HOOKS.register()
class LossRecorder(Hook):
    """Keeps every step record, and writes them at the end if given a file."""

    def __init__(self, path: str | None = None) -> None:
        self.records, self.path = [], path

    def after_step(self) -> None:
        self.records += self.trainer.records

    def after_train(self) -> None:
        if self.path is not None and distributed.is_main_process():
            torch.save([(record.step, record.losses, record.grad_norm) for record in self.records], self.path)


def toy_config(save_path: str | Path, **changes) -> dict:
    """A whole config of a run that takes 18 steps; ``changes`` replace top-level keys."""
    config = {
        "model": {"type": "ToyModel"},
        "data": {"train": {"type": "ToyDataset"}, "val": {"type": "ToyDataset", "num_samples": 5, "jitter": 0.0}},
        "optimizer": {"type": "AdamW", "lr": 0.02},
        "scheduler": {"type": "OneCycleLR"},
        "hooks": [
            {"type": "CheckpointLoader"},
            {"type": "IterationTimer"},
            {"type": "InformationWriter", "log_every": 1},
            {"type": "EvaluationHook", "evaluator": {"type": "ToyEvaluator"}},
            {"type": "TensorBoardWriter"},
            {"type": "CheckpointSaver", "save_every_steps": 1},
        ],
        "save_path": str(save_path),
        "num_worker": 0,
        "batch_size": 2,
        "epoch": 3,
        "eval_epoch": 3,
        "seed": 7,
    }
    return {**config, **changes}


def run(config: dict) -> None:
    """Trains in this process."""
    try:
        build_trainer(config).train()
    finally:
        remove_log_handlers()


def run_in_processes(config: dict, world_size: int = 1) -> list[int]:
    """Trains in processes of their own and returns their exit codes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["toy_experiment"])
    roots = [str(Path(__file__).parent), str(Path(pointcept.__file__).parents[1])]
    with tempfile.TemporaryDirectory() as folder:
        arguments = [(config, rank, world_size, f"{folder}/store") for rank in range(world_size)]
        processes = [context.Process(target=_child, args=given) for given in arguments]
        # Where the fork server, started once, finds its preload.
        with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(roots)):
            for process in processes:
                process.start()
        for process in processes:
            process.join(timeout=300)
            if process.is_alive():
                process.kill()
                process.join()
    return [process.exitcode for process in processes]


def _child(config: dict, rank: int, world_size: int, store: str) -> None:
    os.setpgrp()  # so that signals to the group reach nobody else
    multiprocessing.set_start_method("fork", force=True)  # the loaders' workers, which would import torch again
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork.*", category=DeprecationWarning)
    warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)  # on one core
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_RANK=str(rank))
    if world_size > 1:  # through a file: a free port that was looked for could be taken before it is used
        torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    try:
        run(config)
    finally:
        distributed.shutdown()
