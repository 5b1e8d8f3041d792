"""Registering, looking up, validating and building by name."""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pytest
from torch import nn

from pointcept import create_model, list_models, registry
from pointcept.registry import EVALUATORS, HOOKS, LOSSES, MODELS, OPTIMIZERS, build, validate


@MODELS.register("TestNet-v1m1")
class RegistryTestNet(nn.Module):
    def __init__(
        self,
        width: int,
        rate: float = 0.5,
        mode: Literal["mean", "max"] = "mean",
        stride: tuple[int, int, int] = (1, 1, 1),
        child: nn.Module | None = None,
        terms: Sequence["RegistryTestTerm"] = (),
        scales: Mapping[str, float] | None = None,
        extra: dict[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.arguments = {
            "width": width,
            "rate": rate,
            "mode": mode,
            "stride": stride,
            "scales": scales,
            "extra": extra,
        }
        self.child = child
        self.terms = terms
        self.name = name


@LOSSES.register()
class RegistryTestTerm:
    def __init__(self, weight: float = 1.0) -> None:
        if weight < 0:
            raise ArithmeticError("weight must not be negative")
        self.weight = weight


def net(**arguments: Any) -> dict[str, Any]:
    return {"type": "TestNet-v1m1", "width": 4, **arguments}


def test_an_alias_and_the_class_name_give_the_same_class() -> None:
    assert MODELS.get("TestNet-v1m1") is MODELS.get("RegistryTestNet") is RegistryTestNet
    assert {"TestNet-v1m1", "RegistryTestNet"} <= set(MODELS.names())
    assert "TestNet-v1m1" in list_models("testnet*")


def test_build_makes_nested_objects_first() -> None:
    config = net(child=net(), terms=[{"type": "RegistryTestTerm", "weight": 2.0}], extra={"sub": [net(width=7)]})
    model = build(config)
    assert isinstance(model.child, RegistryTestNet)
    assert [term.weight for term in model.terms] == [2.0]
    assert model.arguments["extra"]["sub"][0].arguments["width"] == 7
    assert config == net(
        child=net(), terms=[{"type": "RegistryTestTerm", "weight": 2.0}], extra={"sub": [net(width=7)]}
    )


def test_build_gives_constructors_the_annotated_types() -> None:
    arguments = build(net(rate=1, stride=[1, 2, 3], scales={"a": 2})).arguments
    assert (arguments["rate"], type(arguments["rate"])) == (1.0, float)
    assert arguments["stride"] == (1, 2, 3)
    assert (arguments["scales"], type(arguments["scales"]["a"])) == ({"a": 2.0}, float)


def test_create_model_takes_built_objects_too() -> None:
    child = create_model("TestNet-v1m1", width=1)
    assert create_model("TestNet-v1m1", width=2, child=child).child is child


def test_an_error_in_a_constructor_keeps_its_type_and_gains_the_path() -> None:
    with pytest.raises(ArithmeticError) as caught:
        build(net(terms=[{"type": "RegistryTestTerm", "weight": -1.0}]), "model")
    assert str(caught.value) == "weight must not be negative"
    if sys.version_info >= (3, 11):
        assert caught.value.__notes__ == ["while building model.terms[0] (RegistryTestTerm)"]


def test_nothing_is_built_before_everything_is_checked() -> None:
    with pytest.raises(ValueError, match=r"Keys of model\.child must be parameters of TestNet-v1m1: got 'widht'"):
        build(net(terms=[{"type": "RegistryTestTerm", "weight": -1.0}], child=net(widht=3)), "model")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"type": "TestNet-v1m2", "width": 1},
            r"model\.type must be a registered name: got 'TestNet-v1m2'\. Did you mean 'TestNet-v1m1'",
        ),
        (net(rat=0.1), r"Keys of model must be parameters of TestNet-v1m1: got 'rat'\. Did you mean 'rate'\?"),
        ({"type": "TestNet-v1m1"}, r"model must give every required parameter of TestNet-v1m1: missing width"),
        (net(child={"type": "TestNet-v1m1"}), r"model\.child must give every required parameter .*missing width"),
        ({"type": "RegistryTestTerm"}, r"model\.type must name a model: got 'RegistryTestTerm', a loss"),
    ],
)
def test_a_wrong_name_or_key_is_explained(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        validate(config, "model", MODELS)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (net(width=2.0), r"model\.width must be int: got 2\.0 \(float\)"),
        (net(width=True), r"model\.width must be int: got True \(bool\)"),
        (net(width="4"), r"model\.width must be int: got '4' \(str\)"),
        (net(rate="high"), r"model\.rate must be float: got 'high' \(str\)"),
        (net(mode="sum"), r"model\.mode must be one of 'mean', 'max': got 'sum'"),
        (net(stride=(1, 2)), r"model\.stride must be tuple\[int, int, int\]: got \(1, 2\)"),
        (net(stride=(1, 2, 0.5)), r"model\.stride\[2\] must be int: got 0\.5"),
        (net(scales={"a": "b"}), r"model\.scales\.a must be float: got 'b'"),
        (net(scales=[1.0]), r"model\.scales must be .*: got \[1\.0\] \(list\)"),
        (net(name=3), r"model\.name must be str or None: got 3"),
        (net(child="TestNet-v1m1"), r"model\.child must be Module or None: got 'TestNet-v1m1'"),
        (
            net(child={"type": "RegistryTestTerm"}),
            r"model\.child must be Module or None: got a config of type 'RegistryTestTerm'",
        ),
        ({"type": 3}, r"model\.type must be a registered name: got 3"),
        ("TestNet-v1m1", r"model must be dict\(type=<name of a model>, \.\.\.\): got 'TestNet-v1m1'"),
    ],
)
def test_a_value_of_the_wrong_type_is_explained(config: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        validate(config, "model", MODELS)


@pytest.mark.parametrize(
    "arguments",
    [
        {"rate": 1},
        {"stride": [1, 2, 3]},
        {"child": None},
        {"name": None},
        {"scales": {}},
        {"terms": ()},
        {"extra": {"anything": [1, "a", None]}},
    ],
)
def test_values_that_suit_are_accepted(arguments: dict[str, Any]) -> None:
    validate(net(**arguments), "model", MODELS)


def test_types_that_say_nothing_about_plain_data_are_not_checked() -> None:
    @MODELS.register()
    class RegistryTestUnchecked:
        def __init__(self, untyped, function: Callable[[int], int] | None = None, anything: Any = 0) -> None:
            self.values = (untyped, function, anything)

    assert build({"type": "RegistryTestUnchecked", "untyped": {"a": 1}, "anything": [None]}).values == (
        {"a": 1},
        None,
        [None],
    )
    with pytest.raises(TypeError, match="function must be"):
        build({"type": "RegistryTestUnchecked", "untyped": 1, "function": "relu"})


def test_a_name_means_one_thing_in_all_registries() -> None:
    with pytest.raises(ValueError, match=r"must be unique: 'RegistryTestTerm' .*is already the loss"):

        @HOOKS.register("RegistryTestTerm")
        class RegistryTestHook:
            pass

    assert "RegistryTestHook" not in HOOKS.names()


def test_executing_a_definition_again_replaces_the_earlier_one() -> None:
    def define() -> type:
        @EVALUATORS.register("registry-test-evaluator")
        class RegistryTestEvaluator:
            pass

        return RegistryTestEvaluator

    define()
    assert define() is EVALUATORS.get("registry-test-evaluator")


def test_a_miss_in_one_registry_says_where_the_name_is() -> None:
    with pytest.raises(ValueError, match=r"name of a loss must be registered: got 'TestNet-v1m1', a model\. "):
        LOSSES.get("TestNet-v1m1")


def test_temporary_names_are_forgotten() -> None:
    with registry.temporary_names():

        @HOOKS.register("registry-test-temporary")
        class RegistryTestTemporary:
            pass

        assert "registry-test-temporary" in HOOKS.names()
    assert not {"registry-test-temporary", "RegistryTestTemporary"} & set(HOOKS.names())
    assert "SGD" in OPTIMIZERS.names()


def test_plugins_are_found_in_the_current_directory(tmp_path, monkeypatch) -> None:
    (tmp_path / "registry_test_plugin.py").write_text(
        "from pointcept.registry import LOSSES\n\n@LOSSES.register()\nclass RegistryTestPlugin:\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    registry.import_plugins(["registry_test_plugin"])
    assert LOSSES.get("RegistryTestPlugin").__module__ == "registry_test_plugin"


def test_a_missing_plugin_is_named_with_the_remedy(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    with pytest.raises(
        ValueError, match=r"'no_such_plugin' is not, because it was not found\. Install it, or start from"
    ):
        registry.import_plugins(["no_such_plugin"])
    (tmp_path / "registry_test_needy.py").write_text("import no_such_dependency\n")
    with pytest.raises(
        ValueError, match=r"'registry_test_needy' is not, because 'no_such_dependency', which it needs,"
    ):
        registry.import_plugins(["registry_test_needy"])


def test_importing_everything_needs_no_optional_package() -> None:
    program = (
        "import sys\n"
        "for name in ('spconv', 'torch_cluster', 'spconv_triton', 'torch_scatter', 'flash_attn', 'beartype'):\n"
        "    sys.modules[name] = None\n"
        "import pointcept\n"
        "assert 'torch' not in sys.modules, 'import pointcept must stay light'\n"
        "from pointcept import registry\n"
        "registry.load_builtins()\n"
        "import ponder2d\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)
