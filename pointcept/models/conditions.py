"""Weights of prompt-driven norms by the name of their data set, whatever the order in which a file lists the names."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pointcept.models.backbones.prompt_norm import CONDITIONS, PromptNorm
from pointcept.models.checkpoints import recorded_config
from pointcept.models.model_file import read_model_card

_logger = logging.getLogger("pointcept")

_KEYS = ("conditions", "pdnorm_conditions")
_EMBEDDING = "embedding_table.weight"


def match_conditions(
    model: nn.Module, weights: Mapping[str, Tensor], checkpoint: Mapping[str, Any], path: Path
) -> dict[str, Tensor]:
    """The weights with norms and context vectors in the order of the model's data sets.

    The file's order is that of the config it holds; where it holds none, the model's order is assumed and a warning
    says so. Data sets that the file does not have keep the model's initial values.

    Args:
        model: May have prompt-driven norms; others' weights are given back as they are.
        weights: Of the file, under the model's names.
        checkpoint: What the file holds besides.
        path: The file.

    Raises:
        ValueError: the file's config is unreadable.
    """
    result = dict(weights)
    for prefix, backbone in model.named_modules():
        conditions = getattr(backbone, "conditions", ())
        prefix = f"{prefix}." if prefix else ""
        lists = [
            f"{name}.{norm._name}."
            for name, norm in backbone.named_modules(prefix=prefix.rstrip("."))
            if isinstance(norm, PromptNorm) and norm.decouple
        ]
        if not conditions or not any(name == prefix + _EMBEDDING or name.startswith(tuple(lists)) for name in weights):
            continue
        written = _written_conditions(checkpoint, path)
        if written is None:
            if len(conditions) > 1:
                _logger.warning(
                    "%s does not say which data sets its norms belong to: taken for %s, in this order. Where it was "
                    "trained with others, give its conditions to the model.",
                    path,
                    ", ".join(conditions),
                )
            continue
        if tuple(written) != tuple(conditions):
            _logger.info("%s lists its data sets as %s: matched by name.", path, ", ".join(written))
            _reorder(result, backbone, prefix, lists, conditions, written)
    return result


def _reorder(
    weights: dict[str, Tensor],
    backbone: nn.Module,
    prefix: str,
    lists: Sequence[str],
    conditions: Sequence[str],
    written: Sequence[str],
) -> None:
    place = {name: index for index, name in enumerate(written)}
    table = weights.get(prefix + _EMBEDDING)
    if table is not None and table.shape[0] == len(written):
        own = backbone.embedding_table.weight.detach()
        rows = [table[place[name]].to(own) if name in place else own[i] for i, name in enumerate(conditions)]
        if table.shape[1] == own.shape[1]:
            weights[prefix + _EMBEDDING] = torch.stack(rows)
    for norms in lists:
        found = {name: weights.pop(name) for name in list(weights) if name.startswith(norms)}
        for index, condition in enumerate(conditions):
            source = f"{norms}{place[condition]}." if condition in place else None
            for name, weight in found.items():
                if source is not None and name.startswith(source):
                    weights[f"{norms}{index}.{name.removeprefix(source)}"] = weight


def _written_conditions(checkpoint: Mapping[str, Any], path: Path) -> Sequence[str] | None:
    card = read_model_card(path)
    config = recorded_config(checkpoint, path) if card is None else card.arguments
    return None if config is None else _find(config) or CONDITIONS


def _find(config: Any) -> Sequence[str] | None:
    """The first list of conditions in a config, the outermost first."""
    if isinstance(config, Mapping):
        for key in _KEYS:
            if isinstance(config.get(key), (list, tuple)):
                return tuple(config[key])
        return next((found for value in config.values() if (found := _find(value)) is not None), None)
    return None
