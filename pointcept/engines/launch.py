"""Starting the processes of a run: one directly, several under torchrun's agent."""

import os
import sys
import uuid
from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from pointcept.utils import distributed


def default_num_processes() -> int:
    """One process per CUDA device, or one on a machine without any."""
    return max(1, torch.cuda.device_count())


def launch(
    function: Callable[..., None],
    arguments: tuple[Any, ...] = (),
    *,
    num_processes: int = 1,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
) -> None:
    """Calls ``function(*arguments)`` in every process of the run and returns when all have ended.

    A single process calls it right here. More of them are started by torchrun's agent, with NCCL on CUDA and gloo
    on CPUs. A process that torchrun started itself joins its group and calls the function. The CPU cores of the machine
    are shared out between its processes.

    Args:
        function: importable by name, because other processes import it.
        arguments: picklable.
        num_processes: processes on this machine.
        num_machines: machines that take part; the same command runs on each.
        machine_rank: number of this machine, from 0.
        dist_url: ``tcp://host:port`` of machine 0, or ``auto`` with one machine.

    Raises:
        ValueError: more processes than CUDA devices, or an address or rank that does not fit the number of machines.
        RuntimeError: a process failed; its own error has been shown before.
        SystemExit: a signal ended the run, after it was passed to all processes; the code is 128 plus its number.
    """
    if "WORLD_SIZE" in os.environ and "RANK" in os.environ:
        record(_run)(function, arguments)
        return
    _check(num_processes, num_machines, machine_rank, dist_url)
    if num_processes * num_machines == 1:
        function(*arguments)
        return
    os.environ.setdefault("OMP_NUM_THREADS", str(_threads_per_process(num_processes)))
    is_alone = num_machines == 1 and dist_url == "auto"
    endpoint = "localhost:0" if is_alone else dist_url.removeprefix("tcp://")
    agent = LaunchConfig(
        min_nodes=num_machines,
        max_nodes=num_machines,
        nproc_per_node=num_processes,
        run_id=uuid.uuid4().hex if is_alone else endpoint,
        rdzv_backend="c10d",
        rdzv_endpoint=endpoint,
        rdzv_configs={"is_host": machine_rank == 0},
        max_restarts=0,
        start_method="spawn",
    )
    try:
        elastic_launch(agent, _run)(function, arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise RuntimeError(
            f"Every process of the run must succeed: process {rank} ended with exit code {failure.exitcode}. "
            "Its own message is above."
        ) from None
    except SignalException as signal:
        sys.exit(128 + signal.sigval)


def _run(function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """What each of several processes does."""
    torch.set_num_threads(_threads_per_process(int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    distributed.initialize()
    try:
        function(*arguments)
    finally:
        distributed.shutdown()


def _check(num_processes: int, num_machines: int, machine_rank: int, dist_url: str) -> None:
    if num_processes < 1 or num_machines < 1:
        raise ValueError(
            f"A run needs processes: got {num_processes} on each of {num_machines} machines. Ask for 1 or more."
        )
    devices = torch.cuda.device_count()
    if 0 < devices < num_processes:
        raise ValueError(
            f"Each process needs a CUDA device of its own: got {num_processes} processes for {devices} devices. "
            f"Use at most {devices}, or hide the devices with CUDA_VISIBLE_DEVICES= to use CPUs."
        )
    if not 0 <= machine_rank < num_machines:
        raise ValueError(
            f"The machine rank must be from 0 to {num_machines - 1}: got {machine_rank}. Number the machines from 0."
        )
    if num_machines > 1 and not dist_url.removeprefix("tcp://").rpartition(":")[2].isdigit():
        raise ValueError(
            f"Several machines need the address of the first, tcp://host:port: got {dist_url!r}. Set the dist URL."
        )


def _threads_per_process(num_processes: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // num_processes)
