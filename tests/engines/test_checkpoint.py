import errno
import logging
import os
import resource

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from pointcept.engines.checkpoint import save_checkpoint
from pointcept.models.checkpoints import load_checkpoint
from pointcept.models.weights import load_weights, match_weights


def model(width=3):
    return nn.Sequential(nn.Linear(2, width), nn.Linear(width, 1))


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path):
    saved = {"state_dict": model().state_dict(), "epoch": 3, "list": [1, 2.5, None], "text": "config"}
    save_checkpoint(tmp_path / "a.pth", saved)
    loaded = load_checkpoint(tmp_path / "a.pth")
    assert torch.equal(loaded["state_dict"]["0.weight"], saved["state_dict"]["0.weight"])
    assert {key: loaded[key] for key in ("epoch", "list", "text")} == {
        "epoch": 3,
        "list": [1, 2.5, None],
        "text": "config",
    }
    assert os.listdir(tmp_path) == ["a.pth"]


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must exist: there is no file .*none\.pth\. Check weight"):
        load_checkpoint(tmp_path / "none.pth")


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_checkpoint_is_named(tmp_path, fraction, suffix):
    path = tmp_path / f"cut{suffix}"
    if suffix == ".pth":
        save_checkpoint(path, {"state_dict": model(100).state_dict()})
    else:
        safetensors.torch.save_file(model(100).state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(ValueError, match=rf"must be a whole file: .*cut\{suffix} \(\d+ bytes\).*cut off"):
        load_checkpoint(path)


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": RunsCode()}, "evil.pth")
    with pytest.raises(ValueError, match=r"evil\.pth asks for code to be run .*mkdir"):
        load_checkpoint("evil.pth")
    assert not (tmp_path / "executed").exists()


def test_numpy_numbers_of_pointcept_checkpoints_load(tmp_path):
    torch.save({"state_dict": model().state_dict(), "best_metric_value": np.float64(0.5)}, tmp_path / "a.pth")
    assert load_checkpoint(tmp_path / "a.pth")["best_metric_value"] == 0.5


def test_something_else_than_a_dict_is_refused(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"must hold a dict: .*list\.pth holds a list"):
        load_checkpoint(tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match=r"must hold weights under 'state_dict'.*has the keys epoch"):
        load_weights(model(), tmp_path / "empty.pth")


def test_a_full_disk_leaves_the_old_checkpoint_whole_and_names_path_and_cause(tmp_path):
    path = tmp_path / "last.pth"
    save_checkpoint(path, {"step": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # a write beyond this fails as on a full disk
    try:
        with pytest.raises(OSError, match=r"last\.pth must be writable: File too large\. The earlier file") as failure:
            save_checkpoint(path, {"step": 2, "state_dict": {"weight": torch.zeros(100_000)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert failure.value.errno == errno.EFBIG
    assert load_checkpoint(path) == {"step": 1}
    assert os.listdir(tmp_path) == ["last.pth"]


def test_no_space_when_flushing_leaves_the_old_checkpoint_whole(tmp_path, monkeypatch):
    path = tmp_path / "last.pth"
    save_checkpoint(path, {"step": 1})

    def no_space(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match=r"last\.pth must be writable: No space left on device.*Free some space"):
        save_checkpoint(path, {"step": 2})
    monkeypatch.undo()
    assert load_checkpoint(path) == {"step": 1}
    assert os.listdir(tmp_path) == ["last.pth"]


@pytest.mark.parametrize("wrap", [lambda w: {"state_dict": w}, lambda w: w, lambda w: {"model": w}])
def test_weights_load_with_and_without_the_prefix_of_data_parallel_training(tmp_path, wrap):
    source, target = model(), model()
    for prefix in ("", "module."):
        weights = {f"{prefix}{name}": weight for name, weight in source.state_dict().items()}
        torch.save(wrap(weights), tmp_path / "a.pth")
        match = load_weights(target, tmp_path / "a.pth", strict=True)
        assert match.is_exact and len(match.matched) == 4
        assert torch.equal(target[0].weight, source[0].weight)


def test_safetensors_load(tmp_path):
    source, target = model(), model()
    safetensors.torch.save_file(source.state_dict(), tmp_path / "a.safetensors")
    load_weights(target, tmp_path / "a.safetensors")
    assert torch.equal(target[1].bias, source[1].bias)


@pytest.mark.parametrize(
    ("keywords", "replacement"), [("student.", ""), ("module.student", "module"), ("dent", "dent")]
)
def test_names_are_mapped_by_keywords(tmp_path, keywords, replacement):
    source, target = model(), model()
    torch.save({f"student.{name}": weight for name, weight in source.state_dict().items()}, tmp_path / "a.pth")
    if keywords == replacement:
        with pytest.raises(ValueError, match=r"nothing in .*a\.pth does\. Its names: student\.0\.weight"):
            load_weights(target, tmp_path / "a.pth", keywords=keywords, replacement=replacement)
        return
    load_weights(target, tmp_path / "a.pth", keywords=keywords, replacement=replacement)
    assert torch.equal(target[0].weight, source[0].weight)


def test_what_does_not_fit_is_listed_by_name_and_the_rest_is_loaded(tmp_path, caplog):
    source = model()
    weights = source.state_dict()
    weights["1.weight"] = torch.zeros(7, 3)
    weights["extra"] = weights.pop("1.bias")
    torch.save(weights, tmp_path / "a.pth")
    target = model()
    before = target[1].weight.clone()
    with caplog.at_level(logging.INFO, logger="pointcept"):
        match = load_weights(target, tmp_path / "a.pth")
    assert (match.missing, match.unexpected, match.mismatched) == (("1.bias",), ("extra",), ("1.weight",))
    assert torch.equal(target[0].bias, source[0].bias) and torch.equal(target[1].weight, before)
    text = caplog.text
    assert "2 of 4 matched" in text
    assert "1 weights of the model are not in the file and keep their initial values: 1.bias" in text
    assert "1 weights of the file are not in the model and are ignored: extra" in text
    assert "1 weights have another shape in the file and keep their initial values: 1.weight" in text
    with pytest.raises(ValueError, match=r"must fit the model exactly: 2 matched, 1 missing \(1\.bias\)"):
        load_weights(target, tmp_path / "a.pth", strict=True)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    torch.save({"state_dict": nn.Conv2d(1, 1, 1).state_dict()}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"must fit the model: nothing in .*other\.pth does.*the model's: 0\.weight"):
        load_weights(model(), tmp_path / "other.pth")


def test_match_counts_every_name_once():
    match = match_weights(model(), model().state_dict())
    assert match.is_exact
    assert match.describe() == "4 matched"
