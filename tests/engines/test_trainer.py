import json
import logging

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from toy_experiment import ToyDataset, ToyModel, run, toy_config

from pointcept.datasets import collate
from pointcept.engines import Hook, Trainer, build_trainer
from pointcept.engines.amp import Precision
from pointcept.engines.loaders import training_loader
from pointcept.engines.optim import SGD, build_optimizer
from pointcept.utils.logging import remove_log_handlers


@pytest.fixture(autouse=True)
def _no_log_handlers():
    yield
    remove_log_handlers()


def make_trainer(tmp_path, model=None, *, batch_size=2, num_samples=6, hooks=(), num_epochs=1, lr=0.1, **options):
    torch.manual_seed(0)
    model = model or ToyModel()
    loader = training_loader(ToyDataset(num_samples), collate, batch_size=batch_size)
    return Trainer(
        model=model,
        train_loader=loader,
        optimizer=build_optimizer(model, SGD(lr=lr)),
        num_epochs=num_epochs,
        save_path=tmp_path,
        hooks=hooks,
        **options,
    )


class Recorder(Hook):
    def __init__(self, name, events, fail_at=None):
        self.name, self.events, self.fail_at = name, events, fail_at

    def _event(self, event):
        self.events.append(f"{self.name}.{event}")
        if event == self.fail_at:
            raise RuntimeError("planted")

    def before_train(self):
        self._event("before_train")

    def before_epoch(self):
        self._event("before_epoch")

    def before_step(self):
        self._event("before_step")

    def after_step(self):
        self._event("after_step")

    def after_epoch(self):
        self._event("after_epoch")

    def after_train(self):
        self._event("after_train")


def test_hooks_are_called_in_order_at_every_moment(tmp_path):
    events = []
    make_trainer(tmp_path, batch_size=3, hooks=[Recorder("a", events), Recorder("b", events)]).train()
    step = ["a.before_step", "b.before_step", "a.after_step", "b.after_step"]
    assert events == [
        *["a.before_train", "b.before_train", "a.before_epoch", "b.before_epoch"],
        *step,
        *step,
        *["a.after_epoch", "b.after_epoch", "a.after_train", "b.after_train"],
    ]


def test_after_train_is_called_after_an_error(tmp_path):
    events = []
    trainer = make_trainer(tmp_path, hooks=[Recorder("a", events, fail_at="after_step")])
    with pytest.raises(RuntimeError, match="planted"):
        trainer.train()
    assert events[-1] == "a.after_train" and not trainer.is_finished


class WithoutBatchNorm(ToyModel):
    def __init__(self):
        super().__init__()
        self.backbone[1] = nn.Identity()


def test_accumulated_batches_are_one_large_batch(tmp_path):
    large = make_trainer(tmp_path / "large", WithoutBatchNorm(), batch_size=6, num_samples=12)
    small = make_trainer(tmp_path / "small", WithoutBatchNorm(), batch_size=2, num_samples=12, accumulation_steps=3)
    small.model.load_state_dict(large.model.state_dict())
    large.train()
    small.train()
    assert large.step == small.step == 2
    for name, weight in large.model.state_dict().items():
        torch.testing.assert_close(weight, small.model.state_dict()[name])


def test_an_accumulation_that_the_epoch_does_not_fill_makes_a_smaller_step(tmp_path):
    trainer = make_trainer(tmp_path, WithoutBatchNorm(), batch_size=1, num_samples=5, accumulation_steps=3, lr=0.0)
    records = []

    class Keep(Hook):
        def after_step(self):
            records.extend(self.trainer.records)

    trainer.hooks.append(keep := Keep())
    keep.trainer = trainer
    trainer.num_epochs = 2
    trainer.train()
    assert trainer.steps_per_epoch == 2 and trainer.step == 4  # three batches, then two, in each epoch
    # With a learning rate of zero, the gradient of the smaller step is that of the mean loss over its two batches.
    sampler = trainer.train_loader.batch_sampler
    sampler.set_position(0, 3)
    batch = collate([trainer.train_loader.dataset[key] for keys in sampler for key in keys])
    sum(trainer.model(batch).values()).backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in trainer.model.parameters()])
    assert records[1].grad_norm == pytest.approx(norm.item(), rel=1e-4)


def test_clipping_bounds_the_update_by_the_global_norm(tmp_path):
    trainer = make_trainer(tmp_path, batch_size=6, clip_grad=0.01, lr=1.0)
    before = torch.cat([p.detach().flatten().clone() for p in trainer.model.parameters()])
    trainer.train()
    after = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    assert (after - before).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_bfloat16_computes_in_bfloat16_and_trains(tmp_path):
    seen = []

    class Watching(ToyModel):
        def forward(self, batch):
            seen.append(self.head(self.backbone(batch.points.feat)).dtype)
            return super().forward(batch)

    make_trainer(tmp_path, Watching(), precision=Precision("bfloat16", "cpu")).train()
    assert set(seen) == {torch.bfloat16}


