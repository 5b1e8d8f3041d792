"""The config language, overrides, checks of a whole config, and writing it back."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from pointcept.config import Config, RunSettings, dump_config, load_config, validate_config
from pointcept.config.files import config_names
from pointcept.config.language import merge, read_config_file
from pointcept.config.overrides import apply_overrides, parse_value
from pointcept.registry import DATASETS, MODELS

Write = Callable[[str, str], Path]


@MODELS.register()
class ConfigTestNet:
    def __init__(self, width: int = 1, layers: tuple[int, ...] = (1, 2)) -> None:
        self.width = width


@DATASETS.register()
class ConfigTestDataset:
    def __init__(self, split: str = "train") -> None:
        self.split = split


MINIMAL = """
model = dict(type="ConfigTestNet", width=3)
data = dict(train=dict(type="ConfigTestDataset"))
optimizer = dict(type="AdamW", lr=0.001)
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def test_bases_are_merged_key_by_key_and_lists_replaced(write: Write) -> None:
    write("base/runtime.py", "epoch = 4\nhooks = [1, 2]\n")
    write("base/model.py", 'model = dict(type="A", block=dict(a=1, b=(1, 2)), list=[1, 2])\n')
    path = write(
        "task/child.py",
        '_base_ = ["../base/runtime.py", "../base/model.py"]\nmodel = dict(block=dict(b=(3,)), list=[9])\nepoch = 8\n',
    )
    assert read_config_file(path) == {
        "epoch": 8,
        "hooks": [1, 2],
        "model": {"type": "A", "block": {"a": 1, "b": (3,)}, "list": [9]},
    }


def test_bases_of_bases_are_relative_to_the_file_that_names_them(write: Write) -> None:
    write("a/root.py", "epoch = 1\nseed = 1\n")
    write("a/b/middle.py", '_base_ = "../root.py"\nepoch = 2\n')
    assert read_config_file(write("leaf.py", '_base_ = "a/b/middle.py"\n')) == {"epoch": 2, "seed": 1}


def test_delete_replaces_the_dict_of_the_base(write: Write) -> None:
    write("base.py", 'model = dict(type="A", block=dict(a=1), keep=1)\n')
    path = write("child.py", '_base_ = "base.py"\nmodel = dict(block=dict(_delete_=True, b=2))\n')
    assert read_config_file(path) == {"model": {"type": "A", "block": {"b": 2}, "keep": 1}}


def test_delete_leaves_no_trace_where_there_is_nothing_to_delete(write: Write) -> None:
    path = write("file.py", "model = dict(a=[dict(_delete_=True, b=1)])\n")
    assert read_config_file(path) == {"model": {"a": [{"b": 1}]}}


def test_merging_changes_neither_side() -> None:
    base, child = {"a": {"b": 1}}, {"a": {"c": 2}}
    assert merge(base, child) == {"a": {"b": 1, "c": 2}}
    assert (base, child) == ({"a": {"b": 1}}, {"a": {"c": 2}})


def test_a_dict_replaces_none() -> None:
    assert merge({"test": None, "a": 1}, {"test": {"b": 2}}) == {"test": {"b": 2}, "a": 1}


def test_a_dict_over_something_else_needs_delete(write: Write) -> None:
    write("base.py", 'model = dict(block="none")\n')
    with pytest.raises(TypeError, match=r"model\.block is 'none' in the base\. Add _delete_=True"):
        read_config_file(write("child.py", '_base_ = "base.py"\nmodel = dict(block=dict(a=1))\n'))


def test_two_bases_must_not_set_the_same_key(write: Write) -> None:
    write("one.py", "epoch = 1\n")
    write("two.py", "epoch = 1\n")
    with pytest.raises(ValueError, match=r"'epoch' is in one\.py and in two\.py \(bases of .*child\.py\)"):
        read_config_file(write("child.py", '_base_ = ["one.py", "two.py"]\n'))


def test_a_missing_base_names_both_files_and_a_near_one(write: Write) -> None:
    write("_base_/default_runtime.py", "epoch = 1\n")
    path = write("task/child.py", '_base_ = "../_base_/default_runtim.py"\n')
    with pytest.raises(
        FileNotFoundError,
        match=r"child\.py names '\.\./_base_/default_runtim\.py', .* missing\. Did you mean default_runtime\.py\?",
    ):
        read_config_file(path)


