"""Exits with an error, naming what is missing, unless this Python has what setup.py asks for.

Usage: check_environment.py [extra ...]

Reads the installed packages' metadata only, so it takes no time and works without importing any of them.
"""

import ast
import os
import re
import sys

OLDEST_PYTHON = (3, 10)
SETUP = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "setup.py")


def requirements(extras):
    """The requirement strings of the core and of the given extras, from the literals in setup.py."""
    with open(SETUP, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    literals = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id in ("CORE", "EXTRAS")
    }
    return literals["CORE"] + [entry for extra in extras for entry in literals["EXTRAS"][extra]]


def problem(requirement):
    """What is wrong with the installed package, or None."""
    from importlib.metadata import PackageNotFoundError, version

    name, least = re.match(r"([\w.-]+)(?:>=([\d.]+))?", requirement).groups()
    try:
        found = version(name)
    except PackageNotFoundError:
        return name + " is missing"
    if least and numbers(found) < numbers(least):
        return name + " is " + found + ", but must be " + least + " or newer"
    return None


def numbers(version):
    """(2, 10) of "2.10.0rc1+cpu", for comparing."""
    return tuple(int(part) for part in re.match(r"[\d.]*\d", version).group().split("."))


def main(extras):
    """Text for sys.exit: empty means complete."""
    if sys.version_info < OLDEST_PYTHON:
        return "Python is {}.{}, but must be 3.10 or newer".format(*sys.version_info[:2])
    return ", ".join(filter(None, map(problem, requirements(extras)))) or None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
