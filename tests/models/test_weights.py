"""Checkpoints of the field in, by name: prefixes, reports, refusals, the Hub."""

import logging
import sys
import types
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from pointcept import create_model
from pointcept.models.backbones import SparseUNet
from pointcept.models.hub import local_file
from pointcept.models.weights import load_weights

SMALL = {"base_channels": 4, "channels": (4, 6, 6, 4), "layers": (1, 1, 1, 1)}


def unet(in_channels=3, **arguments):
    return SparseUNet(in_channels, **{**SMALL, **arguments})


class Wrapper(nn.Module):
    """A model with a backbone inside, as a segmentation model or a pre-training model has it."""

    def __init__(self, backbone):
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.backbone = backbone
        self.head = nn.Linear(4, 2)


def prefixed(weights, prefix):
    return {f"{prefix}{name}": weight for name, weight in weights.items()}


def assert_same(first, second):
    torch.testing.assert_close(dict(first.state_dict()), dict(second.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "student.backbone.", "encoder.backbone.", "a.b.c."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_any_prefix_of_the_field_is_found(tmp_path, prefix, suffix):
    source, target = unet(), unet()
    weights = prefixed(source.state_dict(), prefix) | {
        "module.other" if prefix == "module." else "other": torch.zeros(3)
    }
    path = tmp_path / f"a{suffix}"
    if suffix == ".pth":
        torch.save({"model": {"state_dict": weights}, "epoch": 3}, path)
    else:
        safetensors.torch.save_file(weights, path)
    match = load_weights(target, path)
    assert_same(source, target)
    assert not match.missing and not match.mismatched
    assert match.unexpected + match.outside == ("other",)


def test_five_dimensional_weights_are_taken_as_they_are(tmp_path):
    source, target = unet(), unet()
    assert source.conv_input[0].weight.shape == (4, 5, 5, 5, 3)  # spconv 2: out, kx, ky, kz, in
    torch.save({"state_dict": prefixed(source.state_dict(), "module.backbone.")}, tmp_path / "a.pth")
    load_weights(target, tmp_path / "a.pth", strict=True)
    assert torch.equal(target.conv_input[0].weight, source.conv_input[0].weight)


def test_of_student_and_teacher_the_student_is_taken_wherever_it_stands(tmp_path, caplog):
    student, teacher, target = unet(), unet(), unet()
    weights = prefixed(teacher.state_dict(), "teacher.backbone.") | prefixed(student.state_dict(), "student.backbone.")
    torch.save({"state_dict": weights}, tmp_path / "sonata.pth")
    with caplog.at_level(logging.INFO, logger="pointcept"):
        load_weights(target, tmp_path / "sonata.pth")
    assert_same(student, target)
    assert "student.backbone.* of the file was taken for the model." in caplog.text
    count = len(student.state_dict())
    assert f"{count} weights of the file lie elsewhere and are ignored: teacher ({count})" in caplog.text
    load_weights(target, tmp_path / "sonata.pth", keywords="teacher.backbone.", replacement="")
    assert_same(teacher, target)


@pytest.mark.parametrize("prefix", ["", "student.backbone."])
def test_a_backbone_loads_into_the_model_around_it(tmp_path, prefix, caplog):
    source, model = unet(), Wrapper(unet())
    torch.save(prefixed(source.state_dict(), prefix), tmp_path / "a.pth")
    with caplog.at_level(logging.INFO, logger="pointcept"):
        match = load_weights(model, tmp_path / "a.pth")
    assert_same(source, model.encoder.backbone)
    assert match.missing == ("head.weight", "head.bias")
    assert f"{prefix}* of the file was taken for the model's encoder.backbone.*." in caplog.text
    with pytest.raises(ValueError, match=r"must fit the model exactly: .* 2 missing \(head\.weight, head\.bias\)"):
        load_weights(model, tmp_path / "a.pth", strict=True)


def test_names_as_they_are_win_over_a_prefix(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)))
    source = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)))
    torch.save(source.state_dict(), tmp_path / "a.pth")
    assert load_weights(model, tmp_path / "a.pth", strict=True).outside == ()
    assert_same(source, model)


