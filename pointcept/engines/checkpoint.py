"""Checkpoint files: writing them whole, reading them without running code, and matching weights to a model."""

import dataclasses
import logging
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from pointcept.utils.files import atomic_write

_logger = logging.getLogger("pointcept")

# Pointcept stores its best metric as a NumPy number. These only rebuild plain numbers and run no code of the file.
_NUMPY_NUMBERS = [
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32")),
]


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


@dataclasses.dataclass(frozen=True)
class Match:
    """How the tensors of a file fit those of a model, by name.

    Attributes:
        matched: same name and shape.
        missing: in the model only.
        unexpected: in the file only.
        mismatched: the same name with different shapes.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]

    @property
    def is_exact(self) -> bool:
        """Whether every tensor has its counterpart."""
        return not (self.missing or self.unexpected or self.mismatched)

    def describe(self) -> str:
        """The names that do not fit, in one line."""
        parts = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": self.mismatched}
        listed = (f"{len(names)} {what} ({_some(names)})" for what, names in parts.items() if names)
        return f"{len(self.matched)} matched" + "".join(f", {part}" for part in listed)


def match_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> Match:
    """Compares weights from a file with those of a model."""
    expected = model.state_dict()
    shared = [name for name in expected if name in weights]
    return Match(
        matched=tuple(name for name in shared if weights[name].shape == expected[name].shape),
        missing=tuple(name for name in expected if name not in weights),
        unexpected=tuple(name for name in weights if name not in expected),
        mismatched=tuple(name for name in shared if weights[name].shape != expected[name].shape),
    )


def model_weights(checkpoint: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The weights inside a checkpoint, without the ``module.`` that data-parallel training puts before their names.

    Raises:
        ValueError: there are none.
    """
    weights = next((checkpoint[key] for key in ("state_dict", "model") if key in checkpoint), checkpoint)
    if not isinstance(weights, Mapping) or not weights or not all(isinstance(w, Tensor) for w in weights.values()):
        raise ValueError(
            f"A checkpoint must hold weights under 'state_dict', or nothing but weights: {path} has the keys "
            f"{_some(tuple(map(str, checkpoint)))}. Save the model's state_dict."
        )
    if all(name.startswith("module.") for name in weights):
        return {name.removeprefix("module."): weight for name, weight in weights.items()}
    return dict(weights)


def load_weights(
    model: nn.Module,
    path: str | Path,
    *,
    keywords: str = "",
    replacement: str | None = None,
    strict: bool = False,
) -> Match:
    """Initialises a model from the weights in a file and says by name what did not fit.

    Args:
        model: changed in place.
        path: ``.pth`` with the weights alone or under ``state_dict``, or ``.safetensors``.
        keywords: part of a name; where it occurs, its first occurrence becomes ``replacement``. As in Pointcept, names
            may be thought of with ``module.`` in front.
        replacement: None leaves names as they are.
        strict: every tensor must fit.

    Returns:
        What was loaded and what was not.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is unreadable, nothing in it fits, or, with ``strict``, something does not.
    """
    weights = model_weights(load_checkpoint(path), path)
    if replacement is not None:
        weights = _renamed(weights, keywords, replacement)
    match = match_weights(model, weights)
    if not match.matched:
        raise ValueError(
            f"A checkpoint must fit the model: nothing in {path} does. Its names: {_some(match.unexpected)}; the "
            f"model's: {_some(match.missing)}. Check weight, or map the names with keywords and replacement."
        )
    if strict and not match.is_exact:
        raise ValueError(f"{path} must fit the model exactly: {match.describe()}. Check weight, or set strict=False.")
    model.load_state_dict({name: weights[name] for name in match.matched}, strict=False)
    _logger.info("Loaded weights from %s: %d of %d matched.", path, len(match.matched), len(model.state_dict()))
    for what in ("missing", "unexpected", "mismatched"):
        if names := getattr(match, what):
            _logger.warning("%d weights %s: %s", len(names), _MEANING[what], ", ".join(names))
    return match


_MEANING = {
    "missing": "of the model are not in the file and keep their initial values",
    "unexpected": "of the file are not in the model and are ignored",
    "mismatched": "have another shape in the file and keep their initial values",
}


def _renamed(weights: dict[str, Tensor], keywords: str, replacement: str) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, weight in weights.items():
        full_name = f"module.{name}".replace(keywords, replacement, 1) if keywords else f"{replacement}{name}"
        renamed[full_name.removeprefix("module.")] = weight
    return renamed


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


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:6]) + (f", ... {len(names) - 6} more" if len(names) > 6 else "")
