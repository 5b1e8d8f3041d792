"""The final evaluation as a command: scores of every point, kept by checkpoint, resumed, refused where it must be."""

import json

import numpy as np
import pytest
import torch

from pointcept.config import load_config, validate_config
from pointcept.engines.tester import evaluate, result_key
from pointcept.registry import MODELS, build
from pointcept.test import main

CONFIG = """
model = dict(
    type="DefaultSegmentorV2",
    num_classes={num_classes},
    backbone=dict(type="SpUNet-v1m1", in_channels=3, base_channels=4, channels=(4, 4), layers=(1, 1)),
)
data = dict(
    test=dict(type="SceneDataset", data_root={root!r}, split="val", segment_key="segment20", transform=[]),
)
test = dict(
    type="SemSegTester",
    evaluator=dict(type="SemSegEvaluator", num_classes={num_classes}),
    inference=dict(
        type="FragmentInference",
        grid_size=0.2,
        post_transform=[dict(type="CenterShift"), dict(type="Collect", feat_keys=("coord",))],
    ),
    submission={submission!r},
)
optimizer = dict(type="SGD", lr=0.1)
num_worker = 0
save_path = {save_path!r}
"""


@pytest.fixture
def place(tmp_path):
    """A data set of three scenes, and an experiment with a checkpoint."""
    rng = np.random.default_rng(0)
    for name, num_points in (("a", 60), ("b", 90), ("c", 30)):
        folder = tmp_path / "data/val" / name
        folder.mkdir(parents=True)
        np.save(folder / "coord.npy", rng.uniform(0, 2, (num_points, 3)).astype(np.float32))
        np.save(folder / "segment20.npy", rng.integers(-1, 4, num_points))
    make_config(tmp_path, "config.py")
    torch.manual_seed(0)
    model = build(load_config(tmp_path / "config.py").model, "model", MODELS)
    (tmp_path / "exp/model").mkdir(parents=True)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "exp/model/model_best.pth")
    return tmp_path


def make_config(place, name, *, num_classes=4, submission=None):
    values = {"root": str(place / "data"), "save_path": str(place / "exp"), "submission": submission}
    (place / name).write_text(CONFIG.format(num_classes=num_classes, **values))
    return str(place / name)


def results(place):
    (folder,) = (place / "exp/result").iterdir()
    return folder


def test_figures_are_those_of_the_saved_classes_of_every_point(place):
    main(["--config-file", str(place / "config.py"), "--num-gpus", "1"])
    folder = results(place)
    pred = {name: np.load(folder / f"{name}.npy") for name in "abc"}
    truth = {name: np.load(place / f"data/val/{name}/segment20.npy") for name in "abc"}
    assert [len(pred[name]) for name in "abc"] == [60, 90, 30]
    pred, truth = (np.concatenate([part[name] for name in "abc"]) for part in (pred, truth))
    figures = json.loads((folder / "metrics.json").read_text())
    assert figures["allAcc"] == pytest.approx((pred == truth)[truth >= 0].mean())
    assert (folder / "classes.txt").read_text().startswith("class    IoU")
    assert (folder / "confusion.png").stat().st_size > 0 and (place / "exp/test.log").is_file()


def test_an_interrupted_evaluation_goes_on_and_another_checkpoint_starts_anew(place):
    config = load_config(place / "config.py")
    first = evaluate(config)
    folder = results(place)
    kept = np.load(folder / "a.npy")
    np.save(folder / "a.npy", (kept + 1) % 4)  # as if another run had left it: it is used, not computed again
    (folder / "b.npy").unlink()
    second = evaluate(config)
    assert second != first and np.array_equal(np.load(folder / "a.npy"), (kept + 1) % 4)
    assert (folder / "b.npy").is_file()

    np.save(folder / "a.npy", kept[:5])
    with pytest.raises(
        ValueError, match=r"must have one class per point: .*a\.npy has \(5,\) for 60 points of scene 'a'"
    ):
        evaluate(config)
    weights = torch.load(place / "exp/model/model_best.pth", weights_only=True)
    weights["state_dict"]["seg_head.bias"] += 1
    torch.save(weights, place / "exp/model/model_best.pth")
    evaluate(config)
    assert len(list((place / "exp/result").iterdir())) == 2


def test_another_way_of_predicting_has_another_name(place):
    weight = place / "exp/model/model_best.pth"
    settings = [
        validate_config(load_config(place / "config.py", options))
        for options in ([], ["test.inference.max_fragments=1"], ["num_worker=1"])
    ]
    keys = [result_key(setting, weight) for setting in settings]
    assert keys[0] == keys[2] != keys[1] and keys[0].startswith("model_best-")


def test_without_labels_there_are_predictions_and_a_submission(place, caplog):
    for name in "abc":
        (place / f"data/val/{name}/segment20.npy").unlink()
    make_config(place, "own.py", submission="scannet")
    assert evaluate(load_config(place / "own.py")) == {}
    lines = (results(place) / "submission/b.txt").read_text().splitlines()
    assert len(lines) == 90 and set(lines) <= {"1", "2", "3", "4"}
    assert "No figures: none of the points has a label" in (place / "exp/test.log").read_text()
    assert not (results(place) / "metrics.json").exists()


def test_the_folder_of_another_experiment_is_refused(place, capsys):
    (place / "exp/config.py").write_text((place / "config.py").read_text())
    other = make_config(place, "other.py", num_classes=5)
    with pytest.raises(SystemExit) as stopped:
        main(["--config-file", other, "--num-gpus", "1"])
    message = str(stopped.value)
    assert message.startswith("error: An experiment must be evaluated with its own model: model.num_classes is 4 in ")
    assert message.endswith("and 5 in the config. Leave -c out, or choose the experiment's name with -n.")


def test_a_checkpoint_of_other_classes_a_missing_one_and_a_config_without_test_are_refused(place):
    other = load_config(make_config(place, "other.py", num_classes=5))
    with pytest.raises(ValueError, match=r"must have the model's classes: in .*model_best\.pth is seg_head\.weight"):
        evaluate(other)
    with pytest.raises(FileNotFoundError, match=r"A checkpoint must exist: there is no file .*gone\.pth"):
        evaluate(load_config(place / "config.py", [f"weight={place / 'gone.pth'}"]))
    config = load_config(place / "config.py").to_plain()
    with pytest.raises(
        ValueError, match=r"A final evaluation needs test and data\.test: the config has data \['test'\]"
    ):
        evaluate({**config, "test": None})


def test_two_processes_give_the_same_figures(place):
    main(["--config-file", str(place / "config.py"), "--num-gpus", "1"])
    alone = json.loads((results(place) / "metrics.json").read_text())
    for name in "abc":
        (results(place) / f"{name}.npy").unlink()
    main(["--config-file", str(place / "config.py"), "--num-gpus", "2"])
    assert json.loads((results(place) / "metrics.json").read_text()) == alone
