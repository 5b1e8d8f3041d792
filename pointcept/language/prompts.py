"""Prompts about classes, and one embedding per class from those of its prompts."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_KINDS = ("photo", "painting", "rendering")
_PLACES = ("", " in a room", " in a living room", " in a bedroom", " in a kitchen", " in a bathroom")

INDOOR_TEMPLATES: tuple[str, ...] = tuple(f"a {kind} of a {{}}{place}." for kind in _KINDS for place in _PLACES)
"""Prompts for classes of rooms; ``{}`` stands for the name of the class."""

TextEncoder = Callable[[list[str]], Float[Tensor, "_N _D"]]
"""Gives one embedding per text."""


def class_embeddings(
    encode: TextEncoder, class_names: Sequence[str], templates: Sequence[str] = INDOOR_TEMPLATES
) -> Float[Tensor, "K D"]:
    """One embedding of length 1 per class: the mean over its prompts' embeddings (prompt ensembling of CLIP).

    Every prompt's embedding is normalised, so that each counts the same; the mean over the prompts *of one class* is
    normalised again.

    Args:
        encode: The text encoder; gets all prompts of one class at a time.
        class_names: The classes.
        templates: The prompts, with ``{}`` for the name.

    Raises:
        ValueError: there is no class or no template, or a template has no ``{}``.
    Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, arXiv 2103.00020,
        section 3.1.4.
    """
    if not class_names or not templates:
        raise ValueError(f"There must be classes and templates: got {len(class_names)} and {len(templates)}. Add some.")
    without = [template for template in templates if template.count("{}") != 1]
    if without:
        raise ValueError(
            f"A template must have one {{}} for the name of the class: {without[0]!r} has not. Correct it."
        )
    rows = []
    for name in class_names:
        embedded = F.normalize(encode([template.replace("{}", name) for template in templates]), dim=-1)
        rows.append(F.normalize(embedded.mean(dim=0), dim=-1))
    return torch.stack(rows)
