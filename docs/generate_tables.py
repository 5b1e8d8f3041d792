"""Writes the tables in the docs that follow from the code: run it after registering a class or adding a setting."""

import dataclasses
import inspect
import re
from pathlib import Path

from pointcept import registry
from pointcept.config import RunSettings
from pointcept.registry import Registry

COMPONENTS = Path(__file__).with_name("components.md")
CONFIGS = Path(__file__).with_name("configs.md")
BEGIN, END = "<!-- begin of the generated table -->\n", "<!-- end of the generated table -->\n"
INTRODUCTION = """# Components

Everything that `type` in a config can name. The arguments of each are those of its constructor, which Python's `help`
shows. This page is generated: `python -m docs.generate_tables` writes it anew after a class was registered or its
docstring changed.
"""
SECTIONS = {
    "Models and their parts": registry.MODELS,
    "Losses": registry.LOSSES,
    "Data sets": registry.DATASETS,
    "Transforms": registry.TRANSFORMS,
    "Hooks": registry.HOOKS,
    "Evaluators": registry.EVALUATORS,
    "Optimizers": registry.OPTIMIZERS,
    "Schedules": registry.SCHEDULERS,
    "Final evaluation": registry.TESTERS,
}


def components_page() -> str:
    """The page of all registered classes."""
    registry.load_builtins()
    registry.import_plugins(["ponder2d"])
    tables = (f"\n## {title}\n\n{component_table(names)}" for title, names in SECTIONS.items() if names.names())
    return INTRODUCTION + "".join(tables)


def component_table(names: Registry) -> str:
    """One row per class of the toolkit: name, aliases, first line of the docstring, module."""
    rows = []
    for name in names.names():
        target = names.get(name)
        if target.__name__ != name or not target.__module__.startswith(("pointcept.", "ponder2d.")):
            continue
        aliases = ", ".join(f"`{alias}`" for alias in names.names() if names.get(alias) is target and alias != name)
        summary = (inspect.getdoc(target) or "").partition("\n")[0]
        rows.append(f"| `{name}` | {aliases} | {_markdown(summary)} | `{target.__module__}` |\n")
    return "| name | aliases | what it is | in |\n|---|---|---|---|\n" + "".join(rows)


def configs_page(page: str) -> str:
    """The page on configs with its table of settings replaced by the current one."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{settings_table()}\n{END}{after}"


def settings_table() -> str:
    """One row per setting: name, default, meaning from the docstring of ``RunSettings``."""
    text = re.sub(r"\n {8,}", " ", inspect.getdoc(RunSettings))
    meanings = dict(re.findall(r"^ {4}(\w+): (.*)$", text, re.MULTILINE))
    rows = [
        f"| `{field.name}` | {_default(field)} | {_markdown(meanings[field.name])} |\n"
        for field in dataclasses.fields(RunSettings)
    ]
    return "| setting | default | meaning |\n|---|---|---|\n" + "".join(rows)


def _default(field: dataclasses.Field) -> str:
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    return "required" if default is dataclasses.MISSING else f"`{default!r}`"


def _markdown(text: str) -> str:
    return re.sub(r":\w+:(?=`)", "", text).replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    COMPONENTS.write_text(components_page(), encoding="utf-8")
    CONFIGS.write_text(configs_page(CONFIGS.read_text(encoding="utf-8")), encoding="utf-8")
