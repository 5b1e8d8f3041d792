"""Semantic occupancy: labels of voxels, the model, the scores, and the pictures of all tasks."""

import pytest
import torch
from ponder2d_rooms import make_batch
from torch import nn

from pointcept.models.weights import load_weights
from pointcept.registry import build, import_plugins
from pointcept.structures import CameraBatch, PointBatch, SceneBatch
from ponder2d.transfer import OccupancyEvaluator, OccupancyPredictor, TaskPanelWriter, occupancy_labels, task_panels

import_plugins(["ponder2d"])
BOX = torch.tensor([[[0.0, 0, 0], [4.0, 2, 2]]])
GRID = (4, 2, 2)  # voxels of one metre


def make_scene(coord, segment, depth=2.5):
    """Points, and one camera at (-1, 1, 1) that looks along x and measures one depth everywhere."""
    coord = torch.tensor(coord).view(-1, 3)
    extrinsic = torch.tensor([[0.0, -1, 0, 1], [0, 0, -1, 1], [1, 0, 0, 1], [0, 0, 0, 1]])
    cameras = CameraBatch(
        image=torch.rand(1, 1, 3, 32, 32),
        depth=torch.full((1, 1, 32, 32), depth),
        intrinsic=torch.tensor([[16.0, 0, 15.5], [0, 16, 15.5], [0, 0, 1]])[None, None],
        extrinsic=extrinsic[None, None],
        size_px=torch.tensor([[[32, 32]]]),
    )
    points = PointBatch(
        coord=coord,
        grid_coord=coord.long(),
        feat=coord,
        offset=torch.tensor([len(coord)]),
        segment=torch.tensor(segment),
    )
    return SceneBatch(seed=torch.tensor([0]), name=("room",), points=points, cameras=cameras)


def test_voxels_have_the_class_of_most_points_are_free_before_the_surface_and_unknown_behind():
    coord = [[0.5, 0.5, 0.5]] * 2 + [[0.6, 0.4, 0.5]] * 3 + [[0.5, 1.5, 0.5]] + [[9.0, 0.5, 0.5]]
    labels = occupancy_labels(make_scene(coord, [1, 1, 2, 2, -1, -1, 0]), BOX, GRID, 3)[0]
    # Depth 2.5 reaches x = 1.5 from x = -1: the centres at 0.5 are before it, that at 1.5 is not 0.1 before.
    assert labels[0, 0].tolist() == [1, -1, -1, -1]  # two votes each: the lower class; the unlabelled one does not vote
    assert labels[0, 1].tolist() == [-1, -1, -1, -1]  # holds an unlabelled point, so it is not free
    assert labels[1].tolist() == [[3, -1, -1, -1]] * 2
    deeper = occupancy_labels(make_scene(coord, [1, 1, 2, 2, -1, -1, 0], depth=3.8), BOX, GRID, 3)[0]
    assert deeper[1].tolist() == [[3, 3, 3 if 3.8 > 3.5 + 0.1 else -1, -1]] * 2


def test_without_a_labelled_cloud_the_depth_images_give_the_labels():
    batch = make_scene([[0.5, 0.5, 0.5]], [0])
    segment = torch.full((1, 1, 32, 32), 2)
    batch = batch.replace(points=None, cameras=batch.cameras.replace(segment=segment))
    labels = occupancy_labels(batch, BOX, GRID, 3)[0]
    assert labels[..., 1].tolist() == [[2, 2], [2, 2]]  # the wall at x = 1.5
    assert labels[..., 0].tolist() == [[3, 3], [3, 3]] and (labels[..., 2:] == -1).all()
    with pytest.raises(ValueError, match=r"Occupancy needs labels: the batch of \['room'\]"):
        occupancy_labels(batch.replace(cameras=batch.cameras.replace(segment=None)), BOX, GRID, 3)
    with pytest.raises(ValueError, match=r"Labels must lie in -1..1: scenes \['room'\] have 2..2"):
        occupancy_labels(batch, BOX, GRID, 2)


def test_depth_of_zeros_makes_nothing_free():
    labels = occupancy_labels(make_scene([[0.5, 0.5, 0.5]], [0], depth=0.0), BOX, GRID, 3)
    assert (labels == -1).sum() == 15 and labels[0, 0, 0, 0] == 0


def test_the_scores_leave_free_space_and_unknown_voxels_out_by_hand():
    coord = [[0.5, 0.5, 0.5], [1.5, 0.5, 0.5], [2.5, 0.5, 0.5]]
    batch = make_scene(coord, [0, 0, 1], depth=1.8)  # free: x = 0.5 in the three other columns
    pred = torch.full((1, 2, 2, 4), 3)
    pred[0, 0, 0] = torch.tensor([0, 1, 3, 2])  # right, wrong class, missed, unknown
    pred[0, 1, 1, 0] = 0  # free taken for class 0
    evaluator = OccupancyEvaluator(3, ["a", "b", "c"])
    evaluator.update({"occupancy": pred, "box": BOX}, batch)
    figures = evaluator.compute()
    assert figures["mIoU"] == pytest.approx((1 / 3 + 0) / 2)  # class 2 is neither labelled nor predicted
    assert figures["occupancy_iou"] == pytest.approx(2 / 4)
    assert "free" in evaluator.table()
    with pytest.raises(ValueError, match="must have 'occupancy' and 'box'"):
        evaluator.update({"logits": pred}, batch)
    with pytest.raises(ValueError, match="At least one known voxel"):
        OccupancyEvaluator(3).compute()


