"""How back ends are asked for: by the caller, the environment, the config, in this order."""

import sys

import pytest

from pointcept.config import RunSettings
from pointcept.engines.tester import evaluate
from pointcept.engines.trainer import build_trainer
from pointcept.ops import backends as module
from pointcept.ops.backends import NEIGHBORS, SPARSE, Backend, Backends, use_backends
from pointcept.ops.neighbors import chosen_backend


@pytest.fixture(autouse=True)
def no_choice(monkeypatch):
    for operation in (NEIGHBORS, SPARSE):
        monkeypatch.delenv(operation.variable, raising=False)
    module._load.cache_clear()
    yield
    use_backends({})
    module._load.cache_clear()


def test_the_caller_is_stronger_than_the_environment_and_that_than_the_config(monkeypatch):
    assert NEIGHBORS.requested() == "auto"
    use_backends({"neighbors": "torch"})
    assert NEIGHBORS.requested() == "torch" and SPARSE.requested() == "auto"
    monkeypatch.setenv("POINTCEPT_NEIGHBORS", "scipy")
    assert NEIGHBORS.requested() == "scipy" and NEIGHBORS.requested("torch") == "torch"
    monkeypatch.setenv("POINTCEPT_NEIGHBORS", "auto")  # leaves it to the config
    assert NEIGHBORS.requested() == "torch"
    use_backends({})
    assert NEIGHBORS.requested() == "auto"


def test_the_config_reaches_the_operation():
    assert chosen_backend("cpu") == "scipy"
    use_backends({"neighbors": "torch"})
    assert chosen_backend("cpu") == "torch"


def test_names_are_checked(monkeypatch):
    with pytest.raises(ValueError, match=r"backends must name operations among neighbors, sparse: got 'neighbours'"):
        use_backends({"neighbours": "torch"})
    with pytest.raises(ValueError, match=r"backends\['sparse'\] must be one of auto, torch, native, .*Did you mean"):
        use_backends({"sparse": "spconf"})
    monkeypatch.setitem(sys.modules, "spconv.pytorch", None)
    with pytest.raises(ValueError, match=r"asks for spconv, which is not\. pip install spconv-cu126, or use 'auto'"):
        use_backends({"sparse": "spconv"})
    assert SPARSE.requested() == "auto"


def test_versions(monkeypatch, tmp_path):
    (tmp_path / "broken_package.py").write_text("raise OSError('undefined symbol')\n")
    (tmp_path / "bare_package.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "_OPERATIONS", {})
    known = Backends("x", "X", Backend("torch"), Backend("a", "broken_package"), Backend("b", "bare_package"))
    versions = known.versions()
    assert versions["torch"].startswith("2.") and versions["a"] is None and versions["b"] == "unknown"


def test_a_config_is_checked_before_anything_is_built():
    with pytest.raises(ValueError, match=r"backends\['sparse'\] must be one of auto, torch"):
        build_trainer(RunSettings(model={}, data={}, optimizer={}, backends={"sparse": "spconf"}))
    with pytest.raises(ValueError, match=r"backends\['neighbors'\] must be one of auto, torch"):
        evaluate(RunSettings(model={}, data={}, optimizer={}, backends={"neighbors": "faiss"}))
