import dataclasses
import logging
import math
import re
import time

import numpy as np
import plyfile
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter
from toy_experiment import ToyDataset, ToyEvaluator, ToyModel, run, toy_config

from pointcept.datasets import collate
from pointcept.engines import Trainer
from pointcept.engines.guard import StepRecord
from pointcept.engines.hooks import (
    CheckpointLoader,
    CheckpointSaver,
    EvaluationHook,
    Hook,
    InformationWriter,
    IterationTimer,
    MeshWriter,
    PanelWriter,
    TensorBoardWriter,
)
from pointcept.engines.hooks.information import format_figures
from pointcept.engines.loaders import evaluation_loader, training_loader
from pointcept.engines.optim import SGD, build_optimizer
from pointcept.models.freezing import freeze
from pointcept.registry import HOOKS
from pointcept.structures import CameraBatch, FeatureVolume, SceneBatch


def views_collate(samples) -> SceneBatch:
    """Adds two grey views of 8 x 6 pixels to every scene."""
    batch = collate(samples)
    size = (batch.batch_size, 2)
    cameras = CameraBatch(
        image=torch.full((*size, 3, 8, 6), 0.5),
        depth=torch.full((*size, 8, 6), 2.0),
        intrinsic=torch.eye(3).expand(*size, 3, 3),
        extrinsic=torch.eye(4).expand(*size, 4, 4),
        size_px=torch.tensor([8, 6]).expand(*size, 2),
    )
    return batch.replace(cameras=cameras)


class Renderer(ToyModel):
    """Adds renderings and a surface to the toy model."""

    def forward(self, batch):
        output = super().forward(batch)
        if not self.training:
            output |= {"color": batch.cameras.image * 0.9, "depth": batch.cameras.depth * 1.1}
        return output

    def encoder(self, batch):
        corners = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
        return FeatureVolume(torch.zeros(batch.batch_size, 1, 1, 1, 1), corners.expand(batch.batch_size, 2, 3))

    def sample_sdf(self, volume, scene_index, voxel_size_m):
        self.meshed = scene_index
        x = torch.arange(0.0, 1.0, voxel_size_m)
        return (x - 0.52).expand(3, 3, -1), torch.zeros(3)  # a plane across x

    def sample_color(self, volume, scene_index, points):
        return torch.full_like(points, 0.5)


def make_trainer(save_path, hooks, *, model=None, num_epochs=2, collate_fn=views_collate):
    model = model or Renderer()
    return Trainer(
        model=model,
        train_loader=training_loader(ToyDataset(4), collate_fn, batch_size=2),
        val_loader=evaluation_loader(ToyDataset(3), collate_fn),
        optimizer=build_optimizer(model, SGD(lr=0.1)),
        num_epochs=num_epochs,
        save_path=save_path,
        hooks=hooks,
    )


def test_panels_are_taken_from_the_evaluation_and_written_once_per_set(tmp_path):
    trainer = make_trainer(tmp_path, [EvaluationHook(ToyEvaluator()), TensorBoardWriter(), PanelWriter(num_views=3)])
    trainer.train()
    names = ["scene0-view0", "scene0-view1", "scene1-view0"]
    for step in (2, 4):
        assert sorted(p.stem for p in (tmp_path / f"panels/step_{step:06d}").iterdir()) == names
    assert np.asarray(Image.open(tmp_path / "panels/step_000004/scene0-view0.png")).shape[2] == 3
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    assert [event.step for event in events.Images("panels/scene0-view0")] == [2, 4]
    assert trainer.outputs["Pictures"] == tmp_path / "panels"


def test_events_are_on_disk_before_a_checkpoint_is(tmp_path, monkeypatch):
    class Checkpoint(Hook):
        def after_step(self):
            self.trainer.state_dict()
            events = EventAccumulator(str(tmp_path)).Reload()
            assert events.Scalars("params/lr")[-1].step == self.trainer.step

    write = RecordWriter.write
    monkeypatch.setattr(RecordWriter, "write", lambda writer, data: (time.sleep(0.02), write(writer, data)))
    trainer = make_trainer(tmp_path, [TensorBoardWriter(), Checkpoint()])
    trainer.train()
    assert trainer.step == 4


def test_panels_at_intervals_include_the_last_evaluation(tmp_path):
    hooks = [EvaluationHook(ToyEvaluator()), PanelWriter(every=2, num_views=1)]
    make_trainer(tmp_path, hooks, num_epochs=4).train()
    assert sorted(path.name for path in (tmp_path / "panels").iterdir()) == [
        "step_000002",
        "step_000006",
        "step_000008",
    ]


