import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pointcept.datasets import NuScenesDrivingDataset, PandaSetDrivingDataset, collate
from pointcept.datasets.driving.base import fitted_to_width, held_out_azimuth, lidar_depth, rigid
from pointcept.datasets.driving.nuscenes import VALIDATION_SCENES
from pointcept.datasets.transforms import Collect, GridSample, RandomRotate

CHANNELS = ("CAM_FRONT", "CAM_BACK")
SIZE = (12, 16)
HALF = np.sqrt(0.5)
# ego_from_camera: z (forward) along x of the car and x (right) along its -y; the other one looks back.
TURNS = {"CAM_FRONT": [0.5, -0.5, 0.5, -0.5], "CAM_BACK": [0.5, -0.5, -0.5, 0.5]}


def yaw(angle):
    return [float(np.cos(angle / 2)), 0.0, 0.0, float(np.sin(angle / 2))]


def write_nuscenes(root: Path, scenes=("scene-0001", "scene-0003"), version="v1.0-trainval"):
    """Two samples per scene: the car drives 1 m from sweep to image along its heading, at 90 degrees in the world."""
    tables = {name: [] for name in ("scene", "sample", "sample_data", "ego_pose", "calibrated_sensor", "sensor")}
    for channel in ("LIDAR_TOP", *CHANNELS):
        is_camera = channel != "LIDAR_TOP"
        tables["sensor"].append({"token": f"s-{channel}", "channel": channel, "modality": "-"})
        tables["calibrated_sensor"].append(
            {
                "token": f"c-{channel}",
                "sensor_token": f"s-{channel}",
                "translation": [0.0, 0.0, 1.5] if is_camera else [0.0, 0.0, 2.0],
                "rotation": TURNS[channel] if is_camera else yaw(np.pi / 2),  # the LiDAR's x is the car's y
                "camera_intrinsic": [[8.0, 0, 7.5], [0, 8.0, 5.5], [0, 0, 1]] if is_camera else [],
            }
        )
    for scene in scenes:
        tables["scene"].append({"token": f"t-{scene}", "name": scene})
        for moment in (1, 0):  # not in the order of time
            sample = f"{scene}-{moment}"
            tables["sample"].append({"token": sample, "timestamp": moment, "scene_token": f"t-{scene}"})
            for channel in ("LIDAR_TOP", *CHANNELS):
                suffix = ".jpg" if channel != "LIDAR_TOP" else ".pcd.bin"
                name = f"samples/{channel}/{sample}{suffix}"
                north = 100.0 if channel == "LIDAR_TOP" else 101.0
                pose = {"token": f"e-{sample}-{channel}", "translation": [50.0, north, 0.0], "rotation": yaw(np.pi / 2)}
                tables["ego_pose"].append(pose)
                tables["sample_data"].append(
                    {
                        "token": f"d-{sample}-{channel}",
                        "sample_token": sample,
                        "ego_pose_token": pose["token"],
                        "calibrated_sensor_token": f"c-{channel}",
                        "is_key_frame": True,
                        "filename": name,
                    }
                )
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                if channel == "LIDAR_TOP":
                    # In the car's frame: 11 m ahead on the axis of the front camera, 21 m behind it, and on the car.
                    in_car = np.array([[11.0, 0, 1.5], [13.0, 0, 1.5], [-20.0, 0, 1.5], [1.0, 0.5, 1.0]])
                    in_lidar = np.stack((in_car[:, 1], -in_car[:, 0], in_car[:, 2] - 2.0), axis=1)
                    rows = np.concatenate((in_lidar, [[255.0, 0], [51, 1], [0, 2], [9, 3]]), axis=1)
                    rows.astype("<f4").tofile(root / name)
                else:
                    ramp = np.arange(SIZE[0] * SIZE[1] * 3, dtype=np.uint8).reshape(*SIZE, 3)
                    Image.fromarray(ramp).save(root / name)
    # A sweep between key frames, and a table entry of a sensor that nobody asks for.
    tables["sample_data"].append(
        {**tables["sample_data"][0], "token": "between", "is_key_frame": False, "filename": "x"}
    )
    (root / version).mkdir(parents=True)
    for name, records in tables.items():
        (root / version / f"{name}.json").write_text(json.dumps(records))
    return root


