"""Names that configs may use for classes, and building objects from configs that were checked beforehand."""

import contextlib
import difflib
import importlib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from pointcept.annotations import describe, fitted, mismatch

_Target = TypeVar("_Target", bound=Callable[..., Any])

BUILTIN_MODULES = (
    "pointcept.datasets",
    "pointcept.datasets.transforms",
    "pointcept.models",
    "pointcept.rendering",
    "pointcept.evaluation",
    "pointcept.engines.hooks",
    "pointcept.engines.optim",
    "pointcept.engines.schedulers",
    "pointcept.engines.inference",
    "pointcept.engines.knn_probe",
    "pointcept.engines.tester",
)


class Registry:
    """The names under which one kind of class can be written in a config.

    A name means one thing in all registries together, so that a config needs no more than ``type="Name"``. Two
    registries of one kind are the same.

    Args:
        kind: what the registry holds, in the singular, for messages ("model", "hook").
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def register(self, *aliases: str) -> Callable[[_Target], _Target]:
        """Decorator that registers a class (or a factory function) under its own name and under ``aliases``.

        Executing the same definition again (a reloaded module, a notebook cell) replaces the earlier one.

        Raises:
            ValueError: one of the names already means something else, in this or another registry.
        """

        def decorate(target: _Target) -> _Target:
            for name in (target.__name__, *aliases):
                taken = _ENTRIES.get(name)
                if taken is not None and (taken.kind, _origin(taken.target)) != (self.kind, _origin(target)):
                    raise ValueError(
                        f"A registered name must be unique: {name!r} of {_origin(target)} is already the {taken.kind} "
                        f"{_origin(taken.target)}. Choose another name."
                    )
            _ENTRIES.update(dict.fromkeys((target.__name__, *aliases), _Entry(self.kind, target)))
            return target

        return decorate

    def names(self) -> list[str]:
        """All registered names and aliases, sorted."""
        return sorted(name for name, entry in _ENTRIES.items() if entry.kind == self.kind)

    def get(self, name: str) -> Callable[..., Any]:
        """The class registered as ``name``.

        Raises:
            ValueError: nothing of this kind has that name; the message lists the nearest ones.
        """
        entry = _ENTRIES.get(name)
        if entry is None or entry.kind != self.kind:
            found = repr(name) if entry is None else f"{name!r}, a {entry.kind}"
            raise ValueError(
                f"The name of a {self.kind} must be registered: got {found}. {near_matches(name, self.names())}"
            )
        return entry.target

    def __repr__(self) -> str:
        return f"Registry({self.kind!r})"


class _Entry(NamedTuple):
    kind: str
    target: Callable[..., Any]


_ENTRIES: dict[str, _Entry] = {}

MODELS = Registry("model")
LOSSES = Registry("loss")
DATASETS = Registry("dataset")
TRANSFORMS = Registry("transform")
HOOKS = Registry("hook")
EVALUATORS = Registry("evaluator")
OPTIMIZERS = Registry("optimizer")
SCHEDULERS = Registry("scheduler")
TESTERS = Registry("tester")


def near_matches(name: str, known: Iterable[str]) -> str:
    """A sentence with the known names that look most like ``name``, or with all of them where none does."""
    known = sorted(known)
    if not known:
        return "None is known."
    by_folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=3, cutoff=0.6)
    if close:
        return f"Did you mean {' or '.join(repr(by_folded[c]) for c in close)}?"
    shown = ", ".join(known[:40]) + (", ..." if len(known) > 40 else "")
    return f"Known: {shown}."


def load_builtins() -> None:
    """Imports the modules that register the toolkit's own classes. Cheap after the first call."""
    for module in BUILTIN_MODULES:
        importlib.import_module(module)


@contextlib.contextmanager
def temporary_names() -> Iterator[None]:
    """Forgets at the end of the block what was registered inside, for examples and experiments in one process."""
    load_builtins()
    kept = dict(_ENTRIES)
    try:
        yield
    finally:
        _ENTRIES.clear()
        _ENTRIES.update(kept)


