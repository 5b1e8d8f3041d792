"""Writing files so that a crash or a full disk never leaves half a file behind."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Opens a temporary file beside ``path`` that takes its place once the block has ended without an error.

    Until then, and after any error, an older file at ``path`` stays as it was and no other file remains. The content
    is on the disk before the name changes, so that even a power cut leaves the old file or the new one, whole.

    Raises:
        OSError: the folder cannot be written, or the disk is full; the message names the path and the cause.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{path} must be writable: {error.strerror or error}. The earlier file, if any, is unchanged. "
            "Free some space or choose another save_path.",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_array(path: str | Path, shape: tuple[int, ...], dtype: type[np.generic]) -> Iterator[np.memmap]:
    """An ``.npy`` file of zeros to fill in any order, which takes the place of ``path`` as of :func:`atomic_write`.

    What was written goes to the disk whenever the system needs the memory.

    Args:
        path: The file.
        shape: Of the array.
        dtype: Of its elements.

    Raises:
        OSError: as of :func:`atomic_write`; a disk without room for the whole array is noticed at once.
    """
    with atomic_write(path) as file:
        array = np.lib.format.open_memmap(file.name, mode="w+", dtype=dtype, shape=shape)
        if shutil.disk_usage(file.name).free < array.nbytes:  # a mapped file that finds no room ends the process
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield array
        array.flush()


def write_text(path: str | Path, text: str) -> None:
    """Replaces the file's content in one step."""
    with atomic_write(path) as file:
        file.write(text.encode())
