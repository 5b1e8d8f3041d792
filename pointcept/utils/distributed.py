"""The processes of one run: who they are, and what they tell each other. One process needs no set-up."""

import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def initialize() -> torch.device:
    """Joins the processes that torchrun started, if it did, and gives this process its device.

    CUDA tensors travel by NCCL and CPU tensors by gloo, so that flags and counts never wait for the accelerator.
    Calling it again changes nothing.
    """
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not is_initialized():
        if device.type == "cuda":
            dist.init_process_group("cpu:gloo,cuda:nccl", device_id=device)
        else:
            dist.init_process_group("gloo")
    return device


def shutdown() -> None:
    """Leaves the group of processes, if there is one."""
    if is_initialized():
        dist.destroy_process_group()


def is_initialized() -> bool:
    """Whether this process belongs to a group."""
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """Number of processes; 1 without a group."""
    return dist.get_world_size() if is_initialized() else 1


def get_rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if is_initialized() else 0


def is_main_process() -> bool:
    """Whether this is the process that writes files and logs."""
    return get_rank() == 0


def barrier() -> None:
    """Waits until every process is here."""
    if get_world_size() > 1:
        all_reduce_sum(torch.zeros(1))


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """The sum over all processes, as a new tensor without gradient."""
    total = tensor.detach().clone()
    if get_world_size() > 1:
        dist.all_reduce(total)
    return total


def all_gather_objects(value: Any) -> list[Any]:
    """What every process passed here, in the order of the ranks. For small picklable values."""
    if get_world_size() == 1:
        return [value]
    values: list[Any] = [None] * get_world_size()
    dist.all_gather_object(values, value)
    return values


class Consensus:
    """Lets all processes act on a flag at the same step, without ever waiting for each other.

    The flags of one step are summed in the background and read at the next step, so a vote is seen one step late.
    A single process sees its own vote at once.

    Args:
        num_flags: how many flags each vote has.
    """

    def __init__(self, num_flags: int) -> None:
        self._totals = torch.zeros(num_flags)
        self._work: Any = None

    def vote(self, *flags: bool) -> tuple[bool, ...]:
        """Whether any process raised each flag, at the previous vote (at this one in a single process)."""
        if get_world_size() == 1:
            return tuple(flags)
        if self._work is not None:
            self._work.wait()
        decided = tuple(bool(total) for total in self._totals.tolist())
        self._totals = torch.tensor(flags, dtype=torch.float32)
        self._work = dist.all_reduce(self._totals, async_op=True)
        return decided
