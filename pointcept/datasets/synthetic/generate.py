"""Makes a data set of synthetic rooms on disk: once, whichever process asks first, and continued when interrupted."""

import concurrent.futures
import contextlib
import dataclasses
import fcntl
import json
import logging
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pointcept.datasets.synthetic.room import RoomSettings, generate_room, save_room
from pointcept.utils.files import write_text

_VERSION = 1
"""Raised whenever the same seed gives other rooms than before."""

_MANIFEST = "manifest.json"
_LOCK = ".lock"
_PREFIX = "synthetic"
_MIN_ROOMS_PER_WORKER = 2
_logger = logging.getLogger("pointcept")


def ensure_synthetic_rooms(
    root: str | Path,
    num_train: int,
    num_val: int,
    seed: int = 0,
    *,
    settings: RoomSettings | None = None,
    num_workers: int | None = None,
) -> Path:
    """Make the rooms that ``root`` does not hold yet; return at once when it holds all of them.

    Processes that call this together make the rooms once: one works, the others wait. A room depends on the seed, its
    split and its number alone, so neither an interruption nor ``num_workers`` changes the data, and a call with larger
    numbers adds rooms to those that exist.

    Args:
        root: Folder of the data set; made when absent.
        num_train: Rooms of the split "train".
        num_val: Rooms of the split "val".
        seed: Not negative.
        settings: Sizes and numbers; the defaults when None.
        num_workers: Processes that make rooms; by default one per available core.

    Returns:
        ``root``.

    Raises:
        ValueError: a number is out of range, ``root`` holds rooms of other settings or more of them, or other files.
        RuntimeError: in a process started here that imports a script without ``if __name__ == "__main__"``.
    """
    root = Path(root).expanduser()
    settings = RoomSettings() if settings is None else settings
    for name, value in (("num_train", num_train), ("num_val", num_val), ("seed", seed)):
        if value < 0:
            raise ValueError(f"{name} must not be negative: got {value}. Give a number from 0 on.")
    if num_train + num_val < 1:
        raise ValueError("At least one room must be asked for: got num_train=0 and num_val=0. Give one a number.")
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers must be at least 1: got {num_workers}. Leave it out to use all cores.")
    wanted = {
        "generator": "pointcept.datasets.synthetic",
        "version": _VERSION,
        "seed": seed,
        "settings": json.loads(json.dumps(dataclasses.asdict(settings))),
        "rooms": {"train": num_train, "val": num_val},
        "complete": True,
    }
    jobs = [("train", index) for index in range(num_train)] + [("val", index) for index in range(num_val)]
    if _matches(root, wanted) and not _missing(root, jobs):
        return root
    _require_started_process()
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root):
        is_known = _matches(root, wanted)
        missing = _missing(root, jobs)
        if is_known and not missing:
            return root
        for leftover in root.glob(f".{_PREFIX}_*"):
            shutil.rmtree(leftover)
        _write_manifest(root, {**wanted, "complete": False})
        _logger.info("Making %d synthetic rooms in %s", len(missing), root)
        _make(root, missing, seed, settings, num_workers)
        _write_manifest(root, wanted)
    return root


def scene_name(split: str, index: int) -> str:
    """Name of the folder of a room."""
    return f"{_PREFIX}_{split}_{index:04d}"


def _missing(root: Path, jobs: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Rooms that are not on disk, or of which somebody removed the frames."""

    def exists(split: str, index: int) -> bool:
        name = scene_name(split, index)
        return (root / split / name).is_dir() and (root / "rgbd" / name).is_dir()

    return [job for job in jobs if not exists(*job)]


def _matches(root: Path, wanted: dict[str, Any]) -> bool:
    """Whether ``root`` is finished as wanted; raises when it holds anything that rooms as wanted cannot be added to."""
    path = root / _MANIFEST
    # Listed before the manifest is looked for: whoever makes the rooms at this moment writes the manifest first.
    others = sorted(entry.name for entry in root.iterdir() if entry.name[0] != ".") if root.is_dir() else []
    if not path.is_file():
        if others:
            raise ValueError(
                f"The folder of the synthetic rooms must be empty or hold synthetic rooms: {root} has no {_MANIFEST} "
                f"but {', '.join(others[:3])}. Choose another folder."
            )
        return False
    found = json.loads(path.read_text(encoding="utf-8"))
    for key in ("generator", "version", "seed", "settings"):
        if found.get(key) != wanted[key]:
            raise ValueError(
                f"The rooms in {root} must have been made with {key} {wanted[key]}: {path.name} says "
                f"{found.get(key)}. Choose another folder, or delete this one to make its rooms anew."
            )
    for split, count in wanted["rooms"].items():
        if found["rooms"][split] > count:
            raise ValueError(
                f"{root} must hold {count} rooms of the split {split!r}: {path.name} says {found['rooms'][split]}. "
                "Ask for at least as many, or choose another folder."
            )
    return found == wanted


def _write_manifest(root: Path, manifest: dict[str, Any]) -> None:
    write_text(root / _MANIFEST, json.dumps(manifest, indent=2, sort_keys=True) + "\n")


def _require_started_process() -> None:
    """Refuses a process that still imports the script it was started from: it would wait for its own parent's lock."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(
            "A script that makes synthetic rooms must not do so when it is imported: the processes that make them "
            "import it, and got here again. Put what it runs below a line if __name__ == '__main__'."
        )


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system releases when a process ends, however it ends."""
    with open(root / _LOCK, "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _logger.info("Waiting for the process that makes synthetic rooms in %s", root)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(root: Path, jobs: list[tuple[str, int]], seed: int, settings: RoomSettings, num_workers: int | None) -> None:
    if num_workers is None:
        num_workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    num_workers = min(num_workers, len(jobs) // _MIN_ROOMS_PER_WORKER)
    with tqdm(total=len(jobs), desc="Synthetic rooms", unit="room") as progress:
        if num_workers <= 1 or multiprocessing.current_process().daemon:  # a daemon may have no children
            for split, index in jobs:
                _make_one(root, split, index, seed, settings)
                progress.update()
            return
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(num_workers, mp_context=context) as pool:
            futures = [pool.submit(_make_one, root, split, index, seed, settings) for split, index in jobs]
            try:
                for future in concurrent.futures.as_completed(futures):
                    future.result()
                    progress.update()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _make_one(root: Path, split: str, index: int, seed: int, settings: RoomSettings) -> None:
    room = generate_room(seed, split, index, settings)
    save_room(room, root, split, scene_name(split, index), settings, seed=seed, index=index)
