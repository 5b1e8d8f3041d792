"""Creating models with pretrained weights, and exporting them to one file."""

import json
import subprocess
import sys

import pytest
import safetensors
import safetensors.torch
import torch

from pointcept import create_model, list_models
from pointcept.config import RunSettings
from pointcept.engines.checkpoint import save_checkpoint
from pointcept.export import export, main
from pointcept.models.model_file import ModelCard, read_model_card, write_model_file
from pointcept.registry import build

BACKBONE = {
    "type": "SpUNet-v1m1",
    "in_channels": 6,
    "base_channels": 4,
    "channels": (4, 6, 6, 4),
    "layers": (1, 1, 1, 1),
}
ARGUMENTS = {key: value for key, value in BACKBONE.items() if key != "type"}
PONDER = {
    "type": "Ponder",
    "encoder": {
        "type": "PointVolumeEncoder",
        "backbone": BACKBONE,
        "projection": {"type": "ProjectionUNet", "in_channels": 4, "out_channels": 4, "channels": (4,)},
        "grid_shape": (8, 8, 8),
    },
    "ray_sampler": {"type": "RaySampler", "num_rays": 8},
    "renderer": {
        "type": "NeuSRenderer",
        "field": {"type": "SDFField", "in_channels": 4, "hidden_channels": 4, "geometry_channels": 3},
        "sampler": {"type": "NeuSSampler", "num_samples": 4, "num_importance": 4},
    },
    "losses": [{"type": "ColorLoss"}],
}


def assert_same(first, second):
    torch.testing.assert_close(dict(first.state_dict()), dict(second.state_dict()), rtol=0, atol=0)


@pytest.fixture
def pretrained(tmp_path):
    """What a run of pre-training leaves, and its backbone."""
    import pprint

    settings = RunSettings(model=PONDER, data={"train": {"type": "ToyDataset"}}, optimizer={"type": "SGD", "lr": 0.1})
    ponder = build(PONDER)
    path = tmp_path / "model_last.pth"
    config = pprint.pformat(settings, sort_dicts=False)  # as the trainer records it
    save_checkpoint(path, {"state_dict": ponder.state_dict(), "epoch": 1, "config": config})
    return path, ponder.encoder.backbone


def test_a_pretraining_checkpoint_loads_into_a_bare_backbone(pretrained):
    path, backbone = pretrained
    assert_same(create_model("SpUNet-v1m1", pretrained=path, **ARGUMENTS), backbone)


def test_without_pretrained_nothing_is_loaded():
    model = create_model("SparseUNet", in_channels=6)
    assert model.in_channels == 6
    assert list_models("sp*unet*") == ["SpUNet-v1m1", "SpUNet-v1m3", "SparseUNet"]
    assert list_models("pt*v3*") == ["PT-v3m1", "PT-v3m2", "ptv3_base", "ptv3_large", "ptv3_small", "ptv3_tiny"]


@pytest.mark.parametrize("name", [None, "SpUNet-v1m1", "SparseUNet"])
def test_an_exported_backbone_builds_itself(pretrained, tmp_path, name):
    path, backbone = pretrained
    output = tmp_path / "backbone.safetensors"
    summary = export(path, output, license="CC-BY-NC-4.0")
    assert summary.startswith("Wrote SpUNet-v1m1 (") and "licence: CC-BY-NC-4.0" in summary
    assert_same(create_model(name, pretrained=output), backbone)
    assert_same(create_model(*[name] if name else [], pretrained=str(output), num_classes=0), backbone)


def test_overrides_go_over_the_arguments_of_the_file(pretrained, tmp_path):
    path, backbone = pretrained
    export(path, tmp_path / "b.safetensors")
    model = create_model(pretrained=tmp_path / "b.safetensors", num_classes=3)
    assert model.out_channels == 3
    assert torch.equal(model.conv_input[0].weight, backbone.conv_input[0].weight)


