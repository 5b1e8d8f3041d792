"""Writing checkpoint files whole."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pointcept.utils.files import atomic_write


def save_checkpoint(path: str | Path, checkpoint: Mapping[str, Any]) -> None:
    """Writes a dict of tensors and plain values. An older file at ``path`` stays whole until the new one is.

    Raises:
        OSError: the file cannot be written, for example because the disk is full; the message names it.
    """
    with atomic_write(path) as file:
        try:
            torch.save(dict(checkpoint), file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # torch's writer hides the cause
                raise error.__context__ from None
            raise
