import logging

import pytest
import torch
from torch import nn
from toy_experiment import run, toy_config

from pointcept.engines import build_trainer
from pointcept.engines.guard import LossMonitor
from pointcept.utils.logging import remove_log_handlers

CPU = torch.device("cpu")


def monitor(tolerated_steps=0, model=None):
    return LossMonitor(model or nn.Linear(1, 1), CPU, tolerated_steps=tolerated_steps)


def test_a_record_holds_the_mean_of_accumulated_batches():
    watch = monitor()
    watch.add({"a": torch.tensor(1.0), "b": torch.tensor(4.0)}, ("s",))
    watch.add({"a": torch.tensor(3.0), "b": torch.tensor(6.0)}, ("t",))
    watch.close_step(5, torch.tensor(0.5), 0.1)
    (record,) = watch.collect()
    assert record.losses == {"a": 2.0, "b": 5.0}
    assert (record.step, record.loss, record.grad_norm, record.learning_rate) == (5, 7.0, 0.5, 0.1)
    assert watch.collect() == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_is_named_with_step_and_scenes(value):
    watch = monitor()
    watch.add({"color": torch.tensor(1.0), "depth": torch.tensor(1.0)}, ("first",))
    watch.add({"color": torch.tensor(1.0), "depth": torch.tensor(value)}, ("second", ""))
    with pytest.raises(
        FloatingPointError, match=rf"'depth' must be finite: got {value} at step 3 \(scenes second, unnamed\)"
    ):
        watch.close_step(3, torch.tensor(1.0), 0.1)


def test_a_gradient_that_is_not_finite_names_the_parameter():
    model = nn.Linear(1, 1)
    model.weight.grad, model.bias.grad = torch.ones(1, 1), torch.tensor([float("nan")])
    watch = monitor(model=model)
    watch.add({"a": torch.tensor(1.0)}, ("room",))
    with pytest.raises(FloatingPointError, match=r"norm is nan at step 2, first in parameter 'bias'.*scenes room"):
        watch.close_step(2, torch.tensor(float("nan")), 0.1)


def test_half_precision_tolerates_overflow_a_few_times_in_a_row(caplog):
    watch = monitor(tolerated_steps=2)
    for step, value in enumerate(["inf", "inf", "1.0", "inf", "nan"]):
        watch.add({"a": torch.tensor(float(value))}, ("room",))
        watch.close_step(step, torch.tensor(float("inf")), 0.1)  # an overflowing gradient is the scaler's business
    watch.add({"a": torch.tensor(float("inf"))}, ("room",))
    with pytest.raises(FloatingPointError, match="'a' must be finite"):
        watch.close_step(6, torch.tensor(1.0), 0.1)
    assert caplog.text.count("Tolerated in float16, 2 in a row") == 2


def test_terms_that_change_within_a_step_are_refused():
    watch = monitor()
    watch.add({"a": torch.tensor(1.0)}, ("s",))
    with pytest.raises(ValueError, match=r"same loss terms for every batch: got \['b'\] after \['a'\]"):
        watch.add({"b": torch.tensor(1.0)}, ("s",))


def test_a_nan_stops_training_before_the_update_and_before_a_checkpoint(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="pointcept")
    trainer = build_trainer(toy_config(tmp_path, model={"type": "ToyModel", "nan_scene": "scene3"}))
    remove_log_handlers()
    with pytest.raises(
        FloatingPointError, match=r"Loss term 'fit' must be finite: got nan at step \d+ \(scenes .*scene3"
    ):
        trainer.train()
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())
    saved = torch.load(tmp_path / "model/model_last.pth", weights_only=True)
    assert saved["step"] == trainer.step
    assert f"Stopped after {trainer.step} steps" in caplog.text
    assert not (tmp_path / "metrics.json").exists()


def test_float16_on_the_cpu_trains_with_a_gradient_scaler(tmp_path):
    run(toy_config(tmp_path, enable_amp=True, amp_dtype="float16", optimizer={"type": "SGD", "lr": 0.1}))
    assert torch.load(tmp_path / "model/model_last.pth", weights_only=True)["scaler"]["scale"] > 0
