"""Finds and reads the golden files: values that the reference implementations computed."""

import ast
import dataclasses
import os
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

FOLDER = Path(os.environ.get("POINTCEPT_GOLDEN", Path(__file__).parent / "data"))


@dataclasses.dataclass(frozen=True)
class GoldenFile:
    """One golden file.

    Attributes:
        tensors: All tensors by their full names.
        arguments: The metadata, parsed where it is a Python literal.
    """

    tensors: dict[str, Tensor]
    arguments: dict[str, Any]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def group(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose names begin with ``prefix`` and a dot, without it."""
        start = len(prefix) + 1
        return {name[start:]: value for name, value in self.tensors.items() if name.startswith(prefix + ".")}


def golden_paths(prefix: str) -> list[Path]:
    """Every golden file whose name begins with ``prefix``; finding none is an error, not a reason to skip."""
    paths = sorted(FOLDER.glob(f"{prefix}*.safetensors"))
    if not paths:
        raise FileNotFoundError(
            f"Golden files {prefix}*.safetensors must lie in {FOLDER}: found none. "
            "Set POINTCEPT_GOLDEN to their folder."
        )
    return paths


def load_golden(path: Path) -> GoldenFile:
    """Reads a golden file."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        metadata = file.metadata() or {}
    return GoldenFile(tensors=tensors, arguments={name: _parse(value) for name, value in metadata.items()})


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest expected value."""
    difference = (found.detach().reshape(expected.shape) - expected).abs().max()
    return float(difference / expected.abs().max().clamp(min=1e-12))


def _parse(value: str) -> Any:
    try:
        return ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return value
