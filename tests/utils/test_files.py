import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from pointcept.utils.files import atomic_array, atomic_write, write_text


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with atomic_write(path) as file:
        file.write(b"ne")
        file.flush()
        assert path.read_text() == "old"
        file.write(b"w")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_error_in_the_block_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(KeyError), atomic_write(path) as file:
        file.write(b"half")
        raise KeyError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing/a\.txt must be writable: No such file or directory"):
        write_text(tmp_path / "missing" / "a.txt", "text")


def test_what_an_interrupted_write_left_behind_is_overwritten(tmp_path):
    (tmp_path / ".a.txt.tmp").write_text("from a killed process, and longer than the new content")
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_array_is_filled_in_any_order_and_replaces_the_file_whole(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(3))
    with atomic_array(path, (4, 2), np.float16) as array:
        array[[3, 1]] = [[1, 2], [3, 4]]
        array[0] = 0.5
        np.testing.assert_array_equal(np.load(path), [0, 1, 2])
    filled = np.load(path, allow_pickle=False)
    assert filled.dtype == np.float16
    np.testing.assert_array_equal(filled, [[0.5, 0.5], [3, 4], [0, 0], [1, 2]])
    assert os.listdir(tmp_path) == ["a.npy"]


def test_an_array_without_room_on_the_disk_is_refused_before_it_is_filled(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=15))
    with pytest.raises(OSError, match=r"a\.npy must be writable: No space left on device"):
        with atomic_array(tmp_path / "a.npy", (4, 2), np.float16):
            pytest.fail("16 bytes do not fit into 15")
    assert os.listdir(tmp_path) == []