def nuscenes(root, **options):
    return NuScenesDrivingDataset(**{"data_root": root, "split": "train", "cameras": CHANNELS, **options})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_nuscenes(tmp_path_factory.mktemp("nuscenes"))


def test_a_sample_is_the_sweep_and_the_images_in_the_cars_frame(root):
    sample = nuscenes(root)[0]
    np.testing.assert_allclose(sample.coord, [[11, 0, 1.5], [13, 0, 1.5], [-20, 0, 1.5]], atol=1e-5)
    np.testing.assert_allclose(sample.point["strength"], [[1.0], [0.2], [0.0]])
    assert sample.name == "scene-0001-0" and sample.views.name == CHANNELS
    # When the image was taken the car was 1 m further: 10 m of the nearer point remain in front, 21 m behind.
    front, back = sample.views.depth
    assert sorted(front[front > 0].tolist()) == pytest.approx([10.0])  # the farther point hides behind the nearer
    assert sorted(back[back > 0].tolist()) == pytest.approx([21.0])
    # The points lie on the axis, at (7.5, 5.5): the pixel is the one whose centre follows, half up.
    assert front[6, 8] > 0 and back[6, 8] > 0
    camera = sample.views.extrinsic[0] @ [13.0, 2.0, 1.5, 1.0]
    np.testing.assert_allclose(camera, [-2.0, 0, 12.0, 1], atol=1e-9)  # 2 m to the left is -x


def test_splits_are_the_official_ones_by_scene_and_time(root):
    assert [nuscenes(root)[i].name for i in range(2)] == ["scene-0001-0", "scene-0001-1"]
    assert [s.name for s in map(nuscenes(root, split="val").__getitem__, range(2))] == ["scene-0003-0", "scene-0003-1"]
    assert len(nuscenes(root, split="all")) == 4 and len(nuscenes(root, split=["scene-0003"], loop=3)) == 6
    assert len(VALIDATION_SCENES) == 150
    with pytest.raises(ValueError, match=r"must be one of train, val, all for v1.0-trainval.*got 'mini_val'"):
        nuscenes(root, split="mini_val")
    with pytest.raises(ValueError, match=r"has no scene-0007\. It has 2 scenes, such as 'scene-0001'"):
        nuscenes(root, split=["scene-0007"])


def test_images_are_scaled_to_the_width_and_cut_at_the_top(root):
    sample = nuscenes(root, image_size=(4, 8))[0]
    full = nuscenes(root)[0]
    assert [image.shape for image in sample.views.image] == [(4, 8, 3)] * 2
    # Half as wide; of the 6 rows that remain the upper 2 are cut: v' = (v + 0.5) / 2 - 0.5 - 2.
    np.testing.assert_allclose(sample.views.intrinsic[0], [[4, 0, 3.5], [0, 4, 0.5], [0, 0, 1]])
    lower = full.views.image[0][4:].reshape(4, 2, 8, 2, 3).mean(axis=(1, 3))
    assert np.abs(sample.views.image[0][1:-1, 1:-1] - lower[1:-1, 1:-1]).max() < 40  # roughly: the filter is wider
    assert sample.views.depth[0][1, 4] == pytest.approx(10.0)
    with pytest.raises(ValueError, match=r"of 12 x 16 pixels \(height x width\) cannot fill 7 x 8\. Choose fewer rows"):
        nuscenes(root, image_size=(7, 8))[0]


