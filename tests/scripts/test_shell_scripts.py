"""The shell scripts: what they pass on, what they refuse, and how they set the environment up."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHELL_SCRIPTS = [*sorted((ROOT / "scripts").glob("*.sh")), ROOT / ".ci" / "run"]

# Complete, and prints its arguments instead of doing anything.
COMPLETE_PYTHON = """#!/bin/sh
case $1 in *check_environment.py) exit 0 ;; esac
printf '%s\\n' "$@"
"""

# New enough, without packages. Its virtual environments are complete once pip was asked to install.
BARE_PYTHON = """#!/bin/sh
case "$1 $2" in
    "-c "*) exit 0 ;;
    *check_environment.py*) exit 1 ;;
    "-m venv")
        [ -z "$NO_VENV" ] || { echo "ensurepip is not available" >&2; exit 1; }
        mkdir -p "$3/bin"
        : >"$3/pyvenv.cfg"
        cp "$FAKES/venv_python" "$3/bin/python" ;;
esac
"""

VENV_PYTHON = """#!/bin/sh
here=$(dirname -- "$0")
case "$1 $2" in
    "-c "*) exit 0 ;;
    *check_environment.py*) shift; [ -e "$here/installed" ] ;;
    "-m pip")
        shift 2
        echo "pip $*" >>"$FAKES/log"
        [ -z "$NO_NETWORK" ] || exit 1
        : >"$here/installed" ;;
    *) echo "venv ran $*" ;;
esac
"""


@pytest.fixture
def fakes(tmp_path: Path) -> Path:
    """A folder of fake Pythons beside the tools that the scripts use; nothing else is on the path."""
    folder = tmp_path / "fakes"
    folder.mkdir()
    for tool in ("sh", "dirname", "basename", "cat", "rm", "mkdir", "cp", "getconf"):
        (folder / tool).symlink_to(shutil.which(tool))
    for name, text in (("complete", COMPLETE_PYTHON), ("bare", BARE_PYTHON), ("venv_python", VENV_PYTHON)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the scripts need, in which they may make a .venv."""
    root = tmp_path / "a checkout"
    shutil.copytree(ROOT / "scripts", root / "scripts")
    shutil.copy(ROOT / "setup.py", root)
    return root


def run(
    root: Path,
    fakes: Path,
    *arguments: str,
    cwd: Path | None = None,
    script: str = "train",
    **variables: str,
) -> subprocess.CompletedProcess:
    environment = {"PATH": str(fakes), "FAKES": str(fakes), "NO_VENV": "", "NO_NETWORK": "", **variables}
    command = [str(fakes / "sh"), str(root / "scripts" / f"{script}.sh"), *arguments]
    return subprocess.run(command, cwd=cwd or root, env=environment, capture_output=True, text=True, timeout=300)


def passed_on(
    root: Path, fakes: Path, *arguments: str, cwd: Path | None = None, script: str = "train", **variables: str
) -> list[str]:
    """What the training command, or that of another script, receives."""
    result = run(root, fakes, "-p", str(fakes / "complete"), *arguments, cwd=cwd, script=script, **variables)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[:2] == ["-m", f"pointcept.{script}"]
    return lines[2:]