def test_the_mesh_of_a_validation_scene_is_written_at_the_end(tmp_path):
    trainer = make_trainer(tmp_path, [MeshWriter(voxel_size_m=0.1)])
    trainer.train()
    assert trainer.model.meshed == 0 and trainer.model.training
    vertices = plyfile.PlyData.read(tmp_path / "meshes/scene0.ply")["vertex"]
    assert len(vertices) >= 4
    np.testing.assert_allclose(vertices["x"], 0.52, atol=1e-5)
    assert set(vertices["red"]) == {128}
    with pytest.raises(ValueError, match=r"MeshWriter needs a model with surfaces \(sample_sdf\): ToyModel has none"):
        make_trainer(tmp_path, [MeshWriter()], model=ToyModel()).train()
    with pytest.raises(ValueError, match=r"voxel_size_m must be positive: got 0\.0"):
        MeshWriter(voxel_size_m=0.0)
    with pytest.raises(ValueError, match=r"trim_m must be positive, or None: got 0\.0"):
        MeshWriter(trim_m=0.0)


def test_hooks_that_need_another_say_so_before_anything_is_computed(tmp_path):
    evaluation, panels, saver = EvaluationHook(ToyEvaluator()), PanelWriter(), CheckpointSaver()
    with pytest.raises(ValueError, match=r"PanelWriter needs the hook EvaluationHook: hooks are PanelWriter\."):
        make_trainer(tmp_path, [panels]).train()
    with pytest.raises(ValueError, match="EvaluationHook must come before PanelWriter in hooks"):
        make_trainer(tmp_path, [panels, evaluation]).train()
    with pytest.raises(ValueError, match="CheckpointSaver must come after EvaluationHook in hooks"):
        make_trainer(tmp_path, [saver, evaluation]).train()


def test_the_best_state_is_kept_by_the_direction_of_the_main_metric(tmp_path):
    class Scripted(ToyEvaluator):
        main_metric, higher_is_better = "score", True
        values = iter([1.0, 3.0, math.nan, 2.0])

        def compute(self):
            return {"score": next(self.values)}

    trainer = make_trainer(tmp_path, [EvaluationHook(Scripted()), CheckpointSaver(save_freq=3)], num_epochs=4)
    trainer.train()
    assert trainer.best_metric == 3.0 and trainer.metrics == {"score": 2.0}
    steps = {path.stem: torch.load(path, weights_only=True)["step"] for path in (tmp_path / "model").iterdir()}
    assert steps == {"model_best": 4, "model_last": 8, "epoch_3": 6}


def test_an_evaluator_without_its_main_metric_is_refused(tmp_path):
    class Lacking(ToyEvaluator):
        def compute(self):
            return {"other": 1.0}

    with pytest.raises(ValueError, match=r"Lacking gave \['other'\] without 'error'"):
        make_trainer(tmp_path, [EvaluationHook(Lacking())]).train()


def test_evaluation_sees_the_model_in_evaluation_mode_without_gradients(tmp_path):
    seen = []
    hook = EvaluationHook(ToyEvaluator(), every=2)
    trainer = make_trainer(tmp_path, [hook], num_epochs=3)
    hook.observers.append(
        lambda output, batch: seen.append((trainer.epoch, trainer.model.training, output["coord"].requires_grad))
    )
    trainer.train()
    assert seen == [(2, False, False)] * 3 + [(3, False, False)] * 3  # every second epoch, and the last
    assert trainer.model.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"save_freq": 0}, "save_freq must be positive: got 0"),
        ({"save_every_steps": -1}, "save_every_steps must be positive: got -1"),
        ({"save_every_minutes": 0.0}, r"save_every_minutes must be positive: got 0\.0"),
    ],
)
def test_intervals_must_be_positive(options, message):
    with pytest.raises(ValueError, match=message):
        CheckpointSaver(**options)
    with pytest.raises(ValueError, match="every must be at least 1: got 0"):
        EvaluationHook(ToyEvaluator(), every=0)
    with pytest.raises(ValueError, match="every and num_views must be at least 1: got 1, 0"):
        PanelWriter(num_views=0)
    with pytest.raises(ValueError, match="log_every must be at least 1: got 0"):
        InformationWriter(log_every=0)


def test_saving_by_the_clock(tmp_path):
    hooks = [CheckpointSaver(save_every_minutes=1e-9)]
    trainer = make_trainer(tmp_path, hooks, num_epochs=1)
    saved = []
    trainer.state_dict = lambda: saved.append((trainer.step, trainer.step_in_epoch)) or {"step": trainer.step}
    trainer.train()
    assert saved == [(1, 1), (2, 2), (2, 0)]  # after each step, and at the end of the epoch


