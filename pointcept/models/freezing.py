"""Keeping a part of a model exactly as it is while the rest trains."""

import types
from collections.abc import Sequence

from torch import nn


def freeze(module: nn.Module) -> None:
    """Fixes parameters, batch norm statistics and everything random of a module, such as drop path.

    The module is set to evaluation mode and stays there when the model around it is set to training. Give the
    optimizer only parameters with ``requires_grad``, as weight decay would change others.

    Args:
        module: for example a pre-trained backbone under a new head; changed in place.
    """
    module.requires_grad_(False)
    module.eval()
    module.train = types.MethodType(_stay_in_evaluation, module)


def freeze_parts(module: nn.Module, names: Sequence[str]) -> None:
    """Applies :func:`freeze` to some of a module's children; the others train.

    Raises:
        ValueError: there are no names, or the module lacks one.
    """
    children = dict(module.named_children())
    absent = [name for name in names if name not in children]
    if absent or not names:
        raise ValueError(
            f"The parts to freeze must be children of {type(module).__name__}: got {list(names)}, it has "
            f"{list(children)}. Set encoder_parts in the backbone's class, or freeze all of it."
        )
    for name in names:
        freeze(children[name])


def unfreeze(module: nn.Module) -> None:
    """Undoes :func:`freeze`: all parameters are trained again, from the next ``train()`` on."""
    module.__dict__.pop("train", None)
    module.requires_grad_(True)


def is_frozen(module: nn.Module) -> bool:
    """Whether :func:`freeze` was applied to this module itself."""
    return "train" in module.__dict__


def _stay_in_evaluation(module: nn.Module, mode: bool = True) -> nn.Module:
    """In place of ``train``, also when ``eval`` calls it."""
    return module