def test_files_based_on_each_other_are_refused(write: Write) -> None:
    write("one.py", '_base_ = "two.py"\n')
    with pytest.raises(ValueError, match=r"two\.py -> .*one\.py -> .*two\.py\. Remove one _base_"):
        read_config_file(write("two.py", '_base_ = "one.py"\n'))


def test_only_plain_data_that_is_the_files_own_is_kept(write: Write) -> None:
    path = write(
        "file.py",
        "import math\nfrom os import sep\n_private = object()\ndef area(r):\n    return math.pi * r\n"
        "class Helper:\n    pass\nepoch = int(area(2))\ndata_root = sep\nclass_names = [name for name in 'ab']\n",
    )
    assert read_config_file(path) == {"epoch": 6, "data_root": "/", "class_names": ["a", "b"]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("model = dict(a=[1, {2}])", r"model\.a\[1\] of .*file\.py is \{2\} \(set\)"),
        ("model = dict(f=len)", r"model\.f of .*file\.py is <built-in function len>"),
        ("model = range(3)", r"model of .*file\.py is range\(0, 3\) \(range\)"),
        ("model = {None: 1}", r"Keys in a config must be strings or ints: got None in model"),
        ("clip_grad = float('inf')", r"Numbers in a config must be finite: clip_grad of .* is inf"),
        ("_base_ = 3", r"_base_ must be a path or a list of paths: got 3"),
    ],
)
def test_values_that_are_no_plain_data_are_refused(write: Write, line: str, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        read_config_file(write("file.py", line + "\n"))


def test_star_imports_are_refused(write: Write) -> None:
    with pytest.raises(ValueError, match=r"file\.py uses import \*"):
        read_config_file(write("file.py", "from math import *\n"))


def test_a_syntax_error_keeps_its_file_and_line(write: Write) -> None:
    with pytest.raises(SyntaxError) as caught:
        read_config_file(write("file.py", "epoch = 1\nseed = = 2\n"))
    assert (Path(str(caught.value.filename)).name, caught.value.lineno) == ("file.py", 2)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("None", None),
        ("none", None),
        ("true", True),
        ("False", False),
        ("3", 3),
        ("1e-3", 1e-3),
        ("(1, 2)", (1, 2)),
        ("1,2", (1, 2)),
        ("['a', None]", ["a", None]),
        ("{'type': 'A'}", {"type": "A"}),
        ("exp/a b", "exp/a b"),
        ("'7'", "7"),
        ("float16", "float16"),
    ],
)
def test_override_values(text: str, value: object) -> None:
    parsed = parse_value(text)
    assert parsed == value and type(parsed) is type(value)


