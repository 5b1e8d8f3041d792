"""Everything the documentation says that can be checked: code, links, names, commands and tables."""

import dataclasses
import importlib
import importlib.util
import itertools
import logging
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pointcept import registry
from pointcept.config.files import find_config

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md")) + [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [page for page in PAGES if page.is_file()]

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
FILE_IN_COMMAND = re.compile(r"^(scripts|configs|benchmarks|tests|docs|pointcept|ponder2d)/[\w./-]+$")


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(text: str, *languages: str) -> list[tuple[int, str]]:
    """Line number and code of each fenced block in one of the languages."""
    found = [match for match in FENCE.finditer(text) if match["language"] in languages]
    return [(text.count("\n", 0, match.start()) + 1, match["code"]) for match in found]


def prose(text: str) -> str:
    return FENCE.sub("", text)


def run_python(text: str, source: str) -> None:
    """Execute a page's Python blocks in one namespace."""
    namespace = {"__name__": "docs"}
    for line, code in blocks(text, "python"):
        exec(compile("\n" * line + code, source, "exec"), namespace)


def broken_links(text: str, page: Path) -> list[str]:
    """Links that lead to no file or heading."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        is_there = file == page or (file.exists() and (DOCS not in page.parents or DOCS in file.parents))
        if not is_there or (anchor and anchor not in anchors(text if file == page else file.read_text())):
            broken.append(target)
    return broken


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


def unresolved_names(text: str) -> list[str]:
    """Dotted names in backticks that cannot be imported."""
    names = re.findall(r"`((?:pointcept|ponder2d)(?:\.\w+)+)(?:\([^`]*\))?`", text)
    return [name for name in dict.fromkeys(names) if not resolves(name)]


def resolves(name: str) -> bool:
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        module = ".".join(parts[:count])
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not module.startswith(error.name):
                raise
            continue
        for attribute in parts[count:]:
            fields = {field.name for field in dataclasses.fields(found)} if dataclasses.is_dataclass(found) else set()
            if attribute in fields and not hasattr(found, attribute):
                return attribute == parts[-1]
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return False


def wrong_commands(text: str) -> list[str]:
    """Parts of shell commands that name a file, module, config or flag which does not exist."""
    wrong = []
    for _, code in blocks(text, "sh", "bash", "shell"):
        for line in code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            wrong += [word for word in words if FILE_IN_COMMAND.match(word) and not exists(word)]
            wrong += wrong_module_or_flags(words)
    return wrong


def exists(path: str) -> bool:
    return any((ROOT / folder / f"{path}{suffix}").exists() for folder in (".", "configs") for suffix in ("", ".py"))


def wrong_module_or_flags(words: list[str]) -> list[str]:
    if "-m" in words and words[words.index("-m") - 1].startswith("python"):
        module = words[words.index("-m") + 1]
        if module.partition(".")[0] not in ("pointcept", "ponder2d", "benchmarks"):
            return []
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            return [module]
        source = Path(spec.origin)
        if source.name == "__init__.py":
            source = source.with_name("__main__.py")
        text = source.read_text()
        flags = [word.partition("=")[0] for word in words if word.startswith("--")]
        return [flag for flag in flags if f'"{flag}"' not in text]
    scripts = [index for index, word in enumerate(words) if re.fullmatch(r"scripts/\w+\.sh", word)]
    if not scripts or not exists(words[scripts[0]]):
        return []
    text = (ROOT / words[scripts[0]]).read_text()
    options = words[scripts[0] + 1 :]
    flags = [word for word in options if re.fullmatch(r"-\w|--[\w-]+", word)]
    wrong = [flag for flag in flags if not accepts(text, flag)]
    return wrong + [
        name for flag, name in itertools.pairwise(options) if flag == "-c" and not config_exists(name, options)
    ]


def accepts(script: str, flag: str) -> bool:
    """Whether a shell script handles a flag, by getopts or by a case."""
    by_getopts = len(flag) == 2 and re.search(rf"getopts\s+['\"]:?[\w:]*{flag[1]}", script)
    return bool(by_getopts or re.search(rf"(^|[\s|(]){re.escape(flag)}(\)|\s*\||=)", script, re.MULTILINE))


def config_exists(name: str, options: list[str]) -> bool:
    folder = next((value for flag, value in itertools.pairwise(options) if flag == "-d"), None)
    if name.startswith("$") or name.startswith("<"):
        return True
    try:
        find_config(f"{folder}/{name}" if folder else name)
    except FileNotFoundError:
        return False
    return True


def pages_in_navigation(text: str) -> list[str]:
    return re.findall(r":\s+(\S+\.md)\s*$", text.partition("\nnav:")[2], re.MULTILINE)


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """An empty current directory; what blocks register, import or log to is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    handlers = list(logging.getLogger("pointcept").handlers)
    registry.import_plugins(["ponder2d"])  # a second import would not register anew what the first page forgets
    with registry.temporary_names():
        yield tmp_path
    logging.getLogger("pointcept").handlers = handlers
    files = {name: str(getattr(module, "__file__", None) or "") for name, module in sys.modules.items()}
    temporary = {name for name, file in files.items() if file.startswith(str(tmp_path))}
    for name in temporary:
        del sys.modules[name]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page.read_text(), "python")], ids=page_id)