def test_the_log_tells_the_progress_and_where_everything_is(tmp_path):
    run(toy_config(tmp_path))
    text = (tmp_path / "train.log").read_text()
    assert "ToyModel has 75 trainable parameters." in text
    assert (
        "Train: [2/3][6/6] Data " in text
        and re.search(r"Remain \d\d:\d\d:\d\d", text)
        and "fit: " in text
        and "Lr: " in text
    )
    assert "Evaluation of epoch 3: error: 0." in text
    assert re.search(r"Finished after 18 steps, \d\d:\d\d:\d\d", text)
    for what in (f"Log: {tmp_path}/train.log", f"Checkpoints: {tmp_path}/model", f"--logdir): {tmp_path}"):
        assert what in text
    assert "Pictures" not in text


def test_log_lines_come_at_intervals_and_at_the_end_of_epochs(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="pointcept"):
        make_trainer(tmp_path, [InformationWriter(log_every=3)], num_epochs=2).train()
    assert [line.split()[1] for line in caplog.messages if line.startswith("Train: ")] == [
        "[1/2][1/2]",
        "[1/2][2/2]",
        "[2/2][1/2]",
        "[2/2][2/2]",
    ]


def test_the_timer_accounts_for_the_whole_step(tmp_path):
    timer = IterationTimer()
    trainer = make_trainer(tmp_path, [timer])
    trainer.train()
    parts = ("data", "forward", "backward", "optimizer", "other")
    assert sum(timer.seconds[part] for part in parts) == pytest.approx(timer.seconds["step"])
    assert all(timer.mean_seconds[part] >= 0 for part in parts) and timer.mean_seconds["forward"] > 0
    assert timer.remaining_seconds == 0


@pytest.mark.parametrize("tensorboard_first", [False, True])
def test_tensorboard_holds_every_loss_and_every_figure_whatever_the_order_of_hooks(tmp_path, tensorboard_first):
    config = toy_config(tmp_path)
    loader, timer, information, evaluation, tensorboard, saver = config["hooks"]
    order = [tensorboard, evaluation] if tensorboard_first else [evaluation, tensorboard]
    run({**config, "hooks": [loader, timer, information, *order, saver]})
    events = EventAccumulator(str(tmp_path)).Reload()
    assert sorted(events.Tags()["scalars"]) == [
        *["params/grad_norm", "params/lr", "train_batch/fit", "train_batch/shrink", "train_batch/total"],
        *["val/error", "val/num_scenes"],
    ]
    assert [event.step for event in events.Scalars("train_batch/total")] == list(range(1, 19))
    assert [event.step for event in events.Scalars("val/error")] == [6, 12, 18]


def test_a_new_run_in_the_folder_of_a_broken_one_starts_its_records_anew(tmp_path):
    run(toy_config(tmp_path))
    run(toy_config(tmp_path, epoch=1, eval_epoch=1))
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    events = EventAccumulator(str(tmp_path), purge_orphaned_data=False).Reload()
    assert [event.step for event in events.Scalars("params/lr")] == [1, 2, 3, 4, 5, 6]


def test_figures_are_readable():
    assert format_figures({"psnr": 21.23456, "loss": 0.00012345}) == "psnr: 21.2346 loss: 0.0001234"
    assert StepRecord(1, {"a": 1.0, "b": 2.0}, 1.0, 0.1).loss == 3.0
    assert dataclasses.is_dataclass(StepRecord)


@pytest.mark.parametrize(("frozen", "weighted"), [(True, False), (True, True), (False, False)])
def test_a_frozen_part_without_loaded_weights_is_warned_of(tmp_path, caplog, frozen, weighted):
    torch.save({"state_dict": ToyModel().state_dict()}, tmp_path / "weights.pth")
    model = ToyModel()
    if frozen:
        freeze(model.backbone)
    trainer = make_trainer(tmp_path, [CheckpointLoader()], model=model, num_epochs=1)
    trainer.weight = str(tmp_path / "weights.pth") if weighted else None
    with caplog.at_level(logging.WARNING, logger="pointcept"):
        trainer.train()
    warned = [text for text in caplog.messages if "these parts are frozen as they were built: backbone." in text]
    assert len(warned) == (frozen and not weighted)


def test_pointcepts_hook_names_are_registered():
    names = {"CheckpointLoader", "IterationTimer", "InformationWriter", "CheckpointSaver", "EvaluationHook"}
    assert names | {"TensorBoardWriter", "PanelWriter", "MeshWriter"} <= set(HOOKS.names())
    assert HOOKS.get("CheckpointLoader") is CheckpointLoader
