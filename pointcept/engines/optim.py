"""Optimizers by name, and the groups of parameters that they treat differently."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from pointcept.registry import OPTIMIZERS, near_matches

_logger = logging.getLogger("pointcept")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """The settings of an optimizer, before it knows the parameters.

    Attributes:
        lr: learning rate of every group that sets none of its own.
        weight_decay: likewise.
    """

    lr: float
    weight_decay: float = 0.0

    def create(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimizer over these groups."""
        optimizer_class = getattr(torch.optim, type(self).__name__)
        settings = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        # The fused kernels keep a skipped float16 update on the device; elsewhere torch chooses.
        on_cuda = all(parameter.is_cuda for group in groups for _, parameter in group["params"])
        return optimizer_class(groups, **settings, fused=True if on_cuda else None)


@OPTIMIZERS.register()
@dataclasses.dataclass(frozen=True, kw_only=True)
class SGD(OptimizerSettings):
    """Stochastic gradient descent; see ``torch.optim.SGD``."""

    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False


@OPTIMIZERS.register()
@dataclasses.dataclass(frozen=True, kw_only=True)
class Adam(OptimizerSettings):
    """Adam; see ``torch.optim.Adam``."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    amsgrad: bool = False


@OPTIMIZERS.register()
@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(OptimizerSettings):
    """Adam with decoupled weight decay; see ``torch.optim.AdamW``."""

    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    amsgrad: bool = False


def build_optimizer(
    model: nn.Module, settings: OptimizerSettings, param_dicts: Sequence[Mapping[str, Any]] | None = None
) -> torch.optim.Optimizer:
    """An optimizer over the trainable parameters of a model.

    Args:
        model: frozen parameters are left out.
        settings: the optimizer by name, as built from ``dict(type="AdamW", ...)``.
        param_dicts: one dict per further group: ``keyword``, and ``lr``, ``lr_scale`` (times the optimizer's ``lr``)
            or any other setting of the optimizer. A parameter belongs to the first keyword that its name contains,
            and to group 0 if there is none.

    Raises:
        ValueError: nothing is trainable, an unknown key, or a keyword without parameters.
    """
    groups = parameter_groups(model, settings, param_dicts or [])
    for number, group in enumerate(groups):
        names = [name for name, _ in group["params"]]
        shown = {key: value for key, value in group.items() if key not in ("params", "param_names", "initial_lr")}
        count = sum(parameter.numel() for _, parameter in group["params"])
        _logger.info("Parameter group %d: %s, %d tensors, %d values.", number, shown, len(names), count)
        _logger.debug("Parameter group %d: %s", number, ", ".join(names))
    return settings.create(groups)


def parameter_groups(
    model: nn.Module, settings: OptimizerSettings, param_dicts: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The groups of :func:`build_optimizer`: group 0, then one per entry of ``param_dicts``.

    ``params`` of each holds ``(name, parameter)`` pairs; ``initial_lr`` is what schedules start from.
    """
    groups = [{"params": [], "lr": settings.lr}, *(_group(entry, settings, i) for i, entry in enumerate(param_dicts))]
    keywords = [entry["keyword"] for entry in param_dicts]
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    if not trainable:
        raise ValueError("A model must have trainable parameters: got none. Unfreeze some.")
    for name, parameter in trainable:
        number = next((i for i, keyword in enumerate(keywords, start=1) if keyword in name), 0)
        groups[number]["params"].append((name, parameter))
    for keyword, group in zip(keywords, groups[1:]):
        if not group["params"]:
            parts = {part for name, _ in trainable for part in _parts(name)}
            raise ValueError(
                f"A keyword of param_dicts must occur in the name of a trainable parameter that no earlier keyword "
                f"took: {keyword!r} does not. {near_matches(keyword, parts)}"
            )
    if not groups[0]["params"]:
        groups[0]["param_names"] = []  # torch derives the names from the parameters, and needs them in every group
    return [{**group, "initial_lr": group["lr"]} for group in groups]


def _group(entry: Mapping[str, Any], settings: OptimizerSettings, index: int) -> dict[str, Any]:
    known = {field.name for field in dataclasses.fields(settings)}
    for key in entry:
        if key not in known | {"keyword", "lr_scale"}:
            raise ValueError(
                f"Keys of param_dicts[{index}] must be keyword, lr_scale or settings of {type(settings).__name__}: got "
                f"{key!r}. {near_matches(key, known | {'keyword', 'lr_scale'})}"
            )
    if not entry.get("keyword"):
        raise ValueError(f"param_dicts[{index}] must name its parameters: keyword is missing or empty. Add keyword=...")
    if "lr" in entry and "lr_scale" in entry:
        raise ValueError(f"param_dicts[{index}] must have lr or lr_scale: got both. Leave one out.")
    group = {key: value for key, value in entry.items() if key not in ("keyword", "lr_scale")}
    group.setdefault("lr", settings.lr * entry.get("lr_scale", 1.0))
    return {"params": [], **group}


def _parts(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