def test_points_and_views_move_together_and_collate(root):
    transform = [RandomRotate((0.3, 0.3), p=1.0, center=(0, 0, 0)), GridSample(0.1), Collect(("strength",))]
    batch = collate([nuscenes(root, transform=transform)[i] for i in range(2)])
    assert batch.points.feat.shape == (6, 1) and batch.cameras.image.shape == (2, 2, 3, 12, 16)
    point = batch.points.coord[batch.points.coord.norm(dim=1).argmin()].double()  # the one 11 m ahead
    camera = batch.cameras.extrinsic[0, 0].double()
    in_camera = camera[:3, :3] @ point + camera[:3, 3]
    np.testing.assert_allclose(in_camera, [0, 0, 10], atol=1e-4)


def test_nearest_point_of_a_pixel_wins_in_any_order():
    intrinsic = np.array([[10.0, 0, 2], [0, 10, 1], [0, 0, 1]])
    points = np.array([[0, 0, 5.0], [0, 0, 3], [0, 0, 4], [0.4, 0, 4], [0, 0, -2], [9, 0, 1]])
    for order in (slice(None), slice(None, None, -1)):
        depth = lidar_depth(points[order], np.eye(4), intrinsic, (3, 5))
        assert depth[1].tolist() == [0, 0, 3, 4, 0] and depth.sum() == 7
    assert lidar_depth(np.empty((0, 3)), np.eye(4), intrinsic, (3, 5)).sum() == 0


def test_held_out_wedges_are_in_no_training_view_and_in_no_cloud(tmp_path):
    root = write_nuscenes(tmp_path)
    angle = np.linspace(-np.pi, np.pi, 3000, endpoint=False)
    ring = np.stack((10 * np.cos(angle), 10 * np.sin(angle), np.zeros(3000), angle, angle), axis=1)
    for path in (root / "samples" / "LIDAR_TOP").iterdir():
        ring.astype("<f4").tofile(path)
    everything, train, rest = (nuscenes(root, lidar_split=split)[0] for split in ("all", "train", "heldout"))
    assert len(everything.coord) == 3000 and len(train.coord) == len(rest.coord)
    assert 0.11 < 1 - len(train.coord) / 3000 < 0.14  # an eighth
    for both, used, unused in zip(everything.views.depth, train.views.depth, rest.views.depth, strict=True):
        assert (used > 0).any() and (both > 0).sum() <= (used > 0).sum() + (unused > 0).sum()
    is_held_out = held_out_azimuth(everything.coord - [0, 0, 2.0])
    np.testing.assert_array_equal(everything.coord[~is_held_out], train.coord)
    # Wedges of two degrees: what is held out comes in runs of about 3000 / 180 neighbours on the ring.
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate(([0], held_out_azimuth(ring[:, :3]), [0])))))[::2]
    assert ((runs >= 15) & (runs <= 18)).sum() >= 20
    with pytest.raises((ValueError, TypeError), match="lidar_split"):
        nuscenes(root, lidar_split="test")


def test_ranges_leave_points_out(root):
    assert len(nuscenes(root, min_range_m=0)[0].coord) == 4
    assert len(nuscenes(root, max_range_m=12)[0].coord) == 1
    with pytest.raises(ValueError, match=r"between min_range_m = 30 and max_range_m = None: of .* none of 4 does"):
        nuscenes(root, min_range_m=30)[0]
    with pytest.raises(ValueError, match="max_range_m larger: got 5 and 4"):
        nuscenes(root, min_range_m=5, max_range_m=4)


def edit(root, table, change):
    path = root / "v1.0-trainval" / f"{table}.json"
    records = json.loads(path.read_text())
    change(records)
    path.write_text(json.dumps(records))


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("ego_pose", lambda r: r.clear(), r"must fit together: ego_pose.json has no record 'e-scene-0001-0-"),
        ("scene", lambda r: r[0].pop("name"), r"scene.json must be a JSON list of records with token, name: a rec"),
        ("sample_data", lambda r: r[:] and r.pop(4), r"'scene-0001-0' of scene-0001 in .* has none of CAM_FRONT,"),
        ("calibrated_sensor", lambda r: r[1].update(camera_distortion=[0.1, 0]), r"free of distortion: .*0\.1.*Und"),
        ("calibrated_sensor", lambda r: r[1].update(rotation=[1, 0]), "a translation of 3 and a quaternion of 4"),
    ],
)  # fmt: skip
def test_tables_that_do_not_fit_are_named(tmp_path, table, change, message):
    root = write_nuscenes(tmp_path)
    edit(root, table, change)
    with pytest.raises(ValueError, match=message):
        nuscenes(root)