def test_overrides_descend_into_dicts_lists_and_tuples() -> None:
    config = {"hooks": [{"type": "A", "n": 1}, {"type": "B"}], "model": {"layers": (1, 2, 3), "plain": {"a": 1}}}
    changed = apply_overrides(
        config, ["hooks.0.n=5", "hooks.-1.new=x", "model.layers.2=9", "model.plain.a=None", "seed=1"], ["seed"]
    )
    assert changed == {
        "hooks": [{"type": "A", "n": 5}, {"type": "B", "new": "x"}],
        "model": {"layers": (1, 2, 9), "plain": {"a": None}},
        "seed": 1,
    }
    assert config["model"]["layers"] == (1, 2, 3)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("epoch", r"form key\.path=value: got 'epoch'"),
        ("=3", r"form key\.path=value: got '=3'"),
        ("epcoh=3", r"the config has no 'epcoh'\. Did you mean 'epoch'\?"),
        ("modle.width=3", r"the config has no 'modle'\. Did you mean 'model'\?"),
        ("model.plain.wdith=3", r"model\.plain has no 'wdith'\. Did you mean 'width'\?"),
        ("model.layers.3=1", r"one of the 3 elements of model\.layers: got '3'\. Use an integer from 0 to 2"),
        ("model.layers.x=1", r"one of the 3 elements of model\.layers: got 'x'"),
        ("epoch.a=1", r"epoch is 4, so it has no 'a'"),
        ("model.layers=[1, a]", r"Python literal or plain text: got '\[1, a\]'"),
    ],
)
def test_wrong_overrides_are_explained(option: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        apply_overrides(
            {"epoch": 4, "model": {"layers": (1, 2, 3), "plain": {"width": 1}}}, [option], ["epoch", "seed"]
        )


def test_load_config_fills_in_the_defaults_of_a_run(write: Write) -> None:
    config = load_config(write("file.py", MINIMAL), ["seed=5", "model.layers=[4]"])
    assert (config.seed, config.model.layers, config.clip_grad, config["amp_dtype"]) == (5, [4], None, "bfloat16")
    settings = validate_config(config)
    assert isinstance(settings, RunSettings)
    assert (settings.seed, settings.model["width"], settings.epoch) == (5, 3, 100)


def test_a_config_has_no_keys_that_were_never_set(write: Write) -> None:
    config = load_config(write("file.py", MINIMAL))
    with pytest.raises(AttributeError, match="no key 'depth' here: it has type, width"):
        _ = config.model.depth
    with pytest.raises(KeyError):
        _ = config["nothing"]
    assert not hasattr(config, "nothing")
    assert type(config.to_plain()["model"]) is dict


def test_an_unknown_top_level_key_is_refused(write: Write) -> None:
    with pytest.raises(ValueError, match=r"got 'batchsize' in .*file\.py\. Did you mean 'batch_size'"):
        load_config(write("file.py", MINIMAL + "batchsize = 4\n"))


@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        (
            "model.widht=3",
            ValueError,
            r"Keys of model must be parameters of ConfigTestNet: got 'widht'\. Did you mean 'width'\?",
        ),
        ("model.width=wide", TypeError, r"model\.width must be int: got 'wide' \(str\)"),
        ("model.layers=(1, 2.5)", TypeError, r"model\.layers\[1\] must be int: got 2\.5"),
        (
            "model.type=ConfigTestNett",
            ValueError,
            r"model\.type must be a registered name: got 'ConfigTestNett'\. Did you mean 'ConfigTestNet'",
        ),
        (
            "model.type=ConfigTestDataset",
            ValueError,
            r"must name a model: got 'ConfigTestDataset', a dataset",
        ),
        ("model=3", TypeError, r"model must be dict\[str, Any\]: got 3"),
        (
            "data.train.spilt=val",
            ValueError,
            r"Keys of data\.train must be parameters .* got 'spilt'\. Did you mean 'split'\?",
        ),
        (
            "data={'trian': {'type': 'ConfigTestDataset'}}",
            ValueError,
            r"Keys of data must be known: got 'trian'\. Did you mean 'train'\?",
        ),
        (
            "hooks=[{'type': 'ConfigTestNet'}]",
            ValueError,
            r"hooks\[0\]\.type must name a hook: got 'ConfigTestNet', a model",
        ),
        ("hooks=['ConfigTestNet']", TypeError, r"hooks\[0\] must be dict\[str, Any\]: got 'ConfigTestNet'"),
        (
            "optimizer.learning_rate=1",
            ValueError,
            r"Keys of optimizer must be parameters of AdamW: got 'learning_rate'",
        ),
        ("epoch=2.5", TypeError, r"epoch must be int: got 2\.5"),
        ("amp_dtype=half", TypeError, r"amp_dtype must be one of 'float16', 'bfloat16': got 'half'"),
        ("batch_size=0", ValueError, r"batch_size must be at least 1: got 0"),
        ("mix_prob=1.5", ValueError, r"mix_prob must be from 0\.0 to 1\.0: got 1\.5"),
        ("clip_grad=0", ValueError, r"clip_grad must be positive: got 0"),
        ("eval_epoch=7", ValueError, r"epoch must be a multiple of eval_epoch: got 100 and 7"),
        ("imports=['no_such_package']", ValueError, r"'no_such_package' is not, because it was not found"),
    ],
)
def test_a_wrong_value_anywhere_is_explained(write: Write, option: str, error: type[Exception], message: str) -> None:
    config = load_config(write("file.py", MINIMAL), [option])
    with pytest.raises(error, match=message):
        validate_config(config)


