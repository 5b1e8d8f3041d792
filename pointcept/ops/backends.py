"""Which of several packages computes an operation: one way to ask for it, whatever the operation."""

import dataclasses
import functools
import importlib
import importlib.metadata
import os
import warnings
from collections.abc import Mapping
from types import ModuleType

from pointcept.registry import near_matches
from pointcept.structures.base import require

AUTO = "auto"


@dataclasses.dataclass(frozen=True)
class Backend:
    """A package that can compute an operation.

    Attributes:
        name: By which it is asked for.
        module: What is imported; None for plain torch, which is always there.
        install: How to get it.
    """

    name: str
    module: str | None = None
    install: str = ""

    def load(self) -> ModuleType | None:
        """The module, or None where it is missing or was built for something else than what is here."""
        return _load(self.module or "torch")

    @property
    def version(self) -> str | None:
        """Of the package; None where it is not installed."""
        module = self.load()
        if module is None:
            return None
        top = module.__name__.partition(".")[0]
        try:
            return importlib.metadata.version(_distributions().get(top, [top])[0])
        except importlib.metadata.PackageNotFoundError:
            return "unknown"


class Backends:
    """The packages that can compute one operation.

    Asked for is, in this order, what the caller names, what the environment variable names, what the config names
    (:func:`use_backends`); each of them may say ``auto``, which leaves it to the next and in the end to the operation.

    Attributes:
        operation: Name of the operation, as configs write it.
        variable: The environment variable.
    """

    def __init__(self, operation: str, variable: str, *backends: Backend):
        self.operation = operation
        self.variable = variable
        self._backends = {backend.name: backend for backend in backends}
        self._configured = AUTO
        _OPERATIONS[operation] = self

    @property
    def names(self) -> tuple[str, ...]:
        """Of all packages, installed or not."""
        return tuple(self._backends)

    def load(self, name: str) -> ModuleType | None:
        """The module of a package, or None where it cannot be imported."""
        return self._backends[name].load()

    def is_installed(self, name: str) -> bool:
        """Whether a package can be imported."""
        return self.load(name) is not None

    def versions(self) -> dict[str, str | None]:
        """Version of each package; None where it is not installed."""
        return {name: backend.version for name, backend in self._backends.items()}

    def requested(self, argument: str = AUTO) -> str:
        """What is asked for, or ``auto``.

        Args:
            argument: What the caller names.

        Raises:
            ValueError: the name is unknown, or the package is not installed.
        """
        sources = (
            ("backend", argument),
            (self.variable, os.environ.get(self.variable, "") or AUTO),
            (f"backends[{self.operation!r}]", self._configured),
        )
        for source, name in sources:
            if name != AUTO:
                self._check(source, name)
                return name
        return AUTO

    def configure(self, name: str) -> None:
        """Sets what the config asks for.

        Raises:
            ValueError: the name is unknown, or the package is not installed.
        """
        if name != AUTO:
            self._check(f"backends[{self.operation!r}]", name)
        self._configured = name

    def _check(self, source: str, name: str) -> None:
        require(
            name in self._backends,
            f"{source} must be one of {AUTO}, {', '.join(self.names)}: got {name!r}. {near_matches(name, self.names)}",
        )
        require(
            self.is_installed(name),
            f"A back end must be installed: {source} asks for {name}, which is not. "
            f"{self._backends[name].install}, or use {AUTO!r}.",
        )


_OPERATIONS: dict[str, Backends] = {}


def use_backends(choices: Mapping[str, str]) -> None:
    """What this process uses from now on where nothing stronger asks: the ``backends`` of a config.

    Args:
        choices: Name of the back end, or ``auto``, by operation; operations that are not named are left to ``auto``.

    Raises:
        ValueError: an operation or a back end is unknown, or not installed.
    """
    for operation in choices:
        require(
            operation in _OPERATIONS,
            f"backends must name operations among {', '.join(_OPERATIONS)}: got {operation!r}. "
            f"{near_matches(operation, list(_OPERATIONS))}",
        )
    for operation, backends in _OPERATIONS.items():
        backends.configure(choices.get(operation, AUTO))


@functools.cache  # layers ask at every call, and looking for what is missing is slow
def _load(module: str) -> ModuleType | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a package says about its own code is not for its users
            return importlib.import_module(module)
    except (ImportError, OSError, RuntimeError, AttributeError):
        return None


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


NEIGHBORS = Backends(
    "neighbors",
    "POINTCEPT_NEIGHBORS",
    Backend("torch"),
    Backend("scipy", "scipy", "pip install scipy"),
    Backend("torch_cluster", "torch_cluster", "pip install torch-cluster"),
)
SPARSE = Backends(
    "sparse",
    "POINTCEPT_SPARSE",
    Backend("torch"),
    Backend("native", "pointcept.ops.sparse.native", "Install a C compiler, such as gcc"),
    Backend("spconv", "spconv.pytorch", "pip install spconv-cu126"),
    Backend("spconv_triton", "spconv_triton.pytorch", "pip install spconv-triton"),
)