class Returning(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.weight, self.value = nn.Parameter(torch.ones(2)), value

    def forward(self, batch):
        return self.value(self.weight)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (lambda w: w.sum(), TypeError, "must return its loss terms as a dict: Returning returned Tensor"),
        (lambda w: {}, TypeError, "must return its loss terms as a dict: Returning returned dict"),
        (lambda w: {"a": w}, TypeError, r"must be a scalar tensor: 'a' of Returning is \(2,\)"),
        (lambda w: {"a": 1.0}, TypeError, "must be a scalar tensor: 'a' of Returning is float"),
        (
            lambda w: {"a": w.sum().detach()},
            ValueError,
            r"depend on trainable parameters: none of \['a'\] of Returning",
        ),
    ],
)
def test_a_model_that_breaks_the_loss_contract_is_told_so(tmp_path, value, error, message):
    with pytest.raises(error, match=message):
        make_trainer(tmp_path, Returning(value)).train()


def test_the_experiment_ends_with_the_figures_of_the_last_evaluation(tmp_path):
    run(toy_config(tmp_path))
    figures = json.loads((tmp_path / "metrics.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert sorted(figures) == ["error", "num_scenes", "peak_memory_gb", "seconds", "steps"]
    assert figures["steps"] == 18 and figures["num_scenes"] == 5
    assert figures["error"] == lines[-1]["error"] < lines[0]["error"]
    assert [(line["step"], line["epoch"]) for line in lines] == [(6, 1), (12, 2), (18, 3)]
    assert 0.01 < figures["peak_memory_gb"] < 24 and figures["seconds"] > 0


def test_epochs_are_passes_and_reported_epochs_repeat_them(tmp_path):
    trainer = build_trainer(toy_config(tmp_path, epoch=6, eval_epoch=2, batch_size=5))
    assert trainer.steps_per_epoch == 3 * 12 // 5 and trainer.num_epochs == 2
    trainer.train()
    assert trainer.step == trainer.total_steps == 14


def test_two_runs_with_one_seed_are_identical_and_another_seed_is_not(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(toy_config(tmp_path / name, seed=seed, model={"type": "ToyModel", "dropout": 0.5}, epoch=1, eval_epoch=1))
    a, b, c = (torch.load(tmp_path / n / "model/model_last.pth", weights_only=True)["state_dict"] for n in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["head.weight"], c["head.weight"])


def test_weights_are_loaded_into_a_new_run(tmp_path, caplog):
    run(toy_config(tmp_path / "a", epoch=1, eval_epoch=1))
    weight = str(tmp_path / "a/model/model_last.pth")
    trainer = build_trainer(toy_config(tmp_path / "b", weight=weight))
    remove_log_handlers()
    with caplog.at_level(logging.INFO, logger="pointcept"):
        trainer.train()
    assert "model_last.pth: 8 of 8 matched" in caplog.text
    assert trainer.step == 18  # and not 12, as in a resumed run


def test_a_weight_that_no_hook_would_load_is_refused(tmp_path):
    config = toy_config(tmp_path, weight="some.pth")
    with pytest.raises(ValueError, match=r"weight needs a hook that loads it: got 'some\.pth' and no CheckpointLoader"):
        build_trainer({**config, "hooks": config["hooks"][1:]})
    with pytest.raises(FileNotFoundError, match=r"there is no file some\.pth"):
        build_trainer(config).train()


def test_a_config_without_training_data_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"data must have 'train' to train: got \['val'\]"):
        build_trainer(toy_config(tmp_path, data={"val": {"type": "ToyDataset"}}))


def test_nothing_is_evaluated_when_evaluate_is_false(tmp_path):
    trainer = build_trainer(toy_config(tmp_path, evaluate=False))
    assert trainer.val_loader is None
    trainer.train()
    assert sorted(json.loads((tmp_path / "metrics.json").read_text())) == ["peak_memory_gb", "seconds", "steps"]


def test_loading_never_advances_the_generator_that_models_draw_from(tmp_path):
    loader: DataLoader = training_loader(ToyDataset(4), collate, batch_size=2)
    before = torch.get_rng_state()
    list(loader)
    assert torch.equal(before, torch.get_rng_state())


def test_a_model_is_told_the_progress_of_the_run_before_every_step(tmp_path):
    trainer = make_trainer(tmp_path, num_epochs=2)  # 3 steps per epoch
    told = []
    trainer.model.set_progress = told.append
    trainer.train()
    assert told == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])
