"""Fine-tuning on one cloud, then predicting it from its file: the labels are those of the final evaluation."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from plyfile import PlyData

from pointcept.config import load_config
from pointcept.datasets.cloud_files import read_cloud_file
from pointcept.engines import build_trainer
from pointcept.engines.predictor import Predictor
from pointcept.engines.tester import evaluate
from pointcept.predict import main, predict
from pointcept.registry import MODELS, build
from pointcept.structures import PointSample

SAMPLES = os.environ.get("POINTCEPT_SAMPLES")

CONFIG = """
model = dict(
    type="DefaultSegmentorV2",
    num_classes={num_classes},
    backbone=dict(
        type="SpUNet-v1m1", in_channels=6, base_channels=16, channels=(16, 32, 32, 32), layers=(1, 1, 1, 1),
        norm_momentum=0.1,
    ),
)
_keys = ("coord", "grid_coord", "name", "condition")
_data = dict(type="SceneDataset", data_root={root!r}, split="all", segment_key="segment", condition="S3DIS")
_start = [dict(type="CenterShift", apply_z=True), dict(type="NormalizeColor")]
_end = dict(type="Collect", feat_keys=("coord", "color"), keys=_keys)
data = dict(
    train=dict(
        **_data,
        loop={steps},
        transform=[
            *_start,
            dict(type="RandomFlip", p=0.5),
            dict(type="GridSample", grid_size=0.05),
            dict(type="Collect", feat_keys=("coord", "color"), keys=(*_keys, "segment")),
        ],
    ),
    test=dict(**_data, transform=_start),
)
test = dict(
    type="SemSegTester",
    evaluator=dict(type="SemSegEvaluator", num_classes={num_classes}),
    inference=dict(
        type="FragmentInference",
        grid_size=0.05,
        aug_transform=[[], [dict(type="RandomFlip", p=1.0)]],
        post_transform=[_end],
        tile_points={tile_points},
        tile_overlap_m=0.5,
    ),
)
optimizer = dict(type="AdamW", lr=5e-3)
scheduler = dict(type="OneCycleLR", max_lr=5e-3, pct_start=0.1, div_factor=10.0, final_div_factor=100.0)
hooks = [dict(type="CheckpointSaver")]
batch_size = 1
epoch = 1
eval_epoch = 1
num_worker = 0
save_path = {save_path!r}
"""


def room(num_points: int = 3000) -> PointSample:
    """A floor, a wall and a box on the floor, whose colours say nothing of the class."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, num_points)
    coord = rng.uniform(0, 2, (num_points, 3))
    coord[label == 0, 2] = 0
    coord[label == 1, 0] = 0
    coord[label == 2] = rng.uniform((1, 1, 0.2), (1.4, 1.4, 0.6), (np.count_nonzero(label == 2), 3))
    point = {"color": rng.uniform(100, 150, (num_points, 3)).astype(np.float32), "segment": label}
    return PointSample(coord=coord.astype(np.float32), point=point, scene={"name": "room"})


def write_experiment(folder: Path, sample: PointSample, *, num_classes: int, steps: int, tile_points: int) -> Path:
    scene = folder / "data/all" / sample.name
    scene.mkdir(parents=True)
    for name, array in {"coord": sample.coord, **sample.point}.items():
        np.save(scene / f"{name}.npy", array)
    path = folder / "config.py"
    values = {"root": str(folder / "data"), "save_path": str(folder / "exp")}
    path.write_text(CONFIG.format(num_classes=num_classes, steps=steps, tile_points=tile_points, **values))
    return path


def labels_of_evaluation_and_prediction(folder: Path, config: Path, cloud: Path, name: str) -> tuple[np.ndarray, ...]:
    build_trainer(load_config(config)).train()
    weight = str(folder / "exp/model/model_last.pth")
    evaluate(load_config(config, [f"weight={weight}"]))
    (result,) = (folder / "exp/result").iterdir()
    main(["--config", str(config), "--weight", weight, str(cloud), "-o", str(folder / "labelled.ply")])
    vertices = PlyData.read(folder / "labelled.ply")["vertex"].data
    return np.load(result / f"{name}.npy"), vertices["label"], vertices["probability"]


def test_a_cloud_is_overfitted_and_predicted_in_tiles_as_it_is_evaluated(tmp_path, capsys):
    sample = room()
    config = write_experiment(tmp_path, sample, num_classes=3, steps=40, tile_points=1000)
    matrix = np.concatenate([sample.coord, sample.point["color"], sample.point["segment"][:, None]], axis=1)
    np.save(tmp_path / "room.npy", matrix)
    evaluated, predicted, probability = labels_of_evaluation_and_prediction(
        tmp_path, config, tmp_path / "room.npy", "room"
    )
    np.testing.assert_array_equal(predicted, evaluated)
    accuracy = (predicted == sample.point["segment"]).mean()
    assert accuracy > 0.95
    assert probability.min() >= 1 / 3 and probability.max() <= 1 + 1e-6
    with Image.open(tmp_path / "labelled.png") as picture:
        assert picture.size == (810, 480)
    assert f"allAcc: {accuracy:.4f}" in capsys.readouterr().err