def import_plugins(modules: Sequence[str]) -> None:
    """Imports the user's modules named in a config's ``imports``, so that they register their classes.

    Modules in the current directory are found as well as installed ones.

    Raises:
        ValueError: a module cannot be found, or is not given by name.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for module in modules:
        if not isinstance(module, str):
            raise ValueError(f"imports must be a list of module names: got {module!r} in it. Write strings.")
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            missing = error.name or module
            wanted = "it" if missing == module else f"{missing!r}, which it needs,"
            raise ValueError(
                f"Every module in imports must be importable: {module!r} is not, because {wanted} was not found. "
                f"Install it, or start from the folder that contains it (now {os.getcwd()})."
            ) from error


def validate(config: Any, path: str = "config", registry: Registry | None = None) -> None:
    """Checks a config, with everything nested in it, against the signatures it will be built with.

    Builds nothing. Wherever a dict has a ``type``, that name must be registered, the other keys must be parameters,
    required parameters must be there, and values must suit the annotations (numbers, strings, None, tuples, lists,
    ``Literal``, unions and the class that a nested config builds).

    Args:
        config: plain data, as read from a config file; it may contain objects that are already built.
        path: where the config stands, for messages ("data.train").
        registry: if given, ``config["type"]`` must be of its kind.

    Raises:
        ValueError: an unknown name, an unknown or missing key; the message has the path and the nearest match.
        TypeError: a value that does not suit its parameter; the message has path, expectation and value.
    """
    load_builtins()
    if registry is not None and not is_component(config):
        raise TypeError(
            f"{path} must be dict(type=<name of a {registry.kind}>, ...): got {describe(config)}. "
            f"{near_matches('', registry.names())}"
        )
    _validate(config, path, registry)


def build(config: Any, path: str = "config", registry: Registry | None = None) -> Any:
    """Builds the object a config describes, nested ones first, so that constructors receive objects.

    Lists, tuples and dicts without ``type`` are kept, with their contents built. The whole config is checked by
    :func:`validate` before the first constructor runs; an error inside a constructor is passed on as it is.

    Args:
        config: plain data, as read from a config file; it may contain objects that are already built.
        path: where the config stands, for messages.
        registry: if given, ``config["type"]`` must be of its kind.
    """
    validate(config, path, registry)
    return _build(config, path)


def is_component(config: Any) -> bool:
    """Whether this is a dict that describes an object to build."""
    return isinstance(config, Mapping) and "type" in config


def target_of(name: Any, path: str = "config", registry: Registry | None = None) -> Callable[..., Any]:
    """The class with that name in any registry; if none has it, the message lists names of ``registry``'s kind.

    Raises:
        ValueError: no registry has the name.
        TypeError: the name is no string.
    """
    if not isinstance(name, str):
        raise TypeError(f"{path}.type must be a registered name: got {describe(name)}. Write the name as a string.")
    if name not in _ENTRIES:
        known = _ENTRIES if registry is None else registry.names()
        raise ValueError(
            f"{path}.type must be a registered name: got {name!r}. {near_matches(name, known)} "
            "A class of your own is found after its module is listed in imports = [...]."
        )
    return _ENTRIES[name].target


def _validate(config: Any, path: str, registry: Registry | None = None) -> None:
    for _, value, child_path in _children(config, path):
        _validate(value, child_path)
    if not is_component(config):
        return
    target = target_of(config["type"], path, registry)
    found = _ENTRIES[config["type"]].kind
    if registry is not None and found != registry.kind:
        raise ValueError(
            f"{path}.type must name a {registry.kind}: got {config['type']!r}, a {found}. "
            f"{near_matches(config['type'], registry.names())}"
        )
    _validate_arguments(config, target, path)


def _validate_arguments(config: Mapping[str, Any], target: Callable[..., Any], path: str) -> None:
    parameters = parameters_of(target)
    name = config["type"]
    arguments = {key: value for key, value in config.items() if key != "type"}
    for key in arguments:
        if key not in parameters:
            raise ValueError(
                f"Keys of {path} must be parameters of {name}: got {key!r}. {near_matches(str(key), parameters)}"
            )
    missing = [p.name for p in parameters.values() if p.default is p.empty and p.name not in arguments]
    if missing:
        raise ValueError(
            f"{path} must give every required parameter of {name}: missing {', '.join(missing)}. Add to the config."
        )
    for key, value in arguments.items():
        problem = mismatch(value, parameters[key].annotation, target_of=_built_class)
        if problem is not None:
            raise TypeError(
                f"{path}.{key}{problem.where} must be {problem.expected}: got {problem.found}. Correct the config."
            )


def parameters_of(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters that a config may set, by name. ``*args`` and ``**kwargs`` are not among them."""
    try:
        signature = inspect.signature(target, eval_str=True)
    except NameError:
        signature = inspect.signature(target)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: parameter for name, parameter in signature.parameters.items() if parameter.kind in named}


def _build(config: Any, path: str) -> Any:
    built = [(key, _build(value, child_path)) for key, value, child_path in _children(config, path)]
    if isinstance(config, Mapping):
        arguments = dict(built)
        if not is_component(config):
            return arguments
        del arguments["type"]
        target = target_of(config["type"], path)
        parameters = parameters_of(target)
        arguments = {key: fitted(value, parameters[key].annotation) for key, value in arguments.items()}
        try:
            return target(**arguments)
        except Exception as error:
            _add_note(error, f"while building {path} ({config['type']})")
            raise
    if isinstance(config, list):
        return [value for _, value in built]
    if isinstance(config, tuple):
        return tuple(value for _, value in built)
    return config


def _children(config: Any, path: str) -> list[tuple[Any, Any, str]]:
    """(key, value, path) of everything directly inside a dict, list or tuple."""
    if isinstance(config, Mapping):
        return [(key, value, f"{path}.{key}") for key, value in config.items()]
    if isinstance(config, list | tuple):
        return [(index, value, f"{path}[{index}]") for index, value in enumerate(config)]
    return []


def _add_note(error: Exception, note: str) -> None:
    if hasattr(error, "add_note"):
        error.add_note(note)
    else:
        logging.getLogger("pointcept").error("%s: %s", note, error)


def _built_class(config: Mapping[str, Any]) -> Any:
    return target_of(config["type"])


def _origin(target: Callable[..., Any]) -> str:
    return f"{target.__module__}.{target.__qualname__}"