class Prompted(nn.Module):
    """A backbone with context vectors, which Pointcept keeps beside it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.embedding_table = nn.Embedding(2, 3)


@pytest.mark.parametrize("prefix", ["", "module.", "student."])
def test_context_vectors_beside_the_backbone_are_found(tmp_path, prefix):
    source, target = Prompted(), Prompted()
    backbone = {f"backbone.{name}": weight for name, weight in source.layer.state_dict(prefix="layer.").items()}
    weights = backbone | {"embedding_table.weight": source.embedding_table.weight.detach(), "head": torch.zeros(1)}
    torch.save({"state_dict": prefixed(weights, prefix)}, tmp_path / "ppt.pth")
    match = load_weights(target, tmp_path / "ppt.pth", strict=True)
    assert_same(source, target)
    assert match.outside == ("student.head" if prefix == "student." else "head",)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_context_vectors_and_class_head_beside_the_backbones_that_have_them(tmp_path, prefix):
    stages = {"enc_depths": (1, 1), "enc_channels": (4, 4), "enc_num_head": (1, 1), "enc_patch_size": (8, 8)}
    stages |= {"dec_depths": (1,), "dec_channels": (4,), "dec_num_head": (1,), "dec_patch_size": (8,), "stride": (2,)}
    prompted = {"pdnorm_bn": True, "pdnorm_adaptive": True}
    for name, beside, arguments in (
        ("SpUNet-v1m3", ("embedding_table.weight",), SMALL),
        ("PT-v3m1", ("embedding_table.weight", "seg_head.weight", "seg_head.bias"), stages | prompted),
        ("PT-v3m2", ("seg_head.weight", "seg_head.bias"), stages),
    ):
        classes = {"num_classes": 5} if "seg_head.bias" in beside else {}
        source, target = (create_model(name, in_channels=3, **classes, **arguments) for _ in range(2))
        weights = {key if key in beside else f"backbone.{key}": value for key, value in source.state_dict().items()}
        torch.save({"state_dict": prefixed(weights, prefix)}, tmp_path / "a.pth")
        load_weights(target, tmp_path / "a.pth", strict=True)
        assert_same(source, target)


def test_prompt_norms_are_matched_by_the_names_of_their_data_sets(tmp_path, caplog):
    source = create_model("SpUNet-v1m3", in_channels=3, conditions=("ScanNet", "S3DIS"), norm_affine=True, **SMALL)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.normal_()
    config = {"model": {"backbone": {"type": "SpUNet-v1m3", "conditions": ["ScanNet", "S3DIS"]}}}
    torch.save({"state_dict": source.state_dict(), "config": config}, tmp_path / "a.pth")
    names = ("S3DIS", "Structured3D", "ScanNet")
    target = create_model("SpUNet-v1m3", in_channels=3, conditions=names, norm_affine=True, **SMALL)
    own = target.embedding_table.weight.detach().clone()
    match = load_weights(target, tmp_path / "a.pth")
    assert "lists its data sets as ScanNet, S3DIS: matched by name" in caplog.text
    loaded, given = target.state_dict(), source.state_dict()
    assert torch.equal(loaded["embedding_table.weight"][[2, 0]], given["embedding_table.weight"])
    assert torch.equal(loaded["embedding_table.weight"][1], own[1])  # the file has none
    for theirs, ours in ((0, 2), (1, 0)):
        name = "conv_input.bn.bns.{}.weight"
        assert torch.equal(loaded[name.format(ours)], given[name.format(theirs)])
    assert match.missing and all(".bns.1." in name for name in match.missing)
    assert match.mismatched == match.unexpected == ()


def test_data_sets_that_a_file_does_not_name_are_told(tmp_path, caplog):
    source, target = (create_model("SpUNet-v1m3", in_channels=3, **SMALL) for _ in range(2))
    torch.save(source.state_dict(), tmp_path / "a.pth")
    load_weights(target, tmp_path / "a.pth", strict=True)
    assert_same(source, target)
    assert "does not say which data sets its norms belong to: taken for ScanNet, S3DIS, Structured3D" in caplog.text
    torch.save({"state_dict": source.state_dict(), "config": {"model": {}}}, tmp_path / "b.pth")
    caplog.clear()
    load_weights(target, tmp_path / "b.pth", strict=True)
    assert "does not say" not in caplog.text


def test_another_width_is_reported_with_both_shapes(tmp_path, caplog):
    torch.save(unet(num_classes=5).state_dict(), tmp_path / "a.pth")
    target = unet(num_classes=7)
    match = load_weights(target, tmp_path / "a.pth")
    assert match.mismatched == ("final.weight", "final.bias")
    assert "final.bias ((5,) in the file, (7,) in the model)" in caplog.text


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    wider = {"base_channels": 8, "channels": (8, 12, 12, 8)}
    torch.save(unet(in_channels=6, **wider).state_dict(), tmp_path / "wide.pth")  # only the batch counters fit
    with pytest.raises(
        ValueError, match=r"nothing in .*wide\.pth does\. Of another shape: conv_input\.0\.weight \(\(8, 5"
    ):
        load_weights(unet(), tmp_path / "wide.pth")
    torch.save({"encoder.layer.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"Its names: encoder\.layer\.weight; the model's: conv_input\.0\.weight"):
        load_weights(unet(), tmp_path / "other.pth")


class NoSuchFile(OSError):
    """What huggingface_hub raises, in place of its own."""


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub with three repositories, on the disk."""
    repositories = {
        "field/one": ["README.md", "weights/one.pth"],
        "field/two": ["a.pth", "b.safetensors"],
        "field/named": ["a.pth", "model.safetensors"],
    }

    def hf_hub_download(repository, file):
        if file not in repositories.get(repository, ()):
            raise NoSuchFile("404 not found\nmore")
        return str(tmp_path / repository.replace("/", "--") / file)

    package = types.ModuleType("huggingface_hub")
    package.hf_hub_download = hf_hub_download
    package.list_repo_files = lambda repository: repositories[repository] if repository in repositories else fail()
    errors = types.ModuleType("huggingface_hub.errors")
    errors.HfHubHTTPError = NoSuchFile

    def fail():
        raise NoSuchFile("repository not found")

    monkeypatch.setitem(sys.modules, "huggingface_hub", package)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    return tmp_path


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("hf://field/two/a.pth", "field--two/a.pth"),
        ("hf://field/one/weights/one.pth", "field--one/weights/one.pth"),
        ("field/one", "field--one/weights/one.pth"),
        ("hf://field/one", "field--one/weights/one.pth"),
        ("field/named", "field--named/model.safetensors"),
    ],
)
def test_hub_ids_lead_to_files(hub, source, expected):
    assert local_file(source) == hub / expected


