"""Time and memory of one side of a comparison, and the table of its figures."""

import json
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch

SIDES = ("toolkit", "twin")
T = TypeVar("T")


def timed(step: Callable[[], T], count: int, device: str) -> tuple[list[float], T]:
    """Seconds of each of some steps, after one that does not count, and what the last one gave."""
    synchronize = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    seconds = []
    for _ in range(count + 1):
        synchronize()
        started = time.perf_counter()
        result = step()
        synchronize()
        seconds.append(time.perf_counter() - started)
    return seconds[1:], result


def measured(step: Callable[[], T], count: int, device: str, before_gb: float) -> tuple[dict[str, float], T]:
    """``ms`` of a step, the median, and ``memory_gb``, the peak; and what the last step gave.

    Args:
        step: What is measured.
        count: Steps to time, after one that does not count.
        device: Where it runs. On a GPU memory is what tensors took there at a time.
        before_gb: What imports needed: on a CPU, memory is that of the process beyond it.
    """
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds, result = timed(step, count, device)
    memory = torch.cuda.max_memory_allocated() / 1e9 if on_gpu else peak_memory_gb() - before_gb
    return {"ms": statistics.median(seconds) * 1e3, "memory_gb": memory}, result


def peak_memory_gb() -> float:
    """The most that this process has taken."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # kilobytes on Linux


def report(figures: Mapping[str, float], path: Path | None) -> None:
    """Prints the figures as a table, and writes them to a JSON file if one is given."""
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:{width}s} {value:>12.4f}")
    if path:
        path.write_text(json.dumps(figures, indent=2) + "\n")