@pytest.mark.skipif(not SAMPLES, reason="POINTCEPT_SAMPLES names the folder of real samples")
def test_a_real_cloud_is_overfitted_and_predicted_as_it_is_evaluated(tmp_path):
    path = Path(SAMPLES) / "s3dis/Area_X_demo_1.npy"
    sample = read_cloud_file(path)
    config = write_experiment(tmp_path, sample, num_classes=13, steps=40, tile_points=600_000)
    evaluated, predicted, _ = labels_of_evaluation_and_prediction(tmp_path, config, path, sample.name)
    np.testing.assert_array_equal(predicted, evaluated)
    assert (predicted == sample.point["segment"]).mean() > 0.95


@pytest.fixture
def untrained(tmp_path):
    """A config, a checkpoint of its untrained model, and the room."""
    sample = room(300)
    config = write_experiment(tmp_path, sample, num_classes=3, steps=1, tile_points=600_000)
    torch.manual_seed(0)
    model = build(load_config(config).model, "model", MODELS)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "model.pth")
    return config, tmp_path / "model.pth", sample


def test_probabilities_of_all_classes_are_those_of_the_labels(untrained, tmp_path):
    config, weight, sample = untrained
    labelled = predict(sample, config=config, weight=weight, all_probabilities=tmp_path / "all.npy")
    every = np.load(tmp_path / "all.npy").astype(np.float32)
    assert every.shape == (300, 3)
    np.testing.assert_allclose(every.sum(axis=1), 1, atol=2e-3)
    np.testing.assert_allclose(every.max(axis=1), labelled.probability, atol=1e-3)
    assert (every[np.arange(300), labelled.label] >= every.max(axis=1) - 1e-3).all()


def test_missing_colour_and_normals_are_refused_or_replaced_as_asked(untrained):
    config, weight, sample = untrained
    bare = PointSample(coord=sample.coord, scene={"name": "bare"})
    with pytest.raises(
        ValueError, match=r"needs point data 'color': the cloud 'bare' has none\. Give --missing-color gray \(missing_c"
    ):
        predict(bare, config=config, weight=weight)
    gray = predict(bare, config=config, weight=weight, missing_color="gray")
    color = np.full((300, 3), 127.5, dtype=np.float32)
    same = predict(bare.with_point(color=color), config=config, weight=weight)
    np.testing.assert_array_equal(gray.probability, same.probability)
    black = predict(bare, config=config, weight=weight, missing_color="black")
    assert not np.array_equal(black.probability, gray.probability)

    text = config.read_text().replace('("coord", "color")', '("color", "normal")')
    config.write_text(text)
    with pytest.raises(ValueError, match=r"needs point data 'normal'.*Give --missing-normal estimate"):
        predict(sample, config=config, weight=weight)
    labelled = predict(sample, config=config, weight=weight, missing_normal="estimate")
    zero = predict(sample, config=config, weight=weight, missing_normal="zero")
    assert not np.array_equal(labelled.probability, zero.probability)
    config.write_text(text.replace('("color", "normal")', '("coord", "strength")'))
    with pytest.raises(ValueError, match=r"needs point data \['strength'\]: the cloud 'room' has \['color'\]"):
        predict(sample, config=config, weight=weight)


def test_what_cannot_be_predicted_is_refused(untrained, tmp_path, capsys):
    config, weight, sample = untrained
    broken = sample.coord.copy()
    broken[[3, 7], 1] = np.nan
    with pytest.raises(ValueError, match=r"A cloud must be finite: coord of 2 of the 300 points of 'room' is not"):
        predict(PointSample(coord=broken, point=sample.point, scene=sample.scene), config=config, weight=weight)
    with pytest.raises(ValueError, match=r"A cloud needs at least one point: 'room' has none"):
        predict(sample.select(np.arange(0)), config=config, weight=weight)
    with pytest.raises(ValueError, match=r"Predicting needs test with an inference, and data\.test"):
        Predictor({**load_config(config).to_plain(), "test": None}, weight)
    np.save(tmp_path / "room.npy", sample.coord)
    command = ["--config", str(config), "--weight", str(weight), str(tmp_path / "room.npy")]
    with pytest.raises(SystemExit, match=r"error: A labelled cloud must be written as \.ply or \.npz"):
        main([*command, "-o", str(tmp_path / "a.txt")])
    with pytest.raises(SystemExit, match=r"error: A checkpoint must exist: there is no file .*gone\.pth"):
        main([*command[:3], str(tmp_path / "gone.pth"), *command[4:], "--missing-color", "gray"])
    with pytest.raises(SystemExit, match=r"error: A checkpoint must have the model's classes"):
        main([*command, "--missing-color", "gray", "--options", "model.num_classes=4", "test.evaluator.num_classes=4"])


def test_labels_of_other_classes_in_the_file_are_not_compared(untrained, tmp_path, capsys):
    config, weight, sample = untrained
    matrix = np.concatenate([sample.coord, sample.point["color"], np.full((300, 1), 7)], axis=1)
    np.save(tmp_path / "room.npy", matrix)
    main(["--config", str(config), "--weight", str(weight), str(tmp_path / "room.npy")])
    assert "The file's labels are not compared with: Labels must lie in 0..2: 300 of 300" in capsys.readouterr().err
    assert (tmp_path / "room_labelled.ply").is_file() and (tmp_path / "room_labelled.png").is_file()