def make_encoder():
    bins = dict(type="DepthBins", near_m=0.3, far_m=6.0, num_bins=8)
    config = dict(
        type="ImageVolumeEncoder",
        backbone=dict(type="TimmBackbone", name="test_convnext"),
        neck=dict(type="FeaturePyramid", in_channels=(24, 32, 48, 64), in_strides=(4, 8, 16, 32), out_channels=8),
        depth_head=dict(type="DepthHead", in_channels=8, bins=bins),
        depth_weight=1.0,
        with_color=True,
        view_transform=dict(type="ProjectionLifting"),
        projection=dict(type="UNet3D-v1m2", in_channels=12, out_channels=8, channels=(8, 16)),
        grid_shape=(8, 8, 4),
    )
    return build(config, "encoder")


def labelled_batch():
    batch = make_batch()
    segment = torch.randint(-1, 3, (100,), generator=torch.Generator().manual_seed(5))
    return batch.replace(points=batch.points.replace(segment=segment))


def test_the_whole_encoder_trains_is_transferred_and_its_backbone_can_be_frozen(tmp_path):
    torch.manual_seed(0)
    pretrained = nn.ModuleDict({"encoder": make_encoder(), "renderer": nn.Linear(2, 2)})
    torch.save({"state_dict": pretrained.state_dict()}, tmp_path / "run.pth")
    torch.manual_seed(1)
    model = OccupancyPredictor(make_encoder(), num_classes=3, freeze_backbone=True)
    match = load_weights(model, tmp_path / "run.pth")
    assert set(match.missing) == {"head.weight", "head.bias"}
    terms = model(labelled_batch())
    assert terms.keys() == {"cross_entropy_loss", "depth_distribution_loss"}
    sum(terms.values()).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith("encoder.backbone."), name
    output = model.eval()(labelled_batch())
    assert output["occupancy"].shape == (2, 4, 8, 8) and output["occupancy"].max() <= 3
    assert output["box"].shape == (2, 2, 3)
    with pytest.raises(ValueError, match="num_classes must be at least 1"):
        OccupancyPredictor(make_encoder(), num_classes=0)
    encoder = make_encoder()
    encoder.projection = None
    with pytest.raises(ValueError, match=r"set encoder\.projection"):
        OccupancyPredictor(encoder, num_classes=3)


def test_there_are_pictures_of_every_task():
    batch = labelled_batch()
    cameras = batch.cameras.replace(segment=torch.zeros(2, 2, 8, 12, dtype=torch.int64))
    size = cameras.size_px.clone()
    size[1, 1] = 0
    batch = batch.replace(cameras=cameras.replace(size_px=size))
    outputs = {
        "semseg": {"logits": torch.rand(2, 2, 3, 8, 12)},
        "depth": {"depth": torch.rand(2, 2, 8, 12)},
        "normal": {"normal": torch.rand(2, 2, 3, 8, 12)},
    }
    for output in outputs.values():
        panels = task_panels(output, batch, 3)
        assert [name for name, _ in panels] == ["room0-view0", "room0-view1", "room1-view0"]
        assert all(picture.ndim == 3 and picture.std() > 0 for _, picture in panels)
    occupancy = {"occupancy": torch.zeros(2, 4, 8, 8, dtype=torch.int64), "box": BOX.expand(2, -1, -1)}
    assert [name for name, _ in TaskPanelWriter(num_classes=3).paint(occupancy, batch)] == ["room0", "room1"]
    with pytest.raises(ValueError, match=r"output of a task.*got \['color'\]"):
        task_panels({"color": torch.zeros(1)}, batch, 3)


def test_a_wrong_pixel_is_marked():
    batch = labelled_batch()
    segment = torch.zeros(2, 2, 8, 12, dtype=torch.int64)
    segment[0, 0, 0, 0] = -1
    batch = batch.replace(cameras=batch.cameras.replace(segment=segment))
    logits = torch.zeros(2, 2, 20, 8, 12)
    logits[:, :, 0] = 1.0
    logits[0, 0, 5, :4] = 2.0
    picture = dict(task_panels({"logits": logits}, batch, 20))["room0-view0"]
    red = (picture == (236, 82, 18)).all(axis=-1).sum()
    assert red == (4 * 12 - 1) * 20**2  # each pixel is enlarged 20 times; the unlabelled one is not wrong