def test_the_metadata_has_config_version_and_licence(pretrained, tmp_path):
    import pointcept

    export(pretrained[0], tmp_path / "b.safetensors", part="encoder.backbone")
    with safetensors.safe_open(tmp_path / "b.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["config"]) == {**BACKBONE, "channels": [4, 6, 6, 4], "layers": [1, 1, 1, 1]}
    assert metadata["pointcept_version"] == pointcept.__version__
    assert metadata["license"] == "not stated; the terms of the training data may apply"


def test_the_whole_model_can_be_exported(pretrained, tmp_path):
    export(pretrained[0], tmp_path / "ponder.safetensors", part="")
    model = create_model(pretrained=tmp_path / "ponder.safetensors")
    assert_same(model.encoder.backbone, pretrained[1])


def test_a_checkpoint_of_another_toolkit_is_exported_with_a_config(pretrained, tmp_path, capsys):
    torch.save(
        {"state_dict": {f"module.backbone.{n}": w for n, w in pretrained[1].state_dict().items()}}, tmp_path / "a.pth"
    )
    with pytest.raises(
        ValueError, match=r"An exported model needs its config: .*a\.pth holds none\. Give it with --config"
    ):
        export(tmp_path / "a.pth", tmp_path / "b.safetensors")
    config = tmp_path / "config.py"
    config.write_text(
        f"model = dict(type='Segmentor', backbone={BACKBONE!r})\ndata = dict(train=dict(type='None'))\n"
        "optimizer = dict(type='SGD', lr=0.1)\n"
    )
    arguments = [str(tmp_path / "a.pth"), "--output", str(tmp_path / "b.safetensors"), "--config-file", str(config)]
    main(arguments)
    assert capsys.readouterr().out.startswith("Wrote SpUNet-v1m1 (")
    assert_same(create_model(pretrained=tmp_path / "b.safetensors"), pretrained[1])
    config.write_text(config.read_text().replace("'in_channels': 6", "'in_channels': 3"))
    with pytest.raises(
        SystemExit, match=r"error: The config must be that of the checkpoint: .*1 of another shape \(conv_i"
    ):
        main(arguments)


def test_a_preset_is_exported_and_builds_itself(tmp_path):
    size = {"enc_channels": (8, 8, 8, 8), "enc_num_head": (1,) * 4, "dec_channels": (8, 8, 8), "dec_num_head": (1,) * 3}
    config = {"type": "ptv3_tiny", "in_channels": 4, "num_classes": 5, **size}
    source = build(config)
    torch.save({f"backbone.{name}": weight for name, weight in source.state_dict().items()}, tmp_path / "a.pth")
    export(tmp_path / "a.pth", tmp_path / "b.safetensors", config={"model": {"type": "Any", "backbone": config}})
    again = create_model(pretrained=tmp_path / "b.safetensors")
    assert again.out_channels == 5
    assert_same(again, source)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"part": "decoder"}, r"has no weights under 'decoder'\. It has encoder\."),
        ({"part": "encoder.projection"}, None),
        ({"part": "encoder.backbone.down"}, r"has no dict\(type=\.\.\.\) at model\.encoder\.backbone\.down\. Give"),
        ({"output": "backbone.pth"}, r"must be named \*\.safetensors: got .*backbone\.pth"),
        ({"config": {"imports": ["no_such_plugin"]}}, r"'no_such_plugin' is not"),
    ],
)
def test_what_cannot_be_exported_is_explained(pretrained, tmp_path, change, message):
    output = tmp_path / change.pop("output", "b.safetensors")
    if message is None:
        export(pretrained[0], output, **change)
        return
    with pytest.raises(ValueError, match=message):
        export(pretrained[0], output, **change)
    assert not output.exists()


def test_a_config_that_cannot_be_read_is_never_executed(pretrained, tmp_path):
    checkpoint = {"state_dict": {"backbone.a": torch.zeros(1)}, "config": "f(model=__import__('os').mkdir('executed'))"}
    torch.save(checkpoint, tmp_path / "a.pth")
    with pytest.raises(
        ValueError, match=r"config in a checkpoint must be readable: that of .*a\.pth is not .*--config"
    ):
        export(tmp_path / "a.pth", tmp_path / "b.safetensors")
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"none of the usual ones \(encoder\.backbone, .*Give --part"):
        export(tmp_path / "a.pth", tmp_path / "b.safetensors")


def test_a_card_comes_back_as_written_and_other_files_have_none(tmp_path):
    card = ModelCard("Name", {"a": 1}, "MIT")
    write_model_file(tmp_path / "a.safetensors", {"x": torch.ones(2, 3).T}, card)
    assert read_model_card(tmp_path / "a.safetensors") == card
    assert torch.equal(safetensors.torch.load_file(tmp_path / "a.safetensors")["x"], torch.ones(3, 2))
    safetensors.torch.save_file({"x": torch.ones(1)}, tmp_path / "b.safetensors", {"format": "pt"})
    assert read_model_card(tmp_path / "b.safetensors") is None
    assert read_model_card(tmp_path / "none.safetensors") is None
    bad = {"config": "[1", "pointcept_version": "0"}
    safetensors.torch.save_file({"x": torch.ones(1)}, tmp_path / "b.safetensors", bad)
    with pytest.raises(ValueError, match=r"must be JSON with a type: .*b\.safetensors has '\[1'"):
        read_model_card(tmp_path / "b.safetensors")


def test_mistakes_are_explained(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    for call, error, message in (
        (lambda: create_model(), ValueError, r"needs a name or pretrained: got neither"),
        (
            lambda: create_model(pretrained=tmp_path / "a.pth"),
            ValueError,
            r"does not say which model it holds: got .*a\.pth",
        ),
        (lambda: create_model("SpUNet-v1m2x", in_channels=6), ValueError, r"Did you mean .*'SpUNet-v1m1'"),
        (
            lambda: create_model("SparseUNet", in_channel=6),
            ValueError,
            r"got 'in_channel'\. Did you mean 'in_channels'",
        ),
        (
            lambda: create_model("SparseUNet", pretrained=tmp_path / "no.pth", in_channels=6),
            FileNotFoundError,
            r"there is no file .*no\.pth",
        ),
    ):
        with pytest.raises(error, match=message):
            call()


def test_the_command_line_runs(pretrained, tmp_path):
    command = [
        sys.executable,
        "-m",
        "pointcept.export",
        str(pretrained[0]),
        "--output",
        str(tmp_path / "b.safetensors"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.startswith("Wrote SpUNet-v1m1 (")
