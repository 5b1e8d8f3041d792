"""Data loaders for training and evaluation."""

import os
import signal
import threading
from collections.abc import Callable, Sized
from typing import Any

import torch
from torch.utils.data import DataLoader

from pointcept.datasets.mixed import MixedDataset
from pointcept.engines.sampler import EvaluationBatchSampler, MixedBatchSampler, TrainingBatchSampler
from pointcept.structures import SceneBatch
from pointcept.utils.distributed import get_world_size

_PREFETCH_FACTOR = 2  # batches that each worker prepares ahead
Collate = Callable[[list], SceneBatch]


def training_loader(
    dataset: Any,
    collate: Collate,
    *,
    batch_size: int,
    repeats: int = 1,
    seed: int = 0,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader:
    """The loader of the training set; its ``batch_sampler`` is a :class:`TrainingBatchSampler`.

    A :class:`MixedDataset` has its data sets take turns.

    Args:
        dataset: takes keys ``(index, seed)``.
        collate: makes a batch of a list of samples.
        batch_size: samples per batch over all processes.
        repeats: passes over the dataset within one reported epoch.
        seed: the experiment's seed.
        num_workers: loading processes of the whole job; 0 loads in the training process.
        pin_memory: prepare batches in page-locked memory, for CUDA.
    """
    if isinstance(dataset, MixedDataset):
        by_batch, repeats = dataset.mixing == "batches", repeats * dataset.main_loop
        sampler = MixedBatchSampler(
            dataset.sizes, dataset.ratios, batch_size, by_batch=by_batch, repeats=repeats, seed=seed
        )
    else:
        sampler = TrainingBatchSampler(_length(dataset), batch_size, repeats=repeats, seed=seed)
    return _loader(dataset, collate, sampler, num_workers, pin_memory)


def evaluation_loader(
    dataset: Any,
    collate: Collate,
    *,
    batch_size: int | None = None,
    seed: int = 0,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader:
    """The loader of a validation or test set: every sample once over all processes.

    Args:
        dataset: takes keys ``(index, seed)``.
        collate: makes a batch of a list of samples.
        batch_size: samples per batch over all processes; None is one per process.
        seed: the experiment's seed.
        num_workers: loading processes of the whole job; 0 loads in the training process.
        pin_memory: prepare batches in page-locked memory, for CUDA.
    """
    share = 1 if batch_size is None else max(1, batch_size // get_world_size())
    sampler = EvaluationBatchSampler(_length(dataset), share, seed=seed)
    return _loader(dataset, collate, sampler, num_workers, pin_memory)


def _loader(dataset: Any, collate: Collate, batch_sampler: Any, num_workers: int, pin_memory: bool) -> DataLoader:
    workers = -(-num_workers // get_world_size())
    return DataLoader(
        dataset,
        batch_sampler=batch_sampler,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        prefetch_factor=_PREFETCH_FACTOR if workers > 0 else None,
        worker_init_fn=_ignore_foreign_sigterm,
        generator=torch.Generator(),  # its own, so that loading never advances the generator that models draw from
    )


def _ignore_foreign_sigterm(worker_id: int) -> None:
    """Lets a worker end on SIGTERM from the training process only.

    Schedulers send the signal to all processes of a job, but the training process needs its workers until it has
    finished its step and saved. Where the sender cannot be known (outside Linux), nothing changes.
    """
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_exit_on_sigterm_from_parent, daemon=True).start()


def _exit_on_sigterm_from_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def _length(dataset: Sized) -> int:
    return len(dataset)
