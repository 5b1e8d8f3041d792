"""The config language: Python files with ``_base_`` inheritance in, plain nested data out."""

import ast
import difflib
import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import addict


class Config(addict.Dict):
    """A nested dict whose keys are attributes too. Unlike addict's own, it has no keys that were never set."""

    def __missing__(self, key: Any) -> Any:
        raise KeyError(key)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"The config has no key {name!r} here: it has {', '.join(map(str, self))}.") from None

    def to_plain(self) -> dict[str, Any]:
        """The same data in ordinary dicts."""
        return plain(self)


def plain(value: Any) -> Any:
    """A copy of nested data in ordinary dicts, lists and tuples."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value)
    return value


def read_config_file(path: Path, *, keep_markers: bool = False) -> dict[str, Any]:
    """What a config file and the files it is based on say together.

    Args:
        path: a Python file. Its ``_base_`` (a string or a list, relative to the file) names the files to start from.
        keep_markers: Leave ``_delete_=True`` where it stands, for a result that is to be merged over another.

    Raises:
        FileNotFoundError: the file, or a file named in a ``_base_``, is missing.
        ValueError: two bases set the same key, files are based on each other, or a file uses ``import *``.
        TypeError: a value is not plain data, or a dict is merged over something else.
    """
    config = _read(path, parents=())
    return config if keep_markers else without_delete_markers(config)


def merge(base: dict[str, Any], child: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """``child`` over ``base``: dicts key by key, all else replaced whole, None too; neither input is changed.

    A dict with ``_delete_=True`` replaces the base's instead of being merged with it.

    Raises:
        TypeError: a dict would be merged over a value that is no dict.
    """
    merged = dict(base)
    for key, value in child.items():
        key_path = f"{path}.{key}" if path else str(key)
        if not isinstance(value, Mapping) or base.get(key) is None or value.get("_delete_", False):
            merged[key] = value
        elif isinstance(base[key], Mapping):
            merged[key] = merge(base[key], value, key_path)
        else:
            raise TypeError(
                f"A dict can only be merged over a dict: {key_path} is {base[key]!r} in the base. "
                "Add _delete_=True to replace it."
            )
    return merged


def _read(path: Path, parents: tuple[Path, ...]) -> dict[str, Any]:
    path = path.resolve()
    if path in parents:
        chain = " -> ".join(map(str, (*parents, path)))
        raise ValueError(f"Config files must not be based on each other: {chain}. Remove one _base_.")
    namespace = _execute(path)
    bases = namespace.pop("_base_", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not (isinstance(bases, list | tuple) and all(isinstance(base, str) for base in bases)):
        raise TypeError(f"_base_ must be a path or a list of paths: got {bases!r} in {path}. Write strings.")
    inherited: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for base in bases:
        base_path = path.parent / base
        if not base_path.is_file():
            raise FileNotFoundError(_missing_base(base, base_path, path))
        for key, value in _read(base_path, (*parents, path)).items():
            if key in inherited:
                raise ValueError(
                    f"Two files in _base_ must not set the same key: {key!r} is in {origin[key]} and in {base} "
                    f"(bases of {path}). Keep it in one of them."
                )
            inherited[key], origin[key] = value, base
    return merge(inherited, namespace)


def _execute(path: Path) -> dict[str, Any]:
    """The names a config file defines, without what it imports, defines as code or keeps private."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source, filename=str(path))
    imported = _imported_names(tree, path)
    namespace: dict[str, Any] = {"__file__": str(path), "__name__": "config"}
    exec(compile(tree, str(path), "exec"), namespace)
    code = types.ModuleType | types.FunctionType | type
    values = {
        name: value
        for name, value in namespace.items()
        if name == "_base_" or not (name.startswith("_") or name in imported or isinstance(value, code))
    }
    for name, value in values.items():
        check_plain(value, name, path)
    return values


def _imported_names(tree: ast.AST, path: Path) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
    if "*" in names:
        raise ValueError(f"A config file must import names one by one: {path} uses import *. Name what it needs.")
    return names


def check_plain(value: Any, where: str, path: Path) -> None:
    """Refuses values that are not plain data.

    Args:
        value: nested data.
        where: its key path, for messages.
        path: the config file, for messages.

    Raises:
        TypeError: something that is no finite number, string, bool, None, list, tuple or dict.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str | int):
                raise TypeError(
                    f"Keys in a config must be strings or ints: got {key!r} in {where} of {path}. Rename it."
                )
            check_plain(item, f"{where}.{key}", path)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            check_plain(item, f"{where}[{index}]", path)
    elif isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"Numbers in a config must be finite: {where} of {path} is {value}. Use None for no limit.")
    elif type(value) not in (bool, int, float, str, types.NoneType):
        raise TypeError(
            f"A config holds plain data (numbers, strings, None, lists, tuples, dicts): {where} of {path} is "
            f"{value!r} ({type(value).__name__}). Convert it, or begin the name with an underscore to keep it private."
        )


def without_delete_markers(value: Any) -> Any:
    """Nested data without the ``_delete_`` keys that tell :func:`merge` to replace."""
    if isinstance(value, Mapping):
        return {key: without_delete_markers(item) for key, item in value.items() if key != "_delete_"}
    if isinstance(value, list | tuple):
        return type(value)(without_delete_markers(item) for item in value)
    return value


def _missing_base(base: str, base_path: Path, path: Path) -> str:
    folder = base_path.resolve().parent
    names = sorted(file.name for file in folder.glob("*.py")) if folder.is_dir() else []
    close = difflib.get_close_matches(base_path.name, names, n=3)
    hint = f"Did you mean {' or '.join(close)}?" if close else "Paths in _base_ are relative to the file."
    return f"Every file in _base_ must exist: {path} names {base!r}, and {base_path.resolve()} is missing. {hint}"
