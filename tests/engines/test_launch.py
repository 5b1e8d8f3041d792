"""Starting processes: directly, several at once, and what goes wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pointcept.engines import launch as launch_module
from pointcept.engines.launch import launch

PROGRAM = """
import os
import signal
import sys
import time
from pathlib import Path

import torch

from pointcept.engines.launch import launch
from pointcept.utils import distributed


def work(folder, outcome):
    total = distributed.all_reduce_sum(torch.tensor([1.0 + distributed.get_rank()]))
    text = f"{distributed.get_world_size()} {total.item()} {torch.get_num_threads()} {torch.distributed.get_backend()}"
    Path(folder, os.environ["RANK"]).write_text(text)
    if outcome == "fail" and distributed.get_rank() == 1:
        raise ValueError("the second process fails")
    if outcome == "stop":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(Path(folder, f"stopped {distributed.get_rank()}").touch()))
        Path(folder, f"ready {distributed.get_rank()}").touch()
        if distributed.get_rank() == 0:
            while not Path(folder, "ready 1").exists():  # not a barrier, which the other process might still be in
                time.sleep(0.01)
            os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(300)


if __name__ == "__main__":
    launch(work, (sys.argv[1], sys.argv[2]), num_processes=2)
"""


def run(tmp_path: Path, outcome: str, *prefix: str) -> subprocess.CompletedProcess[str]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    (tmp_path / "out").mkdir()
    environment = {
        key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "OMP_NUM_THREADS")
    }
    environment["CUDA_VISIBLE_DEVICES"] = ""
    environment["PYTHONPATH"] = str(Path(launch_module.__file__).resolve().parents[2])
    command = [sys.executable, *prefix, str(program), str(tmp_path / "out"), outcome]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def threads_of_each(processes: int) -> int:
    return max(1, len(os.sched_getaffinity(0)) // processes)


def test_two_processes_on_the_cpu_sum_and_share_the_cores(tmp_path: Path) -> None:
    result = run(tmp_path, "succeed")
    assert result.returncode == 0, result.stderr
    for rank in ("0", "1"):
        assert (tmp_path / "out" / rank).read_text() == f"2 3.0 {threads_of_each(2)} gloo"


def test_processes_that_torchrun_started_join_their_group(tmp_path: Path) -> None:
    result = run(tmp_path, "succeed", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "1").read_text() == f"2 3.0 {threads_of_each(2)} gloo"


def test_a_failing_process_fails_the_run_and_shows_its_error(tmp_path: Path) -> None:
    result = run(tmp_path, "fail")
    assert result.returncode != 0
    assert "ValueError: the second process fails" in result.stderr
    assert "RuntimeError: Every process of the run must succeed: process 1 ended with exit code 1." in result.stderr


def test_sigterm_reaches_every_process_and_ends_the_run(tmp_path: Path) -> None:
    result = run(tmp_path, "stop")
    assert result.returncode == 143, result.stderr
    assert {path.name for path in (tmp_path / "out").glob("stopped*")} == {"stopped 0", "stopped 1"}


def test_one_process_is_called_directly() -> None:
    calls = []
    launch(lambda *arguments: calls.append(arguments), (1, "a"))
    assert calls == [(1, "a")]
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_processes": 0}, r"A run needs processes: got 0 on each of 1 machines"),
        ({"num_machines": 2}, r"tcp://host:port: got 'auto'"),
        ({"num_machines": 2, "dist_url": "tcp://host"}, r"tcp://host:port: got 'tcp://host'"),
        ({"machine_rank": 1}, r"machine rank must be from 0 to 0: got 1"),
    ],
)
def test_a_wrong_request_is_explained(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        launch(print, **arguments)


def test_more_processes_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="got 2 processes for 1 devices"):
        launch(print, num_processes=2)
