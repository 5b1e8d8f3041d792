"""Creating models by name, with the weights of a checkpoint."""

import fnmatch
from pathlib import Path
from typing import Any

from pointcept.registry import MODELS, build, load_builtins


def create_model(name: str | None = None, /, pretrained: str | Path | None = None, **overrides: Any) -> Any:
    """Builds a model by its registered name and initialises it.

    Args:
        name: as in a config's ``type``. May be left out where ``pretrained`` is a file that says which model it holds:
            one written by ``python -m pointcept.export``.
        pretrained: a checkpoint of this toolkit or of Pointcept, PonderV2 or Sonata, as a path or a Hugging Face Hub
            id (``owner/name`` or ``hf://owner/name/file``). What fits is loaded, and what does not is logged by name;
            :func:`pointcept.models.weights.load_weights` does the same strictly.
        overrides: arguments of the model, configs of objects among them, checked like those of a config. Where
            ``pretrained`` says how the model of that name was built, they go over those arguments.

    Raises:
        ValueError: an unknown name or argument (the message has the nearest ones), neither a name nor a file that says
            one, or a checkpoint in which nothing fits the model.
        FileNotFoundError: there is no such checkpoint.
    """
    if pretrained is None:
        if name is None:
            raise ValueError("create_model needs a name or pretrained: got neither. list_models() has the names.")
        return build({"type": name, **overrides}, f"create_model({name!r})", MODELS)

    from pointcept.models.hub import local_file  # needs torch, for which a mere import of the package should not wait
    from pointcept.models.model_file import read_model_card
    from pointcept.models.weights import load_weights

    load_builtins()
    path = local_file(pretrained)
    card = read_model_card(path)
    arguments: dict[str, Any] = {}
    if name is None:
        if card is None:
            raise ValueError(
                f"create_model needs a name for a file that does not say which model it holds: got {pretrained!s}. "
                "Give the name and the arguments the model was built with."
            )
        name = card.name
    if card is not None and card.name in MODELS.names() and MODELS.get(name) is MODELS.get(card.name):
        arguments = dict(card.arguments)
    model = build({"type": name, **arguments, **overrides}, f"create_model({name!r})", MODELS)
    load_weights(model, path)
    return model


def list_models(pattern: str = "*") -> list[str]:
    """Names that :func:`create_model` knows, sorted; ``pattern`` is a shell-style wildcard, in any case."""
    load_builtins()
    return [name for name in MODELS.names() if fnmatch.fnmatchcase(name.casefold(), pattern.casefold())]
