"""Writing a config as a Python file that a person can read and that loads back equal."""

import keyword
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pointcept.config.language import check_plain, plain
from pointcept.utils.files import write_text


def dump_config(config: Mapping[str, Any], path: Path) -> None:
    """Writes a config as a Python file that reads back equal.

    Args:
        config: plain nested data.
        path: the file; its folder must exist.

    Raises:
        TypeError: a value is not plain data.
    """
    data = plain(config)
    check_plain(data, "config", Path(path))
    write_text(path, "".join(f"{key} = {_formatted(value)}\n" for key, value in data.items()))


def _formatted(value: Any, indent: str = "") -> str:
    """Python source of a value: on one line where it is short, else one item per line."""
    if not isinstance(value, dict | list | tuple) or len(repr(value)) + len(indent) <= 80:
        return _inline(value)
    deeper = indent + "    "
    if isinstance(value, dict):
        if not _are_keywords(value):
            items = [f"{key!r}: {_formatted(item, deeper)}" for key, item in value.items()]
            opening, closing = "{", "}"
        else:
            items = [f"{key}={_formatted(item, deeper)}" for key, item in value.items()]
            opening, closing = "dict(", ")"
    else:
        items = [_formatted(item, deeper) for item in value]
        opening, closing = ("[", "]") if isinstance(value, list) else ("(", ")")
    return opening + "".join(f"\n{deeper}{item}," for item in items) + f"\n{indent}{closing}"


def _inline(value: Any) -> str:
    if isinstance(value, dict) and _are_keywords(value):
        return f"dict({', '.join(f'{key}={_inline(item)}' for key, item in value.items())})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(_inline, value))}{',' if len(value) == 1 else ''})"
    return repr(value)


def _are_keywords(value: dict) -> bool:
    return all(isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key) for key in value)
