"""Whether a value from a config suits the annotation of the parameter it is meant for."""

import collections.abc
import inspect
import os
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Mismatch(NamedTuple):
    """What is wrong with a value.

    Attributes:
        where: position inside the value ("[2]"), empty for the value itself.
        expected: the annotation in words.
        found: the offending value in words.
    """

    where: str
    expected: str
    found: str


def mismatch(value: Any, annotation: Any, target_of: Callable[[Mapping[str, Any]], Any]) -> Mismatch | None:
    """What keeps ``value`` from being passed to a parameter with this annotation; None if nothing does.

    Only annotations that say something about plain data are checked; others accept everything. As in calls, an int
    suits ``float``; unlike in calls, a list suits a tuple (config files may use either) and a bool is no int.

    Args:
        value: plain data, a config dict with ``type`` that will be built, or an object.
        annotation: a resolved annotation, or a string that could not be resolved (accepted).
        target_of: the class or factory function that a config dict with ``type`` will be built with.
    """
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if annotation is Any or annotation is inspect.Parameter.empty or isinstance(annotation, str | typing.TypeVar):
        return None
    if origin is typing.Annotated:
        return mismatch(value, arguments[0], target_of)
    if origin is typing.Union or origin is types.UnionType:
        return _mismatch_union(value, annotation, arguments, target_of)
    if origin is typing.Literal:
        same = any(value == choice and type(value) is type(choice) for choice in arguments)
        return None if same else _whole(value, annotation)
    if annotation is None or annotation is types.NoneType:
        return None if value is None else _whole(value, annotation)
    if isinstance(origin, type):
        return _mismatch_container(value, annotation, origin, target_of)
    if isinstance(annotation, type):
        return None if _is_instance(value, annotation, target_of) else _whole(value, annotation)
    return None


def fitted(value: Any, annotation: Any) -> Any:
    """The value as the annotation wants it: an int for ``float`` as a float, a list for a tuple as a tuple.

    Args:
        value: something that :func:`mismatch` accepts, after nested configs were built.
        annotation: a resolved annotation.
    """
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is typing.Annotated:
        return fitted(value, arguments[0])
    if annotation is float and type(value) is int:
        return float(value)
    if origin is typing.Union or origin is types.UnionType:
        options = [option for option in arguments if mismatch(value, option, target_of=type) is None]
        return fitted(value, options[0]) if options else value
    if isinstance(value, dict) and len(arguments) == 2:
        return {key: fitted(item, arguments[1]) for key, item in value.items()}
    if isinstance(value, list | tuple):
        expected = origin or annotation
        container = expected if expected in (list, tuple) else type(value)
        return container(fitted(item, element) for item, element in zip(value, _element_annotations(value, annotation)))
    return value


def describe(value: Any) -> str:
    """A value in a message: what it is, and of which type."""
    if isinstance(value, Mapping) and "type" in value:
        return f"a config of type {value['type']!r}"
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def describe_annotation(annotation: Any) -> str:
    """An annotation in a message: ``int or None``, ``tuple of 3``, ``one of 'a', 'b'``."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is None or annotation is types.NoneType:
        return "None"
    if origin is typing.Union or origin is types.UnionType:
        return " or ".join(describe_annotation(argument) for argument in arguments)
    if origin is typing.Literal:
        choices = ", ".join(repr(choice) for choice in arguments)
        return choices if len(arguments) == 1 else f"one of {choices}"
    if isinstance(annotation, type) and origin is None:
        return annotation.__name__
    return str(annotation).replace("typing.", "").replace("collections.abc.", "")


def _whole(value: Any, annotation: Any) -> Mismatch:
    return Mismatch("", describe_annotation(annotation), describe(value))


def _mismatch_union(value: Any, annotation: Any, options: tuple, target_of: Callable) -> Mismatch | None:
    problems = [mismatch(value, option, target_of) for option in options]
    if None in problems:
        return None
    nested = [problem for problem in problems if problem.where]
    return nested[0] if len(nested) == 1 else _whole(value, annotation)


def _mismatch_container(value: Any, annotation: Any, origin: type, target_of: Callable) -> Mismatch | None:
    if origin is collections.abc.Callable or origin is type:
        plain = isinstance(value, bool | int | float | str | list | tuple | None)
        return _whole(value, annotation) if plain else None
    if issubclass(origin, collections.abc.Mapping):
        if isinstance(value, Mapping) and "type" not in value:
            return _mismatch_values(value, annotation, target_of)
        return None if _is_instance(value, origin, target_of) else _whole(value, annotation)
    if isinstance(value, list | tuple) and (origin is tuple or issubclass(list, origin)):
        return _mismatch_elements(value, annotation, target_of)
    if isinstance(value, str):
        return _whole(value, annotation)
    return None if _is_instance(value, origin, target_of) else _whole(value, annotation)


def _mismatch_elements(value: list | tuple, annotation: Any, target_of: Callable) -> Mismatch | None:
    expected = _element_annotations(value, annotation)
    if len(value) != len(expected):
        return _whole(value, annotation)
    for index, (element, element_annotation) in enumerate(zip(value, expected)):
        problem = mismatch(element, element_annotation, target_of)
        if problem is not None:
            return problem._replace(where=f"[{index}]{problem.where}")
    return None


def _mismatch_values(value: Mapping[Any, Any], annotation: Any, target_of: Callable) -> Mismatch | None:
    arguments = typing.get_args(annotation)
    for key, item in value.items():
        problem = mismatch(item, arguments[1], target_of)
        if problem is not None:
            return problem._replace(where=f".{key}{problem.where}")
    return None


def _element_annotations(value: list | tuple, annotation: Any) -> tuple:
    """One annotation per element; for a tuple of fixed length as many as it must have."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
        return arguments
    return (arguments[0] if arguments else Any,) * len(value)


def _is_instance(value: Any, expected: type, target_of: Callable) -> bool:
    """``isinstance`` for what the value will be when the constructor receives it."""
    if isinstance(value, Mapping) and "type" in value:
        target = target_of(value)
        return not isinstance(target, type) or _is_subclass(target, expected)
    if expected is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if expected is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if expected in (tuple, list):
        return isinstance(value, list | tuple)
    if issubclass(expected, os.PathLike) and isinstance(value, str):
        return True
    try:
        return isinstance(value, expected)
    except TypeError:
        return True


def _is_subclass(target: type, expected: type) -> bool:
    if getattr(expected, "_is_protocol", False):
        return True
    try:
        return issubclass(target, expected)
    except TypeError:
        return True
