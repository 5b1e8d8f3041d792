"""One file that holds a model whole: its weights, the config that builds it, the toolkit's version and the licence."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

import pointcept
from pointcept.utils.files import atomic_write

_CONFIG, _VERSION, _LICENSE = "config", "pointcept_version", "license"


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """What a model file says about its weights.

    Attributes:
        name: registered name of the model.
        arguments: of its constructor, as plain data.
        license: terms of use of the weights.
        version: of the toolkit that wrote the file.
    """

    name: str
    arguments: Mapping[str, Any]
    license: str
    version: str = pointcept.__version__


def write_model_file(path: str | Path, weights: Mapping[str, Tensor], card: ModelCard) -> None:
    """Writes ``.safetensors`` with the card as metadata. An older file stays whole until the new one is.

    Raises:
        ValueError: the name does not end in ``.safetensors``.
        OSError: the file cannot be written.
    """
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"A model file must be named *.safetensors: got {path}. Change its suffix.")
    metadata = {
        "format": "pt",
        _CONFIG: json.dumps({"type": card.name, **card.arguments}),
        _VERSION: card.version,
        _LICENSE: card.license,
    }
    own = {name: weight.detach().cpu().contiguous().clone() for name, weight in weights.items()}
    content = safetensors.torch.save(own, metadata)
    with atomic_write(path) as file:
        file.write(content)


def read_model_card(path: str | Path) -> ModelCard | None:
    """The card of a model file; None for any other checkpoint.

    Raises:
        ValueError: the file's config is damaged.
    """
    if Path(path).suffix != ".safetensors" or not Path(path).is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except safetensors.SafetensorError:
        return None  # whoever reads the weights says what is wrong
    if _CONFIG not in metadata or _VERSION not in metadata:
        return None
    try:
        arguments = dict(json.loads(metadata[_CONFIG]))
        name = arguments.pop("type")
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"The config in a model file must be JSON with a type: {path} has {metadata[_CONFIG][:80]!r}. "
            "Export the model again."
        ) from error
    return ModelCard(name, arguments, metadata.get(_LICENSE, "not stated"), metadata[_VERSION])