def test_missing_required_keys_are_named(write: Write) -> None:
    with pytest.raises(ValueError, match="must have model, data, optimizer: missing data, optimizer"):
        validate_config(load_config(write("file.py", 'model = dict(type="ConfigTestNet")\n')))


def test_a_dumped_config_loads_back_equal(write: Write, tmp_path: Path) -> None:
    text = MINIMAL + (
        "hooks = [dict(type='A', long='" + "x" * 90 + "', empty=[], single=(1,), nested=[dict(b=(1, 2.5, 'q'))])]\n"
        "class_names = [" + ", ".join(f"'class {i}'" for i in range(30)) + "]\n"
        'param_dicts = [{"class": 1, "a b": {"lambda": None, 3: [True, -1e-7]}}]\n'
    )
    config = load_config(write("file.py", text), ["weight='it\\'s'"])
    dump_config(config, tmp_path / "dumped.py")
    assert load_config(tmp_path / "dumped.py") == config
    dumped = (tmp_path / "dumped.py").read_text()
    assert "model = dict(type='ConfigTestNet', width=3)\n" in dumped
    assert max(map(len, dumped.splitlines())) < 130


def test_a_config_that_cannot_be_written_back_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"config\.clip_grad of .*out\.py is nan"):
        dump_config(Config(clip_grad=math.nan), tmp_path / "out.py")
    assert not (tmp_path / "out.py").exists()


def test_configs_are_found_by_name(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("configs/rooms/pretrain-net-v1m1-0-base.py", MINIMAL)
    write("configs/_base_/default.py", "epoch = 1\n")
    monkeypatch.chdir(tmp_path)
    assert "rooms/pretrain-net-v1m1-0-base" in config_names()
    assert not any("_base_" in name for name in config_names())
    for name in ("rooms/pretrain-net-v1m1-0-base", "configs/rooms/pretrain-net-v1m1-0-base.py"):
        assert load_config(name).model.width == 3
    for name in ("pretrain-net-v1m1-0-base", "room/pretrain-net-v1m1-0-base", "rooms/pretrain-net-v1m1-0-bse"):
        with pytest.raises(FileNotFoundError, match=f"got '{name}' .*Did you mean rooms/pretrain-net-v1m1-0-base"):
            load_config(name)


def test_the_default_runtime_agrees_with_the_defaults_of_a_run() -> None:
    path = Path(__file__).resolve().parents[1] / "configs" / "_base_" / "default_runtime.py"
    written = read_config_file(path)
    fields = RunSettings.__dataclass_fields__
    simple = {
        name: field.default for name, field in fields.items() if isinstance(field.default, int | float | str | None)
    }
    assert {name: written[name] for name in simple if name != "scheduler"} == {
        name: default for name, default in simple.items() if name != "scheduler"
    }


def test_a_recipe_lies_over_the_config_and_options_over_both(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write("configs/_base_/recipes/small.py", "model = dict(b=20, part=dict(_delete_=True, y=2))\nclip_grad = None\n")
    path = write(
        "mine.py",
        'model = dict(type="A", a=1, b=2, part=dict(x=1))\ndata = dict()\n'
        'optimizer = dict(type="SGD")\nclip_grad = 1.0\n',
    )
    assert load_config(path).clip_grad == 1.0
    config = load_config(path, ["model.a=5", "recipe=small", "model.b=7"])
    assert config.model == {"type": "A", "a": 5, "b": 7, "part": {"y": 2}} and config.clip_grad is None
    named = write("named.py", '_base_ = "mine.py"\nrecipe = "small"\n')
    assert load_config(named).model == {"type": "A", "a": 1, "b": 20, "part": {"y": 2}}
    assert load_config(named, ["recipe=none"]).model.b == 2
    dump_config(load_config(named, ["model.b=7"]), tmp_path / "dumped.py")
    assert load_config(tmp_path / "dumped.py").model.b == 7, "what was dumped is not changed again"
    with pytest.raises(ValueError, match=r"recipe must be one of 'ponderv2', 'small': got 'smal'"):
        load_config(path, ["recipe=smal"])