def test_code_runs(page, scratch):
    run_python(page.read_text(), str(page))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_names_and_commands_exist(page):
    text = page.read_text()
    assert broken_links(text, page) == []
    assert unresolved_names(text) == []
    assert wrong_commands(text) == []


def test_every_page_is_in_the_navigation():
    pages = pages_in_navigation((ROOT / "mkdocs.yml").read_text())
    assert sorted(pages) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


def test_the_generated_tables_are_current():
    command = """if True:
        from docs.generate_tables import COMPONENTS, CONFIGS, components_page, configs_page
        pages = {COMPONENTS: components_page(), CONFIGS: configs_page(CONFIGS.read_text())}
        print([page.name for page, text in pages.items() if page.read_text() != text])
    """
    # in a process of its own, where no test has registered classes
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n", f"out of date: {done.stdout}Run python -m docs.generate_tables"


def test_a_table_that_is_not_current_is_caught(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    generate_tables = importlib.import_module("docs.generate_tables")
    page = (DOCS / "configs.md").read_text()
    assert generate_tables.configs_page(page.replace("| `epoch` | `100` |", "| `epoch` | `7` |")) == page
    assert "| `SGD` |" in generate_tables.components_page()


def test_the_site_builds(tmp_path):
    pytest.importorskip("mkdocs", reason="mkdocs is in the docs extra")
    pytest.importorskip("material", reason="mkdocs-material is in the docs extra")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "conventions" / "index.html").is_file()
    loaded = re.findall(
        r'<(?:link|script)[^>]+(?:href|src)="(https?://[^"]+)"', (tmp_path / "site" / "index.html").read_text()
    )
    assert [url for url in loaded if "github" not in url] == []  # readers without a network get whole pages


BAD_PAGE = """# Bad page

[gone](missing.md), [no heading](#nowhere), [outside](../setup.py), [fine](#bad-page)

`pointcept.structures.PointBach`, `pointcept.nowhere.thing`, `pointcept.structures.PointBatch.offset`

```python
value = 1
```

```python
assert value == 2
```

```sh
sh scripts/no_such_script.sh
python -m pointcept.train --config-file x --no-such-flag
python -m pointcept.no_such_module  # a comment with `python -m nothing`
```
"""


def test_a_bad_page_is_caught(scratch):
    page = DOCS / "bad.md"
    assert broken_links(BAD_PAGE, page) == ["missing.md", "#nowhere", "../setup.py"]
    assert unresolved_names(BAD_PAGE) == ["pointcept.structures.PointBach", "pointcept.nowhere.thing"]
    assert wrong_commands(BAD_PAGE) == ["scripts/no_such_script.sh", "--no-such-flag", "pointcept.no_such_module"]
    with pytest.raises(AssertionError) as caught:
        run_python(BAD_PAGE, "bad.md")
    assert caught.traceback[-1].lineno + 1 == 12  # the page's own line


def test_an_unlisted_page_is_caught():
    assert pages_in_navigation("a: 1\nnav:\n  - Home: index.md\n  - Data:\n      - One: data/one.md\n") == [
        "index.md",
        "data/one.md",
    ]


def test_flags_of_scripts_are_found_in_getopts_and_in_cases():
    script = (
        'while getopts "p:d:c:" name; do :; done\ncase "$1" in\n  --options) shift ;;\n  -x|--long) shift ;;\nesac\n'
    )
    assert [
        flag for flag in ("-p", "-c", "-q", "--options", "-x", "--long", "--short") if not accepts(script, flag)
    ] == [
        "-q",
        "--short",
    ]
