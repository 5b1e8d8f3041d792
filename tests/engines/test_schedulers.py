import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from pointcept.engines.optim import SGD, AdamW, build_optimizer
from pointcept.engines.schedulers import (
    CosineAnnealingLR,
    ExpLR,
    MultiStepLR,
    MultiStepWithWarmupLR,
    OneCycleLR,
    PolyLR,
)


def curve(schedule, settings=None, total_steps=20, key="lr"):
    optimizer = build_optimizer(nn.Linear(1, 1), settings or SGD(lr=0.5, momentum=0.9))
    values = []
    for step in range(total_steps):
        schedule.apply(optimizer, step, total_steps)
        values.append(optimizer.param_groups[0][key])
    return values


def torch_curve(make, settings=None, total_steps=20, key="lr"):
    optimizer = build_optimizer(nn.Linear(1, 1), settings or SGD(lr=0.5, momentum=0.9))
    schedule = make(optimizer)
    values = []
    for _ in range(total_steps):
        values.append(optimizer.param_groups[0][key])
        optimizer.step()
        schedule.step()
    return values


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("pct_start", [0.05, 0.3])
def test_one_cycle_is_torchs(strategy, pct_start):
    options = {"max_lr": 0.5, "pct_start": pct_start, "div_factor": 10.0, "final_div_factor": 100.0}
    ours = OneCycleLR(**options, anneal_strategy=strategy)
    for settings, key in (
        (SGD(lr=0.5, momentum=0.9), "lr"),
        (SGD(lr=0.5, momentum=0.9), "momentum"),
        (AdamW(lr=0.5), "betas"),
    ):
        theirs = torch_curve(
            lambda o: lr_scheduler.OneCycleLR(o, **options, anneal_strategy=strategy, total_steps=40), settings, 40, key
        )
        torch.testing.assert_close(torch.tensor(curve(ours, settings, 40, key)), torch.tensor(theirs))


def test_one_cycle_takes_each_groups_rate_as_its_peak():
    optimizer = build_optimizer(nn.Linear(1, 1), SGD(lr=0.5), [{"keyword": "bias", "lr_scale": 0.1}])
    OneCycleLR(pct_start=0.5).apply(optimizer, 9, 20)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.5, 0.05])
    OneCycleLR(pct_start=0.5, max_lr=[1.0, 2.0]).apply(optimizer, 9, 20)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1.0, 2.0])


def test_one_cycle_refuses_peaks_that_do_not_go_with_the_groups():
    optimizer = build_optimizer(nn.Linear(1, 1), SGD(lr=0.5), [{"keyword": "bias", "lr": 0.1}])
    with pytest.raises(ValueError, match=r"got 3 for 2 groups"):
        OneCycleLR(max_lr=[1.0, 2.0, 3.0]).check(optimizer)
    with pytest.raises(ValueError, match=r"overrule the learning rates of the groups, \[0\.5, 0\.1\]: got 1\.0"):
        OneCycleLR(max_lr=1.0).check(optimizer)


def test_cosine_is_torchs():
    theirs = torch_curve(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=20, eta_min=0.1))
    assert curve(CosineAnnealingLR(eta_min=0.1)) == pytest.approx(theirs)


def test_cosine_after_a_warm_up():
    values = curve(CosineAnnealingLR(warmup_rate=0.25, warmup_scale=0.0), total_steps=20)
    assert values[:6] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])  # five of twenty steps, up to lr = 0.5
    assert values[5:] == pytest.approx(curve(CosineAnnealingLR(), total_steps=15))


def test_multi_step_by_hand():
    assert curve(MultiStepLR(milestones=[0.5, 0.75]), total_steps=4) == pytest.approx([0.5, 0.5, 0.05, 0.005])
    values = curve(MultiStepWithWarmupLR(milestones=[0.5], warmup_rate=0.5, warmup_scale=0.2), total_steps=4)
    assert values == pytest.approx([0.1, 0.3, 0.05, 0.05])


def test_poly_and_exp_by_hand():
    assert curve(PolyLR(power=2.0), total_steps=3) == pytest.approx([0.5, 0.5 * 0.75**2, 0.5 * 0.5**2])
    assert curve(ExpLR(gamma=0.25), total_steps=2) == pytest.approx([0.5, 0.25])


@pytest.mark.parametrize("total_steps", [1, 2, 3])
@pytest.mark.parametrize(
    "schedule",
    [
        OneCycleLR(),
        OneCycleLR(pct_start=0.05),
        CosineAnnealingLR(warmup_rate=0.1),
        PolyLR(),
        MultiStepLR(milestones=[0.5]),
    ],
)
def test_very_short_trainings_have_finite_rates(schedule, total_steps):
    assert all(0 <= value <= 0.5 for value in curve(schedule, total_steps=total_steps))
