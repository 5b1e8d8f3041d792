"""Small experiments as a training leaves them, made without one."""

import importlib.util
from pathlib import Path

import pytest
import torch

from pointcept.config import dump_config, load_config, validate_config
from pointcept.datasets.collate import collate
from pointcept.engines.checkpoint import save_checkpoint
from pointcept.registry import DATASETS, MODELS, build

REPOSITORY = Path(__file__).resolve().parents[3]

POINTS = """
_base_ = ["{configs}/demo/pretrain-ponder-spunet.py"]
_rooms = dict(data_root="{rooms}", num_train=1, num_val=2, frame_size=(24, 32), num_frames=8)
model = dict(
    encoder=dict(
        backbone=dict(base_channels=4, channels=(4, 6, 8, 8, 8, 8, 6, 4)),
        projection=dict(in_channels=4, out_channels=8, channels=(4, 8)),
        grid_shape=(16, 16, 8),
    ),
    renderer=dict(
        field=dict(in_channels=8, hidden_channels=8, geometry_channels=3, feature_channels=64),
        sampler=dict(num_samples=12, num_importance=6),
    ),
    teacher=dict(type="TimmTeacher", name="test_vit", image_size=(32, 48), random_weights=True),
    losses=[dict(type="ColorLoss"), dict(type="FeatureCosineLoss")],
)
data = dict(train=_rooms, val=dict(**_rooms, num_views=1))
"""

IMAGES = """
_base_ = ["{configs}/demo/pretrain-ponder2d-convnext.py"]
_rooms = dict(data_root="{rooms}", num_train=1, num_val=2, frame_size=(24, 32), num_frames=8)
model = dict(
    encoder=dict(projection=dict(channels=(4, 8)), grid_shape=(12, 12, 6)),
    renderer=dict(sampler=dict(num_samples=8, num_importance=4), field=dict(feature_channels=20)),
    losses=[dict(type="ColorLoss"), dict(type="SemanticLoss", num_classes=20)],
    length_unit="box",
)
data = dict(train=_rooms, val=dict(**_rooms, num_views=1, num_input_views=2))
"""


def centre_surface(model, batch) -> None:
    """Gives an untrained field a surface: its signed distance becomes zero in the middle of its range."""
    with torch.no_grad():
        volume, head = model.encoder(batch), model.renderer.field.sdf_decoder.head
        unit = model.unit_m(volume)[0]
        head.weight[0] *= 0.3 / model.sample_sdf(volume, 0, 0.3)[0].std()
        head.bias[0] -= model.sample_sdf(volume, 0, 0.3)[0].median() / unit


def make_experiment(folder: Path, template: str, rooms: Path, steps: tuple[int, ...]) -> Path:
    """A folder with ``config.py`` and snapshots, each of slightly other weights than the one before."""
    folder.mkdir()
    source = folder / "source.py"
    source.write_text(template.format(configs=REPOSITORY / "configs", rooms=rooms))
    config = load_config(source, [f"save_path={folder}"])
    dump_config(config, folder / "config.py")
    settings = validate_config(config)
    torch.manual_seed(0)
    model = build(settings.model, "model", MODELS).eval()
    batch = collate([build(settings.data["val"], "data.val", DATASETS)[0]])
    centre_surface(model, batch)
    (folder / "snapshots").mkdir()
    for step in steps:
        snapshot = {"state_dict": model.state_dict(), "step": step}
        save_checkpoint(folder / "snapshots" / f"step_{step:06d}.pth", snapshot)
        with torch.no_grad():
            for parameter in model.renderer.field.color_decoder.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.5)
    return folder


@pytest.fixture(scope="session")
def rooms(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("rooms")


@pytest.fixture(scope="session")
def experiment_folder(tmp_path_factory, rooms) -> Path:
    """A pre-training of a 3D backbone with an image teacher."""
    return make_experiment(tmp_path_factory.mktemp("experiments") / "points", POINTS, rooms, (0, 40, 120))


@pytest.fixture(scope="session")
def image_experiment_folder(tmp_path_factory, rooms) -> Path:
    """A pre-training of an image backbone with labels, which renders in units of the box."""
    if importlib.util.find_spec("ponder2d") is None:
        pytest.skip("ponder2d is not installed")
    return make_experiment(tmp_path_factory.mktemp("experiments") / "images", IMAGES, rooms, (80,))
