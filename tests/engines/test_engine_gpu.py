import pytest
import torch
from torch import nn
from toy_experiment import run, toy_config

from pointcept.engines import Hook
from pointcept.engines.guard import LossMonitor
from pointcept.registry import HOOKS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(autouse=True)
def synchronization_is_allowed_again():
    yield
    torch.cuda.set_sync_debug_mode("default")


@HOOKS.register()
class ForbidSynchronization(Hook):
    """Makes every wait for the device inside a step an error, after a few steps in which memory is reserved."""

    def before_step(self) -> None:
        if self.trainer.step >= 3:
            torch.cuda.set_sync_debug_mode("error")

    def after_step(self) -> None:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("amp", [{}, {"enable_amp": True}, {"enable_amp": True, "amp_dtype": "float16"}])
def test_a_step_never_waits_for_the_device(tmp_path, amp):
    run(toy_config(tmp_path, hooks=[{"type": "ForbidSynchronization"}], clip_grad=1.0, **amp))


def test_a_bad_loss_is_found_one_step_later_or_before_a_checkpoint():
    device = torch.device("cuda")
    monitor = LossMonitor(nn.Linear(1, 1), device)
    monitor.add({"a": torch.tensor(float("nan"), device=device)}, ("room",))
    monitor.close_step(1, torch.tensor(1.0, device=device), 0.1)
    assert monitor.collect() == []
    with pytest.raises(FloatingPointError, match="'a' must be finite: got nan at step 1"):
        monitor.check_all()
    monitor.add({"a": torch.tensor(1.0, device=device)}, ("room",))
    monitor.close_step(2, torch.tensor(1.0, device=device), 0.1)
    assert [record.step for record in monitor.collect()] == [1]
    assert [record.losses for record in monitor.collect(wait=True)] == [{"a": 1.0}]
