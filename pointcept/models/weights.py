"""Matching the weights of a checkpoint to a model by name, loading what fits, and saying what does not."""

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor, nn

from pointcept.models.checkpoints import load_checkpoint, model_weights, some_of
from pointcept.models.conditions import match_conditions
from pointcept.models.hub import local_file

_logger = logging.getLogger("pointcept")

# Where several prefixes fit equally well, these go first: Sonata's checkpoints hold a student and a teacher.
_PREFERRED_PREFIXES = ("", "backbone.", "encoder.backbone.", "student.backbone.")
_COUNTER = "num_batches_tracked"


@dataclasses.dataclass(frozen=True)
class Match:
    """How the tensors of a file fit those of a model, by name.

    Attributes:
        matched: same name and shape.
        missing: in the model only.
        unexpected: in the file only.
        mismatched: the same name with different shapes.
        outside: names in the file that do not start with the prefix that the model's part has there.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]
    outside: tuple[str, ...] = ()

    @property
    def is_exact(self) -> bool:
        """Whether every tensor has its counterpart; what lies outside the prefix does not count."""
        return not (self.missing or self.unexpected or self.mismatched)

    @property
    def is_empty(self) -> bool:
        """Whether nothing that was learned fits."""
        return all(name.endswith(_COUNTER) for name in self.matched)

    def describe(self) -> str:
        """The names that do not fit, in one line."""
        parts = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": self.mismatched}
        listed = (f"{len(names)} {what} ({some_of(names)})" for what, names in parts.items() if names)
        return f"{len(self.matched)} matched" + "".join(f", {part}" for part in listed)


@dataclasses.dataclass(frozen=True)
class Alignment:
    """Which names of a file stand for which of a model.

    Attributes:
        file_prefix: what the file puts before the names.
        model_prefix: what the model puts before the same names: empty, or the path of the backbone inside it.
    """

    file_prefix: str
    model_prefix: str

    def rename(self, weights: Mapping[str, Tensor], names: Iterable[str]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """The weights under the model's names, and the names in the file that lie elsewhere.

        What ``names`` of the model lack below the prefix is taken from beside it: Pointcept keeps the context vectors
        of prompt-driven norms outside the backbone.
        """
        renamed = {name: self._source(name, weights) for name in names}
        taken = {source for source in renamed.values() if source is not None}
        inside = {name: weights[source] for name, source in renamed.items() if source is not None}
        rest = [name for name in weights if name not in taken]
        below = [name for name in rest if name.startswith(self.file_prefix)]
        inside |= {self.model_prefix + name.removeprefix(self.file_prefix): weights[name] for name in below}
        return inside, tuple(name for name in rest if not name.startswith(self.file_prefix))

    def _source(self, name: str, weights: Mapping[str, Tensor]) -> str | None:
        if not name.startswith(self.model_prefix):
            return None
        name = name.removeprefix(self.model_prefix)
        beside = "".join(f"{part}." for part in self.file_prefix.split(".")[:-2])
        outside = "".join(name.rpartition("backbone.")[::2])  # the same where the file is of the whole model
        sources = (self.file_prefix + name, beside + name, self.file_prefix + outside)
        return next((source for source in sources if source in weights), None)


def match_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> Match:
    """Compares weights from a file with those of a model, as they are named."""
    expected = model.state_dict()
    shared = [name for name in expected if name in weights]
    return Match(
        matched=tuple(name for name in shared if weights[name].shape == expected[name].shape),
        missing=tuple(name for name in expected if name not in weights),
        unexpected=tuple(name for name in weights if name not in expected),
        mismatched=tuple(name for name in shared if weights[name].shape != expected[name].shape),
    )


def find_alignment(model: nn.Module, weights: Mapping[str, Tensor]) -> Alignment:
    """The prefixes under which most tensors of a file fit the model, or a backbone inside the model.

    A prefix is whatever stands before the names of the whole model, or of a submodule called ``backbone``:
    ``backbone.``, ``student.backbone.``, ``encoder.backbone.`` or any other. Names as they are win a tie.
    """
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    backbones = (f"{name}." for name, _ in model.named_modules() if name.rpartition(".")[2] == "backbone")
    fitting, shared = Counter[Alignment](), Counter[Alignment]()
    for model_prefix in ("", *backbones):
        for name, weight in weights.items():
            for start in _starts_of_suffixes(name):
                shape = shapes.get(model_prefix + name[start:])
                if shape is not None:
                    alignment = Alignment(name[:start], model_prefix)
                    shared[alignment] += 1
                    fitting[alignment] += shape == weight.shape and not name.endswith(_COUNTER)

    def preference(alignment: Alignment) -> tuple:
        rank = {prefix: -index for index, prefix in enumerate(_PREFERRED_PREFIXES)}
        named = rank.get(alignment.file_prefix, -len(rank))
        return fitting[alignment], shared[alignment], not alignment.model_prefix, named

    return max([Alignment("", ""), *shared], key=preference)


def load_weights(
    model: nn.Module,
    source: str | Path,
    *,
    keywords: str = "",
    replacement: str | None = None,
    strict: bool = False,
    reset_head: bool = False,
) -> Match:
    """Initialises a model from the weights in a file and says by name what did not fit.

    Prefixes of names are found by :func:`find_alignment`, unless ``replacement`` says how to map them.

    Args:
        model: changed in place.
        source: ``.pth`` with the weights alone, or under ``state_dict`` or ``model``, or ``.safetensors``; on the disk
            or on the Hugging Face Hub, as :func:`pointcept.models.hub.local_file` describes.
        keywords: part of a name; where it occurs, its first occurrence becomes ``replacement``. As in Pointcept, names
            may be thought of with ``module.`` in front.
        replacement: None leaves names as they are, but for their prefix.
        strict: every tensor of the model must be there, and nothing else under the same prefix.
        reset_head: leave out the weights that depend on the number of classes, which the model names in
            ``head_prefixes``, so that they keep their initial values.

    Returns:
        What was loaded and what was not.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is unreadable, nothing in it fits, or, with ``strict``, something does not; or it has
            another number of classes and ``reset_head`` is False.
    """
    path = local_file(source)
    checkpoint = load_checkpoint(path)
    weights = model_weights(checkpoint, path)
    alignment, outside = Alignment("", ""), ()
    if replacement is not None:
        weights = _renamed(weights, keywords, replacement)
    else:
        alignment = find_alignment(model, weights)
        weights, outside = alignment.rename(weights, model.state_dict())
    weights = match_conditions(model, weights, checkpoint, path)
    head_prefixes = getattr(model, "head_prefixes", ())
    if reset_head:
        weights = {name: weight for name, weight in weights.items() if not name.startswith(head_prefixes)}
    match = dataclasses.replace(match_weights(model, weights), outside=outside)
    expected = model.state_dict()
    reshaped = tuple(
        f"{name} ({tuple(weights[name].shape)} in the file, {tuple(expected[name].shape)} in the model)"
        for name in match.mismatched
    )
    if match.is_empty:
        shapes = f"Of another shape: {some_of(reshaped)}. " if reshaped else ""
        raise ValueError(
            f"A checkpoint must fit the model: nothing in {path} does. {shapes}Its names: {some_of(tuple(weights))}; "
            f"the model's: {some_of(tuple(expected))}. Check weight, or map the names with keywords and replacement."
        )
    other_classes = [text for text in reshaped if head_prefixes and text.startswith(head_prefixes)]
    if other_classes:
        raise ValueError(
            f"A checkpoint must have the model's classes: in {path} is {some_of(other_classes)}. Correct num_classes, "
            "or start with a new head: dict(type='CheckpointLoader', reset_head=True)."
        )
    if strict and not match.is_exact:
        raise ValueError(f"{path} must fit the model exactly: {match.describe()}. Check weight, or set strict=False.")
    model.load_state_dict({name: weights[name] for name in match.matched}, strict=False)
    _report(path, match, alignment, reshaped, len(expected))
    return match


def _report(path: Path, match: Match, alignment: Alignment, reshaped: tuple[str, ...], num_expected: int) -> None:
    _logger.info("Loaded weights from %s: %d of %d matched.", path, len(match.matched), num_expected)
    if alignment != Alignment("", ""):
        part = f"the model's {alignment.model_prefix}*" if alignment.model_prefix else "the model"
        _logger.info("%s* of the file was taken for %s.", alignment.file_prefix, part)
    if match.outside:
        counts = Counter(name.split(".")[0] for name in match.outside)
        groups = ", ".join(f"{group} ({count})" for group, count in counts.items())
        _logger.info("%d weights of the file lie elsewhere and are ignored: %s", len(match.outside), groups)
    for names, meaning in (
        (match.missing, "of the model are not in the file and keep their initial values"),
        (match.unexpected, "of the file are not in the model and are ignored"),
        (reshaped, "have another shape in the file and keep their initial values"),
    ):
        if names:
            _logger.warning("%d weights %s: %s", len(names), meaning, ", ".join(names))


def _starts_of_suffixes(name: str) -> list[int]:
    """Where the parts of a dotted name begin."""
    return [0, *(index + 1 for index, character in enumerate(name) if character == ".")]


def _renamed(weights: dict[str, Tensor], keywords: str, replacement: str) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, weight in weights.items():
        full_name = f"module.{name}".replace(keywords, replacement, 1) if keywords else f"{replacement}{name}"
        renamed[full_name.removeprefix("module.")] = weight
    return renamed
