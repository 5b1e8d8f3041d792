"""The doctor: its tables, what it suggests, and that a wrong back end makes it fail."""

import subprocess
import sys

import pytest
import torch

from pointcept import doctor
from pointcept.ops import neighbors
from pointcept.ops.backends import NEIGHBORS, SPARSE
from pointcept.ops.sparse import accelerated


@pytest.fixture(autouse=True)
def no_choice(monkeypatch):
    for operation in (NEIGHBORS, SPARSE):
        monkeypatch.delenv(operation.variable, raising=False)


def test_a_healthy_machine(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "available_devices", lambda: ["cpu"])
    assert doctor.main() == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [" ".join(line.split()) for line in lines]
    assert lines[0] == "Installed"
    assert f"torch {doctor.version_of('torch')} everything" in rows
    chosen = "native" if SPARSE.is_installed("native") else "torch"
    assert "neighbours cpu scipy" in rows and f"sparse convolution cpu {chosen}" in rows
    for check in ("sparse convolution torch", "neighbours torch", "neighbours scipy", "farthest points torch"):
        assert any(row.startswith(f"{check} cpu ok difference ") for row in rows), check
    assert lines[-1] == "All self-checks passed."


def test_a_wrong_back_end_fails(monkeypatch, capsys):
    search = neighbors._SEARCHES["scipy"]
    monkeypatch.setitem(neighbors._SEARCHES, "scipy", lambda *arguments: search(*arguments).flip(0))
    monkeypatch.setattr(doctor, "available_devices", lambda: ["cpu"])
    assert doctor.main() == 1
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert any(row.startswith("neighbours scipy cpu FAILED difference ") for row in rows)
    assert any(row.startswith("neighbours torch cpu ok ") for row in rows)
    assert rows[-1].startswith("1 of ")


def test_a_back_end_that_raises_fails(monkeypatch, capsys):
    def fail(*arguments):
        raise RuntimeError("no kernel image\nmore")

    monkeypatch.setitem(neighbors._SEARCHES, "scipy", fail)
    monkeypatch.setattr(doctor, "available_devices", lambda: ["cpu"])
    assert doctor.main() == 1
    assert "FAILED  RuntimeError: no kernel image\n" in capsys.readouterr().out


def test_sparse_back_ends_are_checked_in_every_type_they_have(monkeypatch, capsys):
    """The check runs what is named, and tells right from wrong: here plain torch is named twice, and once disturbed."""
    monkeypatch.setattr(doctor, "available_devices", lambda: ["cpu"])
    monkeypatch.setattr(accelerated, "backends_on", lambda device: ["torch"])
    assert doctor.main() == 0
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert any(row.startswith("sparse convolution, float32 torch cpu ok difference 0.0e+00") for row in rows)
    right = doctor.sparse_convolution
    monkeypatch.setattr(accelerated, "backends_on", lambda device: ["spconv"])
    monkeypatch.setattr(
        doctor, "sparse_convolution", lambda *a, backend: right(*a, backend="torch") + 0.1 * (backend == "spconv")
    )
    assert doctor.main() == 1
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert any(row.startswith("sparse convolution, float32 spconv cpu FAILED difference ") for row in rows)


@pytest.mark.skipif(not SPARSE.is_installed("native"), reason="there is no C compiler")
def test_the_compiled_convolution_passes_its_check():
    assert doctor.native_state() == "compiled"
    assert doctor.sparse_backend_difference("native", "cpu", torch.float32) < 1e-5


@pytest.mark.skipif(not SPARSE.is_installed("spconv"), reason="spconv is not installed")
def test_spconv_passes_its_check():
    assert "spconv" in accelerated.backends_on("cpu")
    assert doctor.sparse_backend_difference("spconv", "cpu", torch.float32) < 1e-5


def test_choices_on_a_gpu(monkeypatch):
    monkeypatch.setattr(accelerated, "_works_on", lambda name, device: device.type == "cuda")
    listed = [choice for choice in doctor.choices(["cpu", "cuda"]) if choice[0].startswith("sparse convolution, ")]
    assert [device for _, device, _ in listed] == ["cuda"] * 3
    chosen = {operation: choose() for operation, _, choose in listed}
    assert chosen["sparse convolution, float32"] == "spconv"
    assert chosen["sparse convolution, bfloat16"] == "spconv_triton"


def test_a_wrong_setting_is_told(monkeypatch, capsys):
    monkeypatch.setenv(NEIGHBORS.variable, "scypi")
    assert doctor.main() == 1
    assert "Wrong: POINTCEPT_NEIGHBORS must be one of auto, " in capsys.readouterr().out


@pytest.mark.parametrize("difference", [float("nan"), 1.0])
def test_a_difference_counts_and_so_does_nan(difference):
    check = doctor.Check(
        "x", "y", "cpu", lambda: doctor._relative_difference(torch.tensor([1 + difference]), torch.ones(1))
    )
    assert doctor.outcome(check)[0] == "FAILED"
    shapes = doctor.Check("x", "y", "cpu", lambda: doctor._relative_difference(torch.ones(2), torch.ones(1)))
    assert doctor.outcome(shapes) == ("FAILED", "ValueError: shapes differ: (2,) and (1,)")


def test_versions(tmp_path, monkeypatch):
    (tmp_path / "broken_binary.py").write_text("raise OSError('undefined symbol: x\\nmore')\n")
    (tmp_path / "broken_needs.py").write_text("import no_such_module\n")
    (tmp_path / "fine_module.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert doctor.version_of("no_such_module") == "not installed"
    assert doctor.version_of("broken_binary") == "broken: undefined symbol: x"
    assert doctor.version_of("broken_needs") == "broken: No module named 'no_such_module'"
    assert doctor.version_of("fine_module") == "unknown"
    assert doctor.version_of("torch").startswith(torch.__version__.split("+")[0])


def test_suggestions(monkeypatch):
    monkeypatch.setattr(doctor, "version_of", lambda name: "not installed")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    monkeypatch.setattr(doctor, "native_state", lambda: "not compiled: no compiler")
    assert doctor.suggestions(["cpu", "cuda"]) == [
        "neighbours on the GPU: pip install torch-cluster",
        "sparse convolution on the GPU: pip install spconv-cu126, or pip install spconv-triton",
        "sparse convolution on the CPU: install a C compiler, such as gcc",
        "torch uses 1 of 2 cores: raise OMP_NUM_THREADS",
    ]
    monkeypatch.setattr(doctor.os.path, "exists", lambda path: path == "/dev/nvidia0")
    assert "install a CUDA build" in doctor.suggestions(["cpu"])[1]


def test_a_table_is_aligned():
    assert doctor.table("T", ("a", "bb"), [("abc", "y")]) == "T\n  a    bb\n  ---  --\n  abc  y\n\n"


def test_the_command_runs():
    done = subprocess.run(
        [sys.executable, "-m", "pointcept.doctor"], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.startswith("Installed\n")