def test_missing_and_damaged_files_are_named(tmp_path):
    root = write_nuscenes(tmp_path)
    sweep = root / "samples" / "LIDAR_TOP" / "scene-0001-0.pcd.bin"
    image = root / "samples" / "CAM_BACK" / "scene-0001-1.jpg"
    data = nuscenes(root)
    whole = sweep.read_bytes()
    sweep.write_bytes(whole[:-3])
    with pytest.raises(ValueError, match=r"must hold 5 float32 per point: .*scene-0001-0.pcd.bin has 77 bytes"):
        data[0]
    sweep.write_bytes(np.full(5, np.nan, "<f4").tobytes())
    with pytest.raises(ValueError, match=r"must hold finite points: .*has 1, 1 of them not finite"):
        data[0]
    sweep.unlink()
    with pytest.raises(FileNotFoundError, match=r"sweep of sample 'scene-0001-0' must exist: .* choose scenes whose"):
        data[0]
    image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"CAM_BACK/scene-0001-1.jpg must be a whole image file"):
        data[1]
    image.unlink()
    with pytest.raises(FileNotFoundError, match=r"CAM_BACK/scene-0001-1.jpg must exist"):
        data[1]
    (root / "v1.0-trainval" / "ego_pose.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"v1.0-mini does not exist. Correct data_root and version"):
        nuscenes(root, version="v1.0-mini")


def test_images_of_another_size_than_the_calibration_are_refused(tmp_path):
    root = write_nuscenes(tmp_path)
    for path in (root / "samples" / "CAM_FRONT").iterdir():
        Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"principal point must lie in the image: .* of 5 x 7 .* has \(7.5, 5.5\)"):
        nuscenes(root)[0]


def write_pandaset(root: Path):
    heading = dict(zip("wxyz", yaw(np.pi / 2), strict=True))
    for sequence in ("002", "003"):
        folder = root / sequence
        for name in ("converted", "lidar", "camera/front_camera"):
            (folder / name).mkdir(parents=True)
        poses = [{"position": dict(x=50.0, y=10.0 + i, z=0.0), "heading": heading} for i in range(2)]
        (folder / "lidar" / "poses.json").write_text(json.dumps(poses))
        # The camera looks along the car's y, which is the world's -x, from 1.5 m above the car's origin.
        look = rigid(np.array(yaw(np.pi / 2)), np.zeros(3)) @ rigid(np.array([HALF, -HALF, 0, 0]), np.zeros(3))
        assert np.allclose(look[:3, 2], [-1, 0, 0])
        turn = dict(w=0.5, x=-0.5, y=-0.5, z=0.5)
        assert np.allclose(rigid(np.array([turn[a] for a in "wxyz"]), np.zeros(3)), look)
        poses = [{"position": dict(x=50.0, y=10.0 + i, z=1.5), "heading": turn} for i in range(2)]
        (folder / "camera/front_camera/poses.json").write_text(json.dumps(poses))
        (folder / "camera/front_camera/intrinsics.json").write_text(json.dumps(dict(fx=8, fy=8, cx=7.5, cy=5.5)))
        for i in range(2):
            Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(folder / f"camera/front_camera/{i:02d}.jpg")
            xyz = np.array([[45.0, 10.0 + i, 1.5], [50.0, 30.0, 1.0]], np.float32)
            np.savez(folder / f"converted/lidar_{i:02d}.npz", xyz=xyz, intensity=np.array([255, 51], np.uint8))
    return root


def pandaset(root, **options):
    return PandaSetDrivingDataset(**{"data_root": root, "cameras": ("front_camera",), **options})