def test_paths_stay_paths(hub, monkeypatch):
    monkeypatch.chdir(hub)
    for path in ("model/last.pth", "/a/b.safetensors", "a.pth", Path("field/one")):
        assert local_file(path) == Path(path)
    (hub / "field").mkdir()
    (hub / "field" / "one").touch()
    assert local_file("field/one") == Path("field/one")


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("hf://field", ValueError, r"must be hf://owner/name/file: got 'hf://field'"),
        ("field/two", ValueError, r"field/two has 2 \(a\.pth, b\.safetensors\)\. Write hf://field/two/<file>"),
        (
            "hf://field/one/x.pth",
            FileNotFoundError,
            r"'hf://field/one/x\.pth' .*from field/one \(404 not found\)\. Check",
        ),
        ("field/none", FileNotFoundError, r"'field/none' is no file here and could .* \(repository not found\)"),
    ],
)
def test_what_the_hub_does_not_have_is_explained(hub, source, error, message):
    with pytest.raises(error, match=message):
        local_file(source)


def test_without_the_package_a_hub_id_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"'field/one' was asked for\. Install it with pip install huggingface_hub"):
        local_file("field/one")


def test_the_real_package_has_what_is_used_of_it():
    huggingface_hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub comes with timm")
    from huggingface_hub.errors import HfHubHTTPError

    assert callable(huggingface_hub.hf_hub_download) and callable(huggingface_hub.list_repo_files)
    assert issubclass(HfHubHTTPError, Exception)
