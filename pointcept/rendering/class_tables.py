"""Tables of class embeddings on disk: one vector per class, with the names of the classes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pointcept.utils.files import atomic_write

_TENSOR = "embeddings"


class ClassTable(NamedTuple):
    """Embeddings of classes.

    Attributes:
        embeddings: One row per class.
        class_names: Their names, in the order of the rows; None where the file does not say.
        templates: Prompts that were averaged, with ``{}`` for the name; None where the file does not say.
        encoder: What made the embeddings; None where the file does not say.
    """

    embeddings: Float[Tensor, "_K _D"]
    class_names: tuple[str, ...] | None = None
    templates: tuple[str, ...] | None = None
    encoder: str | None = None


def read_class_table(path: str | Path) -> ClassTable:
    """The one matrix of a safetensors file, with what its metadata say of it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no safetensors file, does not hold exactly one matrix of finite rows that are not zero, or
            names another number of classes.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"The class embeddings must be a safetensors file: {path} does not exist. Write one with "
            "python -m pointcept.language."
        )
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} must be a safetensors file: {error}. Write it again.") from error
    if len(tensors) != 1 or next(iter(tensors.values())).ndim != 2:
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        raise ValueError(f"{path} must hold one tensor, of shape (classes, D): got {shapes}.")
    (embeddings,) = tensors.values()
    table = ClassTable(
        embeddings.float(), _names(metadata, "class_names"), _names(metadata, "templates"), metadata.get("encoder")
    )
    _check(table, str(path))
    return table


def write_class_table(path: str | Path, table: ClassTable) -> None:
    """Writes a table as a safetensors file, complete or not at all; folders are made as needed.

    Raises:
        ValueError: a row is zero or not finite, or the names are not one per row.
        OSError: the file cannot be written.
    """
    path = Path(path)
    _check(table, "The table")
    metadata = {name: json.dumps(list(value)) for name, value in table._asdict().items() if isinstance(value, tuple)}
    if table.encoder is not None:
        metadata["encoder"] = table.encoder
    content = safetensors.torch.save({_TENSOR: table.embeddings.float().contiguous().cpu()}, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(content)


def require_same_classes(table: Sequence[str], dataset: Sequence[str], where: str) -> None:
    """Checks that row k of a table is the class with label k of a data set.

    Raises:
        ValueError: a name differs, or there are more of one than of the other; the message has the first difference.
    """
    if tuple(table) == tuple(dataset):
        return
    shared = min(len(table), len(dataset))
    label = next((index for index in range(shared) if table[index] != dataset[index]), shared)
    here, there = (repr(names[label]) if label < len(names) else "none" for names in (table, dataset))
    raise ValueError(
        f"{where} must have the classes of the data set, in their order: it has {len(table)} and the data set "
        f"{len(dataset)}, and label {label} is {here} in it and {there} in the data set. Use the table of this label "
        "set, or bring labels into the order of the table (UnifyLabels for indoor36)."
    )


def _names(metadata: dict[str, str], key: str) -> tuple[str, ...] | None:
    return tuple(json.loads(metadata[key])) if key in metadata else None


def _check(table: ClassTable, what: str) -> None:
    rows = table.embeddings
    wrong = ~torch.isfinite(rows).all(dim=1) | (rows == 0).all(dim=1)
    if rows.shape[0] == 0 or bool(wrong.any()):
        raise ValueError(
            f"{what} must have a finite embedding that is not zero for every class: {int(wrong.sum())} of "
            f"{rows.shape[0]} rows are not. Write it again."
        )
    names = table.class_names
    if names is not None and (len(names) != rows.shape[0] or len(set(names)) != len(names)):
        raise ValueError(
            f"{what} must name each of its {rows.shape[0]} classes once: got {list(names)}. Correct class_names."
        )