def test_pandaset_in_the_cars_frame(tmp_path):
    root = write_pandaset(tmp_path)
    data = pandaset(root)
    assert [data[i].name for i in range(len(data))] == ["002-00", "002-01", "003-00", "003-01"]
    sample = data[1]
    np.testing.assert_allclose(sample.coord, [[0, 5, 1.5], [19, 0, 1]], atol=1e-5)
    np.testing.assert_allclose(sample.point["strength"], [[1.0], [0.2]])
    assert sample.views.depth[0][6, 8] == pytest.approx(5.0) and (sample.views.depth[0] > 0).sum() == 1
    assert [s.name for s in map(pandaset(root, split=["003", "002/01"]).__getitem__, range(3))] == [
        "003-00",
        "003-01",
        "002-01",
    ]


def test_pandaset_that_is_not_converted_or_damaged_is_named(tmp_path):
    root = write_pandaset(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"has none of '004' \(looked for .*004/converted/lidar_\*.npz, found none"
    ):
        pandaset(root, split="004")
    with pytest.raises(FileNotFoundError, match=r"has none of '002/07' .* found 00, 01\). Convert the sweeps first"):
        pandaset(root, split="002/07")
    (root / "002/converted/lidar_00.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"lidar_00.npz must be an .npz file of xyz"):
        pandaset(root)[0]
    (root / "002/lidar/poses.json").write_text("[]")
    with pytest.raises(
        ValueError, match=r"poses.json must be a list of position and heading with an entry for frame 0"
    ):
        pandaset(root)
    (root / "002/lidar/poses.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"PandaSet needs .*poses.json: it does not exist"):
        pandaset(root)
    with pytest.raises(FileNotFoundError, match="data_root must hold sequences"):
        pandaset(root / "absent")


def test_the_cut_follows_the_width():
    intrinsic = np.array([[1000.0, 0, 800], [0, 1000, 450], [0, 0, 1]])
    box, scaled = fitted_to_width((900, 1600), (256, 704), intrinsic, Path("x.jpg"))
    top = 900 - 256 * 1600 / 704
    assert box == pytest.approx((0, top, 1600, 900))
    scale = 704 / 1600
    np.testing.assert_allclose(scaled[0], [1000 * scale, 0, 800.5 * scale - 0.5])
    np.testing.assert_allclose(scaled[1], [0, 1000 * scale, (450.5 - top) * scale - 0.5])


SAMPLES = os.environ.get("POINTCEPT_SAMPLES")


@pytest.mark.skipif(SAMPLES is None, reason="POINTCEPT_SAMPLES does not name a folder of real sequences")
def test_the_real_sample_of_nuscenes():
    root = Path(SAMPLES) / "nuscenes" / "scene-0061_sample0"
    data = NuScenesDrivingDataset(data_root=root, version="v1.0-test", split="test", image_size=(128, 352))
    info = json.loads((root / "mmdet3d_info_v2.json").read_text())["data_list"][0]
    for view, camera in enumerate(data.index.camera):
        camera_from_lidar = data.index.camera_from_world[0, view] @ data.index.world_from_cloud[0]
        np.testing.assert_allclose(camera_from_lidar, info["images"][camera]["lidar2cam"], atol=1e-6)
    sample = data[0]
    assert sample.num_points > 20000 and [image.shape for image in sample.views.image] == [(128, 352, 3)] * 6
    assert all(1500 < (depth > 0).sum() < 6000 for depth in sample.views.depth)


@pytest.mark.skipif(SAMPLES is None, reason="POINTCEPT_SAMPLES does not name a folder of real sequences")
def test_the_real_sample_of_pandaset():
    data = PandaSetDrivingDataset(data_root=Path(SAMPLES) / "pandaset", split="002", image_size=(128, 352))
    assert len(data) == 3
    first, last = data[0], data[2]
    assert all((depth > 0).sum() > 4000 for depth in first.views.depth)
    # The car stands still: what the views show stays where it is.
    both = (first.views.depth[3] > 0) & (last.views.depth[3] > 0)
    assert np.median(np.abs(first.views.depth[3] - last.views.depth[3])[both]) < 0.1
