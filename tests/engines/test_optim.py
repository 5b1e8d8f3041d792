import logging

import pytest
import torch
from torch import nn

from pointcept.engines.optim import SGD, Adam, AdamW, build_optimizer
from pointcept.registry import OPTIMIZERS, build


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        self.head = nn.Linear(2, 1)


def names(optimizer):
    return [group["param_names"] for group in optimizer.param_groups]


def test_a_parameter_goes_to_the_first_keyword_that_its_name_contains():
    groups = [{"keyword": "backbone.1", "lr": 0.3, "weight_decay": 0.5}, {"keyword": "backbone", "lr_scale": 0.1}]
    optimizer = build_optimizer(Model(), AdamW(lr=1.0), groups)
    assert names(optimizer) == [
        ["head.weight", "head.bias"],
        ["backbone.1.weight", "backbone.1.bias"],
        ["backbone.0.weight", "backbone.0.bias"],
    ]
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 0.3, 0.1]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.5, 0.01]


def test_frozen_parameters_are_left_out():
    model = Model()
    model.backbone.requires_grad_(False)
    assert names(build_optimizer(model, SGD(lr=1.0))) == [["head.weight", "head.bias"]]
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="must have trainable parameters: got none"):
        build_optimizer(model, SGD(lr=1.0))


def test_group_zero_may_be_empty_and_the_optimizer_still_steps():
    model = Model()
    optimizer = build_optimizer(model, AdamW(lr=0.1), [{"keyword": "a"}])
    before = model.head.weight.clone()
    model.head(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert names(optimizer)[0] == [] and not torch.equal(before, model.head.weight)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"keyword": "bakbone"}, "no earlier keyword took: 'bakbone' does not. Did you mean 'backbone"),
        (
            {"keyword": "head", "lr_scal": 0.1},
            r"param_dicts\[0\] must be keyword, lr_scale or settings of SGD: got 'lr_scal'",
        ),
        ({"lr": 0.1}, r"param_dicts\[0\] must name its parameters"),
        ({"keyword": "head", "lr": 0.1, "lr_scale": 2.0}, "must have lr or lr_scale: got both"),
    ],
)
def test_bad_groups_are_explained(group, message):
    with pytest.raises(ValueError, match=message):
        build_optimizer(Model(), SGD(lr=1.0), [group])


def test_groups_are_logged(caplog):
    with caplog.at_level(logging.INFO, logger="pointcept"):
        build_optimizer(Model(), SGD(lr=1.0), [{"keyword": "head", "lr": 0.5}])
    assert "Parameter group 0: {'lr': 1.0}, 4 tensors, 12 values." in caplog.text
    assert "Parameter group 1: {'lr': 0.5}, 2 tensors, 3 values." in caplog.text


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"type": "SGD", "lr": 0.1, "momentum": 0.9, "nesterov": True}, torch.optim.SGD),
        ({"type": "Adam", "lr": 0.1, "betas": (0.8, 0.9)}, torch.optim.Adam),
        ({"type": "AdamW", "lr": 0.1, "weight_decay": 0.2}, torch.optim.AdamW),
    ],
)
def test_settings_reach_torchs_optimizer(config, expected):
    optimizer = build_optimizer(Model(), build(config, "optimizer", OPTIMIZERS))
    assert type(optimizer) is expected
    assert all(optimizer.defaults[key] == value for key, value in config.items() if key != "type")


def test_a_misspelt_setting_is_refused_with_the_nearest_one():
    with pytest.raises(
        ValueError, match=r"Keys of optimizer must be parameters of Adam.*got 'weight_deca'.*'weight_decay'"
    ):
        build({"type": "Adam", "lr": 0.1, "weight_deca": 0.1}, "optimizer", OPTIMIZERS)
    assert Adam(lr=0.1).weight_decay == 0.0
