"""What the benchmarks' servers read back from the files."""

import json

import numpy as np
import pytest

from pointcept.evaluation.submissions import (
    finish_submission,
    write_nuscenes,
    write_scannet,
    write_scannet200,
    write_semantic_kitti,
)


def test_scannet_gets_nyu40_ids_line_by_line(tmp_path):
    path = write_scannet(tmp_path / "new", "scene0707_00", np.array([0, 19, 12]))
    assert path.name == "scene0707_00.txt" and path.read_text() == "1\n39\n14\n"


def test_scannet200_gets_raw_ids_line_by_line(tmp_path):
    path = write_scannet200(tmp_path, "scene0707_00", np.array([0, 1, 11, 199]))  # wall, chair, pillow, mattress
    assert path.read_text() == "1\n2\n13\n1191\n"


def test_nuscenes_gets_classes_from_one_as_bytes(tmp_path):
    path = write_nuscenes(tmp_path, "ab12", np.array([0, 15, 3]))
    assert path == tmp_path / "lidarseg/test/ab12_lidarseg.bin"
    assert np.fromfile(path, dtype=np.uint8).tolist() == [1, 16, 4]
    finish_submission("nuscenes", tmp_path)
    meta = json.loads((tmp_path / "test/submission.json").read_text())["meta"]
    assert meta == {"use_camera": False, "use_lidar": True, "use_radar": False, "use_map": False, "use_external": False}


def test_semantic_kitti_gets_raw_ids_as_uint32(tmp_path):
    path = write_semantic_kitti(tmp_path, "11_000012", np.array([0, 18, 8]))  # car, traffic sign, road
    assert path == tmp_path / "sequences/11/predictions/000012.label"
    assert np.fromfile(path, dtype="<u4").tolist() == [10, 81, 40]


def test_what_no_server_would_take_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"A submission needs classes 0\.\.19: scene 's' has 0\.\.20\. Choose"):
        write_scannet(tmp_path, "s", np.array([0, 20]))
    with pytest.raises(ValueError, match=r"must be named <sequence>_<frame>: got 'scene'"):
        write_semantic_kitti(tmp_path, "scene", np.array([0]))
