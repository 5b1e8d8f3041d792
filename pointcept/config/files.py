"""Finding config files by path or by name, and loading them."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pointcept.config.language import Config, merge, read_config_file, without_delete_markers
from pointcept.config.overrides import apply_overrides, parse_value
from pointcept.config.settings import TOP_LEVEL_KEYS, check_top_level, with_defaults


def load_config(path_or_name: str | Path, options: Iterable[str] = ()) -> Config:
    """Reads a config with its bases, applies overrides and fills in the defaults of a run.

    Nothing that the config names is imported or built: see :func:`pointcept.config.validate_config` for that.

    Args:
        path_or_name: a path, or a name under ``configs/`` such as ``"demo/pretrain-ponder-spunet"``.
        options: overrides such as ``"data.train.loop=2"``, applied in order. ``"recipe=ponderv2"``, or ``recipe`` in
            the config, lays ``_base_/recipes/ponderv2.py`` over the config first, so that other overrides win.

    Raises:
        FileNotFoundError: no such file; the message lists the nearest names.
        ValueError: an unknown top-level key, recipe or override.
        TypeError: a value that is not plain data.
    """
    path = find_config(path_or_name)
    config = read_config_file(path)
    options = list(options)
    recipes = [option for option in options if option.partition("=")[0].strip() == "recipe"]
    recipe = parse_value(recipes[-1].partition("=")[2]) if recipes else config.get("recipe")
    config = _with_recipe(config, recipe)
    options = [option for option in options if option not in recipes]
    check_top_level(config, str(path))
    return Config(apply_overrides(with_defaults(config), options, TOP_LEVEL_KEYS))


def _with_recipe(config: dict[str, Any], name: str | None) -> dict[str, Any]:
    """The config under a recipe; it no longer names it, so that what was laid over it is not laid again."""
    config = {key: value for key, value in config.items() if key != "recipe"}
    if name is None:
        return config
    recipes = {file.stem: file for folder in reversed(config_folders()) for file in folder.glob("_base_/recipes/*.py")}
    if name not in recipes:
        raise ValueError(
            f"recipe must be one of {', '.join(map(repr, sorted(recipes)))}: got {name!r}. Leave it out for the "
            "config as it is."
        )
    return without_delete_markers(merge(config, read_config_file(recipes[name], keep_markers=True)))


def find_config(path_or_name: str | Path) -> Path:
    """The file that a path, or a name under one of the ``configs/`` folders, stands for.

    Raises:
        FileNotFoundError: nothing fits; the message lists the nearest names.
    """
    name = str(path_or_name)
    candidates = [Path(name), Path(f"{name}.py")]
    for folder in config_folders():
        candidates += [folder / name, folder / f"{name}.py"]
    for candidate in candidates:
        if candidate.is_file() and candidate.suffix == ".py":
            return candidate
    folders = ", ".join(map(str, config_folders())) or "no configs folder was found"
    raise FileNotFoundError(
        f"A config must be a Python file or a name under configs/: got {name!r} (looked in {Path.cwd()} and "
        f"{folders}). {_nearest(name)}"
    )


def config_names() -> list[str]:
    """Names of all configs that can be loaded by name, bases excluded."""
    names = set()
    for folder in config_folders():
        files = (file.relative_to(folder).with_suffix("") for file in folder.rglob("*.py"))
        names.update(file.as_posix() for file in files if not any(part.startswith("_") for part in file.parts))
    return sorted(names)


def config_folders() -> list[Path]:
    """The ``configs`` folders of the current directory and of the repository, as far as they exist."""
    folders = [Path.cwd() / "configs", Path(__file__).resolve().parents[2] / "configs"]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def _nearest(name: str) -> str:
    names = config_names()
    wanted = name.removesuffix(".py").removeprefix("configs/")
    same_stem = [known for known in names if known.rsplit("/", 1)[-1] == wanted.rsplit("/", 1)[-1]]
    close = same_stem or difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    if not close:
        stems = {known.rsplit("/", 1)[-1]: known for known in names}
        close = [stems[stem] for stem in difflib.get_close_matches(wanted.rsplit("/", 1)[-1], stems, n=3, cutoff=0.5)]
    if close:
        return f"Did you mean {' or '.join(close[:3])}?"
    return (
        f"Known: {', '.join(names[:40])}{', ...' if len(names) > 40 else ''}." if names else "There are no configs yet."
    )
