import logging

import pytest

from pointcept.utils import logging as log_output


@pytest.fixture(autouse=True)
def _clean():
    yield
    log_output.remove_log_handlers()


def test_lines_go_to_the_terminal_and_are_appended_to_the_file(tmp_path, capsys):
    path = tmp_path / "train.log"
    path.write_text("earlier\n")
    log_output.configure_logging(path)
    log_output.configure_logging(path)  # replaces, does not double
    logging.getLogger("pointcept").info("step %d", 3)
    lines = path.read_text().splitlines()
    assert lines[0] == "earlier" and len(lines) == 2 and lines[1].endswith("INFO] step 3")
    assert capsys.readouterr().err.count("INFO] step 3") == 1


def test_other_processes_show_warnings_only_and_write_no_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(log_output, "is_main_process", lambda: False)
    log_output.configure_logging(tmp_path / "train.log")
    logging.getLogger("pointcept").info("quiet")
    logging.getLogger("pointcept").warning("loud")
    error_output = capsys.readouterr().err
    assert "loud" in error_output and "quiet" not in error_output
    assert not (tmp_path / "train.log").exists()


def test_removing_keeps_the_handlers_of_others():
    logger = logging.getLogger("pointcept")
    foreign = logging.NullHandler()
    logger.addHandler(foreign)
    log_output.configure_logging()
    log_output.remove_log_handlers()
    assert foreign in logger.handlers and logger.propagate
    logger.removeHandler(foreign)
