import itertools
import json

from benchmarks.sides import measured, report, timed


def test_the_first_step_is_not_timed_and_the_last_result_is_given():
    seconds, result = timed(itertools.count(1).__next__, 3, "cpu")
    assert len(seconds) == 3 and min(seconds) >= 0
    assert result == 4


def test_memory_is_what_came_after_the_imports():
    figures, result = measured(lambda: "done", 1, "cpu", before_gb=0.0)
    later, _ = measured(lambda: "done", 1, "cpu", before_gb=figures["memory_gb"])
    assert result == "done" and figures["memory_gb"] > 0.01 > later["memory_gb"] >= 0


def test_figures_are_printed_in_columns_and_written(tmp_path, capsys):
    report({"ms": 2.0, "memory_gb": 0.5}, tmp_path / "figures.json")
    assert capsys.readouterr().out == "ms              2.0000\nmemory_gb       0.5000\n"
    assert json.loads((tmp_path / "figures.json").read_text()) == {"ms": 2.0, "memory_gb": 0.5}
