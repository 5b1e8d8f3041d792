"""Reading checkpoint files without running any code of theirs."""

import ast
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

# Pointcept stores its best metric as a NumPy number. These only rebuild plain numbers and run no code of the file.
_NUMPY_NUMBERS = [
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32")),
]

_NESTING = ("state_dict", "model")


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a ``.pth`` or ``.safetensors`` file onto the CPU. Nothing in the file is ever executed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file was cut off, is no checkpoint, or asks for code to be run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"A checkpoint must exist: there is no file {path}. Check weight and save_path.")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with torch.serialization.safe_globals(_NUMPY_NUMBERS):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not zipfile.is_zipfile(path):
            raise _unreadable(path, error) from error
        raise ValueError(
            f"A checkpoint must hold tensors and plain values only: {path} asks for code to be run on loading and was "
            f"refused ({_first_line(error)}). Convert it where you trust it: save only its state_dict."
        ) from error
    except (EOFError, RuntimeError, safetensors.SafetensorError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f"A checkpoint must hold a dict: {path} holds a {type(checkpoint).__name__}. Save a dict.")
    return checkpoint


def model_weights(checkpoint: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The weights inside a checkpoint, without the ``module.`` that data-parallel training puts before their names.

    They may lie under ``state_dict`` or ``model``, one inside the other too, or be all that there is.

    Raises:
        ValueError: there are none.
    """
    weights: Any = checkpoint
    while (nested := next((key for key in _NESTING if isinstance(weights.get(key), Mapping)), None)) is not None:
        weights = weights[nested]
    if not weights or not all(isinstance(w, Tensor) for w in weights.values()):
        raise ValueError(
            f"A checkpoint must hold weights under 'state_dict', or nothing but weights: {path} has the keys "
            f"{some_of(tuple(map(str, checkpoint)))}. Save the model's state_dict."
        )
    if all(name.startswith("module.") for name in weights):
        return {name.removeprefix("module."): weight for name, weight in weights.items()}
    return dict(weights)


def recorded_config(checkpoint: Mapping[str, Any], path: Path) -> Mapping[str, Any] | None:
    """The config in a checkpoint: the settings as the trainer prints them, read as data and never executed.

    Raises:
        ValueError: there is one, but it cannot be read.
    """
    recorded = checkpoint.get("config")
    if recorded is None or isinstance(recorded, Mapping):
        return recorded
    try:
        call = ast.parse(recorded, mode="eval").body
        return {keyword.arg: ast.literal_eval(keyword.value) for keyword in getattr(call, "keywords", ())}
    except (SyntaxError, ValueError, TypeError) as error:
        raise ValueError(
            f"The config in a checkpoint must be readable: that of {path} is not ({error}). Give --config-file."
        ) from error


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"A checkpoint must be a whole file: {path} ({path.stat().st_size} bytes) cannot be read "
        f"({_first_line(error)}). It was cut off or is no checkpoint; copy it again or use another."
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "GLOBAL" in line or ("global" in line.lower() and "Unsupported" in line)]
    text = (told or lines or [type(error).__name__])[0]
    return text if len(text) <= 200 else text[:197] + "..."


def some_of(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:6]) + (f", ... {len(names) - 6} more" if len(names) > 6 else "")
