"""Packages import only what lies below them, and importing starts nothing."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Lowest first. A package may import packages of earlier rows; those of one row do not import each other.
LAYERS = (
    ("annotations", "utils"),
    ("registry",),
    ("config",),
    ("structures",),
    ("ops",),
    ("rendering",),
    ("datasets", "models"),
    ("evaluation",),
    ("visualization",),
    ("engines",),
    ("train", "test", "predict", "export", "doctor", "model_zoo", "language", "cache_features"),
)
LEVEL = {package: level for level, row in enumerate(LAYERS) for package in row}


def imported_modules(source: str) -> Iterator[str]:
    """Absolute names of everything a module imports, at its top or inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def violations(source: str, module: str) -> list[str]:
    """Imports of ``module`` that point upward or sideways."""
    package = module.split(".")[1]
    found = []
    for name in imported_modules(source):
        parts = name.split(".")
        if parts[0] == "ponder2d":
            found.append(f"{module} imports {name}")
        if parts[0] != "pointcept" or len(parts) < 2 or parts[1] == package or parts[1] not in LEVEL:
            continue
        if LEVEL[parts[1]] >= LEVEL[package]:
            found.append(f"{module} imports {name}")
    return found


def modules_of(package: str) -> list[tuple[str, Path]]:
    paths = sorted((ROOT / package).rglob("*.py"))
    return [(".".join(path.relative_to(ROOT).with_suffix("").parts), path) for path in paths]


def test_every_package_has_a_layer() -> None:
    packages = {module.split(".")[1] for module, _ in modules_of("pointcept")} - {"__init__"}
    assert packages <= set(LEVEL), f"add to LAYERS: {sorted(packages - set(LEVEL))}"


@pytest.mark.parametrize(("module", "path"), modules_of("pointcept"))
def test_imports_point_downward(module: str, path: Path) -> None:
    if module != "pointcept.__init__":
        assert violations(path.read_text(encoding="utf-8"), module) == []


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("from pointcept.engines.loop import Trainer", "pointcept.models.backbone"),
        ("import pointcept.models", "pointcept.datasets.rgbd"),
        ("from pointcept import models", "pointcept.datasets.rgbd"),
        ("def f():\n    from pointcept.rendering import fields", "pointcept.ops.trilinear"),
        ("from ponder2d import lifting", "pointcept.engines.loop"),
    ],
)
def test_an_upward_or_sideways_import_is_caught(source: str, module: str) -> None:
    assert len(violations(source, module)) == 1


def test_imports_along_the_layers_are_allowed() -> None:
    assert (
        violations("from pointcept.ops import trilinear\nfrom pointcept.models.a import b\n", "pointcept.models.c")
        == []
    )