def flag(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


@pytest.mark.parametrize("script", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_syntax_is_portable(script: Path) -> None:
    for shell in filter(shutil.which, ("sh", "dash", "busybox")):
        command = [shell, "sh", "-n", str(script)] if shell == "busybox" else [shell, "-n", str(script)]
        subprocess.run(command, check=True)
    assert not re.search(r"\[\[|\bfunction\b|\blocal\b|<<<|\$'", script.read_text()), "not in POSIX sh"


def test_help_lists_every_flag(fakes: Path, checkout: Path) -> None:
    result = run(checkout, fakes, "-h")
    assert result.returncode == 0
    for name in ("-p", "-d", "-c", "-n", "-w", "-r", "-g", "-m", "--options", "--overwrite"):
        assert re.search(rf"^  {name} ", result.stdout, flags=re.MULTILINE), name


@pytest.mark.parametrize(
    ("arguments", "config", "save_path"),
    [
        (["-c", "demo/pretrain-a"], "demo/pretrain-a", "exp/demo/pretrain-a"),
        (["-c", "demo/pretrain-a", "-n", "first"], "demo/pretrain-a", "exp/demo/first"),
        (["-d", "demo", "-c", "pretrain-a"], "demo/pretrain-a", "exp/demo/pretrain-a"),
        (["-d", "demo", "-c", "pretrain-a", "-n", "x y"], "demo/pretrain-a", "exp/demo/x y"),
        (["-c", "configs/rooms/b.py"], "{root}/configs/rooms/b.py", "exp/rooms/b"),
        (["-d", "other", "-c", "configs/rooms/b.py"], "{root}/configs/rooms/b.py", "exp/other/b"),
    ],
)
def test_configs_and_names(fakes: Path, checkout: Path, arguments: list[str], config: str, save_path: str) -> None:
    (checkout / "configs" / "rooms").mkdir(parents=True)
    (checkout / "configs" / "rooms" / "b.py").touch()
    received = passed_on(checkout, fakes, *arguments)
    assert flag(received, "--config-file") == config.format(root=checkout)
    assert flag(received, "--options") == f"save_path='{save_path}'"
    assert "--num-gpus" not in received


def test_help_of_the_evaluation_lists_every_flag(fakes: Path, checkout: Path) -> None:
    result = run(checkout, fakes, "-h", script="test")
    assert result.returncode == 0
    for name in ("-p", "-d", "-c", "-n", "-w", "-g", "-m", "--options"):
        assert re.search(rf"^  {name} ", result.stdout, flags=re.MULTILINE), name


@pytest.mark.parametrize(
    ("arguments", "config", "save_path", "weight"),
    [
        (
            ["-d", "demo", "-n", "first"],
            "exp/demo/first/config.py",
            "exp/demo/first",
            "exp/demo/first/model/model_best",
        ),
        (["-c", "demo/semseg-a"], "demo/semseg-a", "exp/demo/semseg-a", "exp/demo/semseg-a/model/model_best"),
        (["-d", "demo", "-c", "b", "-n", "x"], "demo/b", "exp/demo/x", "exp/demo/x/model/model_best"),
        (["-c", "demo/b", "-w", "model_last"], "demo/b", "exp/demo/b", "exp/demo/b/model/model_last"),
        (["-c", "demo/b", "-w", "model_last.pth"], "demo/b", "exp/demo/b", "exp/demo/b/model/model_last"),
        (["-c", "demo/b", "-w", "mine.pth"], "demo/b", "exp/demo/b", "{root}/mine"),
    ],
)
def test_the_evaluation_finds_config_and_checkpoint(
    fakes: Path, checkout: Path, arguments: list[str], config: str, save_path: str, weight: str
) -> None:
    (checkout / "exp" / "demo" / "first").mkdir(parents=True)
    (checkout / "exp" / "demo" / "first" / "config.py").touch()
    (checkout / "mine.pth").touch()
    received = passed_on(checkout, fakes, *arguments, "-g", "2", "--options", "seed=1", script="test")
    assert flag(received, "--config-file") == config and flag(received, "--num-gpus") == "2"
    expected = [f"save_path='{save_path}'", f"weight='{weight.format(root=checkout)}.pth'", "resume=False", "seed=1"]
    assert received[received.index("--options") + 1 :] == expected


def test_an_evaluation_of_nothing_is_refused(fakes: Path, checkout: Path) -> None:
    wrong = {
        (): "error: -n must name an experiment, or -c a config.",
        ("-d", "demo", "-n", "gone"): f"error: There is no experiment in {checkout}/exp/demo/gone.",
        ("-r", "true"): "error: There is no flag -r. See sh scripts/test.sh -h.",
        ("-c",): "error: -c needs a value. See sh scripts/test.sh -h.",
    }
    for arguments, message in wrong.items():
        result = run(checkout, fakes, *arguments, script="test")
        assert result.returncode == 1 and result.stderr.startswith(message)


def test_files_are_found_from_where_the_script_was_called(fakes: Path, checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("own.py", "weights.pth"):
        (tmp_path / "mine" / name).touch()
    received = passed_on(checkout, fakes, "-c", "own.py", "-w", "weights.pth", cwd=tmp_path / "mine")
    assert flag(received, "--config-file") == str(tmp_path / "mine" / "own.py")
    assert received[-1] == f"weight='{tmp_path}/mine/weights.pth'"


def test_flags_and_options_are_passed_on(fakes: Path, checkout: Path) -> None:
    received = passed_on(
        checkout, fakes, "-c", "demo/a", "-g", "2", "--overwrite", "--options", "epoch=2", "model.names=['a b', 'c']"
    )
    assert flag(received, "--num-gpus") == "2"
    assert "--overwrite" in received
    assert received[-3:] == ["save_path='exp/demo/a'", "epoch=2", "model.names=['a b', 'c']"]


def test_machines(fakes: Path, checkout: Path) -> None:
    common = ["-c", "demo/a", "-m", "2", "--dist-url", "tcp://first:29500"]
    received = passed_on(checkout, fakes, *common, "--machine-rank", "1")
    assert [flag(received, f"--{name}") for name in ("num-machines", "machine-rank", "dist-url")] == [
        "2",
        "1",
        "tcp://first:29500",
    ]
    assert flag(passed_on(checkout, fakes, *common, SLURM_NODEID="1"), "--machine-rank") == "1"
    assert flag(passed_on(checkout, fakes, "-c", "demo/a", SLURM_NODEID="1"), "--machine-rank") == "0"


def test_resuming_uses_the_experiments_own_config(fakes: Path, checkout: Path) -> None:
    (checkout / "exp" / "demo" / "first").mkdir(parents=True)
    (checkout / "exp" / "demo" / "first" / "config.py").touch()
    received = passed_on(checkout, fakes, "-d", "demo", "-n", "first", "-r", "true", "--options", "epoch=9")
    assert flag(received, "--config-file") == "exp/demo/first/config.py"
    assert received[-3:] == ["save_path='exp/demo/first'", "resume=True", "epoch=9"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "-c must name a config"),
        (["-c"], "-c needs a value"),
        (["-x", "1"], "There is no flag -x"),
        (["-c", "demo/a", "-r", "yes"], "-r must be true or false: got yes"),
        (["-c", "demo/a", "-m", "two"], "-m must be a number: got two"),
        (["-c", "demo/a", "-r", "true"], "There is no experiment to resume in {root}/exp/demo/a"),
    ],
)
def test_wrong_flags_are_explained(fakes: Path, checkout: Path, arguments: list[str], message: str) -> None:
    result = run(checkout, fakes, "-p", str(fakes / "complete"), *arguments)
    assert result.returncode == 1
    assert f"error: {message.format(root=checkout)}" in result.stderr


def test_a_complete_python_is_used_as_it_is(fakes: Path, checkout: Path) -> None:
    (fakes / "python").symlink_to(fakes / "complete")
    assert run(checkout, fakes, "-c", "demo/a").stdout.startswith("-m\npointcept.train\n")
    assert not (checkout / ".venv").exists()


def test_a_bare_python_makes_a_venv_once(fakes: Path, checkout: Path) -> None:
    (fakes / "python3.11").symlink_to(fakes / "bare")
    for _ in range(2):
        result = run(checkout, fakes, "-c", "demo/a")
        assert result.stdout.startswith("venv ran -m pointcept.train --config-file demo/a"), result.stderr
    assert (fakes / "log").read_text() == f"pip install -e {checkout}\n"
    assert not (checkout / ".venv" / ".unfinished").exists()


def test_a_failed_installation_is_explained_and_made_anew(fakes: Path, checkout: Path) -> None:
    (fakes / "python3").symlink_to(fakes / "bare")
    result = run(checkout, fakes, "-c", "demo/a", NO_NETWORK="1")
    assert result.returncode == 1
    assert "error: The packages could not be installed; pip says why above. Check the network" in result.stderr
    (checkout / ".venv" / "leftover").touch()
    result = run(checkout, fakes, "-c", "demo/a")
    assert "which was left unfinished" in result.stderr
    assert result.stdout.startswith("venv ran -m pointcept.train")
    assert not (checkout / ".venv" / "leftover").exists()


def test_an_interrupted_venv_does_not_pass_as_complete(fakes: Path, checkout: Path) -> None:
    (fakes / "python3").symlink_to(fakes / "bare")
    run(checkout, fakes, "-c", "demo/a")
    (checkout / ".venv" / ".unfinished").touch()
    assert "which was left unfinished" in run(checkout, fakes, "-c", "demo/a").stderr


def test_a_venv_that_lacks_a_new_package_is_completed(fakes: Path, checkout: Path) -> None:
    (fakes / "python3").symlink_to(fakes / "bare")
    run(checkout, fakes, "-c", "demo/a")
    (checkout / ".venv" / "bin" / "installed").unlink()
    (checkout / ".venv" / "kept").touch()
    assert run(checkout, fakes, "-c", "demo/a").returncode == 0
    assert (checkout / ".venv" / "kept").exists()


def test_no_python_and_no_venv_module_are_explained(fakes: Path, checkout: Path) -> None:
    assert (
        "error: Python 3.10 or newer is needed: found none among python3.13" in run(checkout, fakes, "-c", "a/b").stderr
    )
    (fakes / "python3.10").symlink_to(fakes / "bare")
    result = run(checkout, fakes, "-c", "a/b", NO_VENV="1")
    assert "error: No virtual environment could be made with python3.10" in result.stderr
    assert "apt install python3-venv" in result.stderr
    assert not (checkout / ".venv").exists()


def test_the_check_of_an_environment_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "check_environment.py", tmp_path / "scripts")
    (tmp_path / "setup.py").write_text(
        'CORE = ["numpy>=1.26", "torch>=99.1", "no-such-package"]\n'
        'EXTRAS = {"dev": ["pytest>=999"], "docs": ["absent"]}\n'
    )
    command = [sys.executable, str(tmp_path / "scripts" / "check_environment.py"), "dev"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 1
    assert re.fullmatch(
        r"torch is \S+, but must be 99\.1 or newer, no-such-package is missing, "
        r"pytest is \S+, but must be 999 or newer\n",
        result.stderr,
    )


def test_the_running_environment_is_complete() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "check_environment.py"), "dev"]
    subprocess.run(command, check=True, timeout=300)


