"""Overrides of single config values, as given on the command line (``model.backbone.in_channels=6``)."""

import ast
from collections.abc import Iterable
from typing import Any

from pointcept.registry import is_component, near_matches

_WORDS = {"true": True, "false": False, "none": None}


def apply_overrides(config: dict[str, Any], options: Iterable[str], top_level: Iterable[str]) -> dict[str, Any]:
    """A copy of the config with ``options`` applied in order.

    Dots descend into dicts, and an integer picks an element of a list or tuple. Values are Python literals (``None``,
    ``0.1``, ``(1, 2)``, ``"text"``); ``true``, ``false`` and ``none`` are understood in any case; the rest is text.

    Args:
        config: plain nested data.
        options: "key.path=value" strings.
        top_level: keys that may be added at the top level. Below it a key may be added to a dict with ``type``
            (whose parameters are checked later); elsewhere it has to exist.

    Raises:
        ValueError: an option without ``=``, a key path that leads nowhere, or a value that is half a literal.
    """
    for option in options:
        key_path, equals, text = option.partition("=")
        if not equals or not key_path.strip():
            raise ValueError(f"An option must have the form key.path=value: got {option!r}. Put no blanks around '='.")
        keys = key_path.strip().split(".")
        config = _replaced(config, keys, parse_value(text, option), option, "", frozenset(top_level))
    return config


def parse_value(text: str, option: str = "") -> Any:
    """The value that the right-hand side of an option stands for."""
    text = text.strip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        if text[:1] in ("[", "(", "{", "'", '"') or text.startswith("dict("):
            raise ValueError(
                f"The value of an option must be a Python literal or plain text: got {text!r} in {option or text!r}. "
                "Quote strings inside brackets, write {'key': value} for dicts, and protect all from the shell."
            ) from error
        return text


def _replaced(node: Any, keys: list[str], value: Any, option: str, path: str, addable: frozenset[str]) -> Any:
    """A copy of ``node`` with the value at ``keys`` replaced; ``path`` is where ``node`` stands."""
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    here = path or "the config"
    if isinstance(node, dict):
        may_add = not rest and (key in addable or is_component(node))
        if key not in node and not may_add:
            known = {*map(str, node), *addable}
            raise ValueError(
                f"Option {option!r} must name an existing key: {here} has no {key!r}. {near_matches(key, known)}"
            )
        child = _replaced(node.get(key), rest, value, option, f"{path}.{key}" if path else key, frozenset())
        return {**node, key: child}
    if isinstance(node, list | tuple):
        position = _position(key, len(node), option, here)
        child = _replaced(node[position], rest, value, option, f"{path}[{position}]", frozenset())
        return type(node)(child if index == position else item for index, item in enumerate(node))
    raise ValueError(
        f"Option {option!r} must lead through dicts and lists: {here} is {node!r}, so it has no {key!r}. "
        f"Set {here} as a whole."
    )


def _position(key: str, length: int, option: str, here: str) -> int:
    try:
        position = int(key)
    except ValueError:
        position = length
    if not -length <= position < length:
        raise ValueError(
            f"Option {option!r} must pick one of the {length} elements of {here}: got {key!r}. "
            f"Use an integer from 0 to {length - 1}."
        )
    return position % length
