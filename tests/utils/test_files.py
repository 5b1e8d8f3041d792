import os

import pytest

from pointcept.utils.files import atomic_write, write_text


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
