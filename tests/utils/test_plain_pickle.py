"""Pickles of arrays and plain values load; those that would execute something are refused and named."""

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from pointcept.utils.plain_pickle import load_pickle, load_torch_file

CONTENT = {
    "coord": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "flags": np.array([True, False]),
    "names": np.array(["car", "bus"]),
    "scalar": np.float64(2.5),
    "list": [1, "two", None, (3.0,)],
}


def require_same(loaded: dict, wanted: dict) -> None:
    assert loaded.keys() == wanted.keys()
    for key, value in wanted.items():
        np.testing.assert_array_equal(loaded[key], value, err_msg=key) if key != "list" else None
        assert type(loaded[key]) is type(value)
    assert loaded["list"] == wanted["list"]


class Planted:
    def __reduce__(self):
        return (os.mkdir, ("planted",))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_plain_data(tmp_path, protocol):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(CONTENT, protocol=protocol))
    require_same(load_pickle(tmp_path / "a.pkl"), CONTENT)


@pytest.mark.parametrize("name", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_arrays_of_both_generations_of_numpy(tmp_path, name):
    written = pickle.dumps(CONTENT, protocol=2)
    renamed = written.replace(b"numpy._core.multiarray", name).replace(b"numpy.core.multiarray", name)
    (tmp_path / "a.pkl").write_bytes(renamed)
    require_same(load_pickle(tmp_path / "a.pkl"), CONTENT)
    torch.save(CONTENT, tmp_path / "written.pth")
    with zipfile.ZipFile(tmp_path / "written.pth") as source, zipfile.ZipFile(tmp_path / "a.pth", "w") as target:
        for entry in source.namelist():
            part = source.read(entry)
            if entry.endswith("data.pkl"):
                part = part.replace(b"numpy._core.multiarray", name).replace(b"numpy.core.multiarray", name)
            target.writestr(entry, part)
    require_same(load_torch_file(tmp_path / "a.pth"), CONTENT)


def test_tensors_of_torch_files(tmp_path):
    torch.save({"a": torch.arange(3), "b": CONTENT["coord"]}, tmp_path / "a.pth")
    loaded = load_torch_file(tmp_path / "a.pth")
    assert loaded["a"].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(loaded["b"], CONTENT["coord"])


@pytest.mark.parametrize("content", [Planted(), [np.ones(2), Planted()], {"x": np.array([Planted()], dtype=object)}])
def test_nothing_is_executed(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=r"a\.pkl must hold lists, dicts, .* only: it names posix\.mkdir\."):
        load_pickle(tmp_path / "a.pkl")
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth must hold tensors, NumPy arrays, .* only: it names posix\.mkdir\."):
        load_torch_file(tmp_path / "a.pth")
    assert not Path("planted").exists()


def test_missing_and_damaged_files_are_named(tmp_path):
    torch.save(CONTENT, tmp_path / "whole.pth")
    for load, written in (
        (load_pickle, pickle.dumps(CONTENT)),
        (load_torch_file, (tmp_path / "whole.pth").read_bytes()),
    ):
        with pytest.raises(FileNotFoundError, match=r"A file must exist: .*gone does not"):
            load(tmp_path / "gone")
        (tmp_path / "cut").write_bytes(written[: len(written) // 2])
        with pytest.raises(ValueError, match=r"cut must hold "):
            load(tmp_path / "cut")
