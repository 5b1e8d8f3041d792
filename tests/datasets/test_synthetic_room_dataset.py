import numpy as np
import pytest

from pointcept.datasets import SyntheticRoomDataset, collate
from pointcept.datasets.transforms import CenterShift, Collect, GridSample, NormalizeColor

ROOMS = dict(num_train=1, num_val=1, frame_size=(24, 32), num_frames=8)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Folder of two small rooms; made by the first data set, found by the others."""
    root = tmp_path_factory.mktemp("rooms") / "new"
    SyntheticRoomDataset(split="train", data_root=root, **ROOMS)
    return root


def test_rooms_are_made_once_and_read_like_any_scene(root):
    written = {path: path.stat().st_mtime_ns for path in root.rglob("*.npy")}
    transform = [CenterShift(), GridSample(0.02), NormalizeColor(), Collect()]
    train = SyntheticRoomDataset(split="train", data_root=root, transform=transform, num_views=3, **ROOMS)
    val = SyntheticRoomDataset(
        split="val", data_root=root, transform=transform, num_views=3, view_split="heldout", **ROOMS
    )
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.npy")} == written
    assert len(train) == len(val) == 1
    sample, heldout = train[0], val[0]
    assert len(sample.views) == 3 and "7" not in sample.views.name and len(heldout.views) == 1
    assert sample.scene["condition"] == "SyntheticRooms"
    assert sample.point["feat"].shape == (sample.num_points, 6)
    segment = np.concatenate([s.reshape(-1) for s in sample.views.segment])
    assert set(np.unique(segment)) & {0, 1}  # walls and floor are seen
    batch = collate([sample, heldout])
    assert batch.cameras.image.shape == (2, 3, 3, 24, 32)


def test_depth_of_the_views_lies_on_the_cloud(root):
    sample = SyntheticRoomDataset(split="train", data_root=root, num_views=7, **ROOMS)[0]
    views = sample.views
    low, high = sample.coord.min(0) - 0.1, sample.coord.max(0) + 0.1
    for depth, intrinsic, extrinsic in zip(views.depth, views.intrinsic, views.extrinsic, strict=True):
        row, column = np.nonzero(depth)
        pixel = np.stack([column, row, np.ones_like(row)])
        camera = np.linalg.inv(intrinsic) @ pixel * depth[row, column]
        world = (np.linalg.inv(extrinsic) @ np.vstack([camera, np.ones(len(row))]))[:3].T
        assert ((world >= low) & (world <= high)).all(axis=1).mean() > 0.95


def test_another_kind_of_rooms_in_the_same_folder_is_refused(root):
    with pytest.raises(ValueError, match=r"must have been made with seed 1"):
        SyntheticRoomDataset(split="train", data_root=root, room_seed=1, **ROOMS)


def test_input_views_are_other_frames_than_those_to_render(root):
    def names(view_split, seed=0, **counts):
        data = SyntheticRoomDataset(split="train", data_root=root, view_split=view_split, **counts, **ROOMS)
        sample = data[0, seed]
        return sample.views.name, sample.input_views.name

    for seed in range(3):
        rendered, seen = names("train", seed, num_views=2, num_input_views=4)
        assert len(rendered) == 2 and len(seen) == 4 and not set(rendered) & set(seen) and "7" not in rendered + seen
    assert names("train", 1, num_views=2, num_input_views=4) != names("train", 2, num_views=2, num_input_views=4)
    assert names("heldout", num_views=2, num_input_views=3) == (("7",), ("1", "3", "5"))
    rendered, seen = names("train", num_views=10, num_input_views=10)  # 7 frames are there: both get their share
    assert len(rendered) == 4 and len(seen) == 3
    rendered, seen = names("train", num_views=1, num_input_views=100)
    assert len(rendered) == 1 and len(seen) == 6


def test_without_input_views_nothing_changes(root):
    data = SyntheticRoomDataset(split="train", data_root=root, num_views=3, **ROOMS)
    assert data[0].input_views is None
    with pytest.raises(ValueError, match="num_input_views must not be negative, and 0 without num_views: got -1 and 3"):
        SyntheticRoomDataset(split="train", data_root=root, num_views=3, num_input_views=-1, **ROOMS)