def train(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The real script with the real Python."""
    command = ["sh", str(ROOT / "scripts" / "train.sh"), "-p", sys.executable, *arguments]
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE")}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def test_a_wrong_config_name_lists_near_ones(tmp_path: Path) -> None:
    result = train(tmp_path, "-c", "_base_/default_runtimes")
    assert result.returncode == 1
    assert result.stderr.startswith(
        "error: A config must be a Python file or a name under configs/: got '_base_/default_run"
    )
    assert len(result.stderr.splitlines()) == 1


def test_a_started_experiment_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "script_test_plugin.py").write_text(
        "from pointcept.registry import DATASETS, MODELS\n\n"
        "@MODELS.register()\nclass ScriptTestNet:\n    def __init__(self, width: int) -> None:\n        pass\n\n"
        "@DATASETS.register()\nclass ScriptTestDataset:\n    def __init__(self) -> None:\n        pass\n"
    )
    (tmp_path / "own.py").write_text(
        'imports = ["script_test_plugin"]\nmodel = dict(type="ScriptTestNet", width=1)\n'
        'data = dict(train=dict(type="ScriptTestDataset"))\noptimizer = dict(type="SGD", lr=0.1)\n'
    )
    save_path = tmp_path / "exp"
    save_path.mkdir()
    (save_path / "config.py").write_text("seed = 1\n")
    result = train(tmp_path, "-c", "own.py", "--options", f"save_path={save_path}")
    assert result.returncode == 1
    assert result.stderr.startswith(
        f"error: An earlier run must not be overwritten: {save_path} holds one that was started."
    )
    assert (save_path / "config.py").read_text() == "seed = 1\n"
