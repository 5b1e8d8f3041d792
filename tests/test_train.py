"""The training command: what it refuses, and the folder it prepares."""

from pathlib import Path

import pytest

from pointcept.config import Config, load_config
from pointcept.registry import DATASETS, MODELS
from pointcept.train import main, prepare_experiment


@MODELS.register()
class TrainTestNet:
    def __init__(self, width: int = 1) -> None:
        self.width = width


@DATASETS.register()
class TrainTestDataset:
    """Fails, after writing a file."""

    def __init__(self, written: str = "") -> None:
        if written:
            Path(written).write_text("{}")
        raise FileNotFoundError("no data")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "config.py"
    path.write_text(
        'model = dict(type="TrainTestNet")\ndata = dict(train=dict(type="TrainTestDataset"))\n'
        f'optimizer = dict(type="SGD", lr=0.1)\nsave_path = "{tmp_path / "exp"}"\n'
    )
    return load_config(path)


def test_a_new_folder_records_the_config(config: Config) -> None:
    prepare_experiment(config)
    assert load_config(Path(config.save_path) / "config.py") == config
    assert (Path(config.save_path) / "model").is_dir()


@pytest.mark.parametrize(("files", "state"), [((), "started"), (("metrics.json",), "finished")])
def test_an_earlier_run_is_kept_unless_told_otherwise(config: Config, files: tuple[str, ...], state: str) -> None:
    prepare_experiment(config)
    for name in files:
        (Path(config.save_path) / name).write_text("{}")
    with pytest.raises(FileExistsError, match=rf"holds one that was {state}\. Resume it \(-r true\), .*--overwrite"):
        prepare_experiment(config)


def test_overwrite_deletes_the_earlier_run(config: Config) -> None:
    prepare_experiment(config)
    old = Path(config.save_path) / "metrics.json"
    old.write_text("{}")
    prepare_experiment(config, overwrite=True)
    assert not old.exists()
    assert (Path(config.save_path) / "config.py").is_file()


def test_a_folder_that_is_no_experiment_is_never_deleted(config: Config) -> None:
    Path(config.save_path).mkdir()
    (Path(config.save_path) / "thesis.tex").write_text("precious")
    with pytest.raises(FileExistsError, match=r"has files but no config\.py"):
        prepare_experiment(config, overwrite=True)
    assert (Path(config.save_path) / "thesis.tex").read_text() == "precious"


def test_the_current_folder_is_never_deleted(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_experiment(config)
    monkeypatch.chdir(config.save_path)
    with pytest.raises(FileExistsError, match="contains the current one"):
        prepare_experiment(config, overwrite=True)


def test_resuming_needs_a_checkpoint_and_changes_nothing(config: Config) -> None:
    resuming = Config({**config, "resume": True})
    with pytest.raises(FileNotFoundError, match=r"exp/model/model_last\.pth is missing"):
        prepare_experiment(resuming)
    prepare_experiment(config)
    (Path(config.save_path) / "model" / "model_last.pth").write_bytes(b"")
    prepare_experiment(resuming)
    assert load_config(Path(config.save_path) / "config.py").resume is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["model.widht=2"],
            "error: Keys of model must be parameters of TrainTestNet: got 'widht'. Did you mean 'width'?",
        ),
        (["model.width=x"], "error: model.width must be int: got 'x' (str)"),
        (["seed=1", "sede=1"], "error: Option 'sede=1' must name an existing key: the config has no 'sede'."),
    ],
)
def test_a_wrong_config_ends_the_command_with_one_line(config: Config, options: list[str], message: str) -> None:
    source = Path(config.save_path).parent / "config.py"
    with pytest.raises(SystemExit) as caught:
        main(["--config-file", str(source), "--options", *options])
    assert str(caught.value).startswith(message)
    assert not Path(config.save_path).exists()


def test_a_run_that_cannot_begin_leaves_its_name_free(config: Config) -> None:
    source = Path(config.save_path).parent / "config.py"
    for _ in range(2):
        with pytest.raises(FileNotFoundError, match="no data"):
            main(["--config-file", str(source), "--num-gpus", "1"])
        assert not Path(config.save_path).exists()


def test_a_run_that_fails_later_keeps_what_it_wrote(config: Config) -> None:
    source, written = Path(config.save_path).parent / "config.py", Path(config.save_path) / "metrics.json"
    with pytest.raises(FileNotFoundError, match="no data"):
        main(["--config-file", str(source), "--num-gpus", "1", "--options", f"data.train.written='{written}'"])
    assert written.is_file() and (Path(config.save_path) / "config.py").is_file()


def test_a_resumed_run_that_cannot_begin_keeps_its_config(config: Config) -> None:
    prepare_experiment(config)
    source, weight = Path(config.save_path).parent / "config.py", Path(config.save_path).parent / "other.pth"
    weight.write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="no data"):
        main(["--config-file", str(source), "--num-gpus", "1", "--options", "resume=True", f"weight='{weight}'"])
    assert (Path(config.save_path) / "config.py").is_file()
