import json
import shutil

import numpy as np
import pytest
from PIL import Image

from pointcept.datasets import RGBDSceneDataset, SceneDataset, collate
from pointcept.datasets.transforms import (
    CenterShift,
    Collect,
    GridSample,
    NormalizeColor,
    PointRangeFilter,
    RandomDropout,
    RandomRotate,
    RandomScale,
)
from pointcept.registry import DATASETS, build

HEIGHT, WIDTH = 6, 8
FOCAL = 10.0


def write_matrix(path, matrix):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, matrix)


def intrinsic(focal, width, height):
    """Of a camera whose axis meets the middle of the image, the centre of the first pixel at (0, 0)."""
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])


def pose_of(number):
    pose = np.eye(4)
    pose[:3, 3] = (0.1 * number, 0, -1)
    return pose


def write_scene(root, name="room", split="train", numbers=range(10), num_points=50, origin=(0, 0, 0)):
    cloud = root / split / name
    cloud.mkdir(parents=True)
    rng = np.random.default_rng(0)
    np.save(cloud / "coord.npy", (rng.uniform(0, 2, (num_points, 3)) + origin).astype(np.float32))
    np.save(cloud / "color.npy", rng.integers(0, 256, (num_points, 3), dtype=np.uint8))
    np.save(cloud / "normal.npy", np.tile(np.float32([0, 0, 1]), (num_points, 1)))
    np.save(cloud / "segment20.npy", rng.integers(-1, 20, num_points))
    np.save(cloud / "instance.npy", rng.integers(-1, 5, num_points))
    frames = root / "rgbd" / name
    for part in ("color", "depth", "pose", "label"):
        (frames / part).mkdir(parents=True)
    for number in numbers:
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), (10, 20, 30), np.uint8)).save(frames / "color" / f"{number}.png")
        depth = np.full((HEIGHT, WIDTH), 1500, np.uint16)
        depth[0] = 0
        Image.fromarray(depth).save(frames / "depth" / f"{number}.png")
        write_matrix(frames / "pose" / f"{number}.txt", pose_of(number))
        Image.fromarray(np.full((HEIGHT, WIDTH), 39, np.uint8)).save(frames / "label" / f"{number}.png")
    write_matrix(frames / "intrinsic" / "intrinsic_depth.txt", intrinsic(FOCAL, WIDTH, HEIGHT))
    return frames


@pytest.fixture
def frames(tmp_path):
    """Folder of the frames of the only scene of the data set in ``tmp_path``."""
    return write_scene(tmp_path)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-30])


def test_item_holds_cloud_views_and_names(tmp_path, frames):
    dataset = RGBDSceneDataset(split="train", data_root=tmp_path, num_views=4)
    assert len(dataset) == 1
    sample = dataset[0]
    assert sample.name == "room" and sample.scene["condition"] == "ScanNet" and sample.seed == 0
    cloud = tmp_path / "train" / "room"
    np.testing.assert_array_equal(sample.coord, np.load(cloud / "coord.npy"))
    np.testing.assert_array_equal(sample.point["color"], np.load(cloud / "color.npy"))
    np.testing.assert_array_equal(sample.point["segment"], np.load(cloud / "segment20.npy"))
    np.testing.assert_array_equal(sample.point["instance"], np.load(cloud / "instance.npy"))
    assert sample.point["color"].dtype == np.float32 and sample.point["segment"].dtype == np.int64
    views = sample.views
    assert len(views) == 4 and len(set(views.name)) == 4 and "7" not in views.name  # 7 is held out
    for v, name in enumerate(views.name):
        assert views.image[v].shape == (HEIGHT, WIDTH, 3) and (views.image[v] == (10, 20, 30)).all()
        np.testing.assert_allclose(views.depth[v][1:], 1.5)
        assert (views.depth[v][0] == 0).all()
        assert (views.segment[v] == 19).all()  # NYU40 39, otherfurniture
        np.testing.assert_allclose(views.extrinsic[v] @ pose_of(int(name)), np.eye(4), atol=1e-12)
        np.testing.assert_allclose(views.intrinsic[v], intrinsic(FOCAL, WIDTH, HEIGHT))


def test_item_depends_on_its_key_alone(tmp_path, frames):
    transform = [CenterShift(), RandomDropout(0.5, 1), RandomRotate(p=1), GridSample(0.1)]
    dataset = RGBDSceneDataset(split="train", data_root=tmp_path, num_views=3, transform=transform)
    first = dataset[0, 123]
    np.random.seed(5)  # noqa: NPY002 - the global generator must not matter
    dataset[0, 7]
    fresh = RGBDSceneDataset(split="train", data_root=tmp_path, num_views=3, transform=transform)
    for again in (dataset[0, 123], fresh[0, 123]):
        assert again.seed == 123 and again.views.name == first.views.name
        np.testing.assert_array_equal(again.coord, first.coord)
        np.testing.assert_array_equal(again.views.extrinsic, first.views.extrinsic)
    others = [dataset[0, seed].views.name for seed in range(10)]
    assert len(set(others)) > 5


def test_held_out_views_are_the_same_for_every_seed(tmp_path):
    write_scene(tmp_path, numbers=range(0, 320, 10))
    dataset = RGBDSceneDataset(split="train", data_root=tmp_path, num_views=2, view_split="heldout")
    assert dataset[0, 1].views.name == dataset[0, 2].views.name == ("150", "310")
    train = RGBDSceneDataset(split="train", data_root=tmp_path, num_views=99)[0].views.name
    assert len(train) == 28 and not {"70", "150", "230", "310"} & set(train)


def test_scenes_are_sorted_repeated_and_listed_from_json(tmp_path):
    for name in ("b", "a", "c"):
        write_scene(tmp_path, name)
    write_scene(tmp_path, "d", split="val")
    (tmp_path / "train" / ".staging").mkdir()
    dataset = RGBDSceneDataset(split="train", data_root=tmp_path, loop=2)
    assert [dataset[i].name for i in range(len(dataset))] == ["a", "b", "c", "a", "b", "c"]
    with pytest.raises(IndexError, match=r"An index must lie in 0..5: got 6"):
        dataset[6]
    (tmp_path / "some.json").write_text(json.dumps(["val/d", "train/c"]))
    listed = RGBDSceneDataset(split=("some.json", "train"), data_root=tmp_path)
    assert [scene.name for scene in listed.scenes] == ["d", "c", "a", "b", "c"]


def test_a_chain_as_in_pretraining_makes_a_batch(tmp_path):
    for name in ("a", "b"):
        write_scene(tmp_path, name)
    transform = [
        dict(type="CenterShift", apply_z=True),
        dict(type="RandomDropout", dropout_ratio=0.8, dropout_application_ratio=1.0),
        dict(type="RandomRotate", angle=[-1, 1], axis="z", center=[0, 0, 0], p=0.5),
        dict(type="RandomRotate", angle=[-1 / 64, 1 / 64], axis="x", p=0.5),
        dict(type="RandomScale", scale=[0.9, 1.1]),
        dict(type="RandomFlip", p=0.5),
        dict(type="GridSample", grid_size=0.02, hash_type="fnv", mode="train", return_grid_coord=True),
        dict(type="CenterShift", apply_z=False),
        dict(type="NormalizeColor"),
        dict(type="ShufflePoint"),
        dict(type="Collect", feat_keys=("color", "normal")),
    ]
    config = dict(
        type="ScanNetRGBDDataset", split="train", data_root=str(tmp_path), transform=transform, image_size=(3, 4)
    )
    dataset = build(config, registry=DATASETS)
    batch = collate([dataset[0, 11], dataset[1, 12]])
    assert batch.points.feat.shape == (20, 6)
    assert batch.points.feat[:, :3].abs().max() <= 1
    assert batch.points.grid_coord.min() == 0
    assert batch.cameras.image.shape == (2, 5, 3, 3, 4)
    assert batch.seed.tolist() == [11, 12]


def test_resized_views_see_the_same_points(tmp_path, frames):
    # Left half dark, right half bright, its border between columns 3 and 4: at 3.5, x = 0 of the camera.
    ramp = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    ramp[:, WIDTH // 2 :] = 200
    depth = np.full((HEIGHT, WIDTH), 1000, np.uint16)
    depth[:, WIDTH // 2 :] = 2000
    label = np.full((HEIGHT, WIDTH), 1, np.uint8)
    label[:, WIDTH // 2 :] = 2
    for number in range(10):
        Image.fromarray(ramp).save(frames / "color" / f"{number}.png")
        Image.fromarray(depth).save(frames / "depth" / f"{number}.png")
        Image.fromarray(label).save(frames / "label" / f"{number}.png")
    for size in ((HEIGHT // 2, WIDTH // 2), (HEIGHT * 2, WIDTH * 2), (HEIGHT, WIDTH // 2)):
        views = RGBDSceneDataset(split="train", data_root=tmp_path, num_views=1, image_size=size)[0].views
        height, width = size
        np.testing.assert_allclose(views.intrinsic[0][0], [FOCAL * width / WIDTH, 0, (width - 1) / 2])
        np.testing.assert_allclose(views.intrinsic[0][1], [0, FOCAL * height / HEIGHT, (height - 1) / 2])
        assert views.image[0].shape == (*size, 3) and views.depth[0].shape == size
        np.testing.assert_array_equal(views.depth[0], np.tile(np.repeat([1.0, 2.0], width // 2), (height, 1)))
        np.testing.assert_array_equal(views.segment[0], np.tile(np.repeat([0, 1], width // 2), (height, 1)))
        middle = views.image[0].mean(axis=(0, 2))
        np.testing.assert_allclose(middle + middle[::-1], 200, atol=2)  # still symmetric about the axis
        assert middle[0] == 0 and middle[-1] == 200


def test_color_of_twice_the_size_is_resized_to_depth(tmp_path, frames):
    large = np.zeros((2 * HEIGHT, 2 * WIDTH, 3), np.uint8)
    large[:, WIDTH:] = 200
    for number in range(10):
        (frames / "color" / f"{number}.png").unlink()
        Image.fromarray(large).save(frames / "color" / f"{number}.jpg", quality=95)
    write_matrix(frames / "intrinsic" / "intrinsic_color.txt", intrinsic(2 * FOCAL, 2 * WIDTH, 2 * HEIGHT))
    views = RGBDSceneDataset(split="train", data_root=tmp_path, num_views=1)[0].views
    np.testing.assert_allclose(views.intrinsic[0], intrinsic(FOCAL, WIDTH, HEIGHT))
    np.testing.assert_allclose(views.image[0].mean(axis=(0, 2))[[0, 1, 2, 5, 6, 7]], [0, 0, 0, 200, 200, 200], atol=6)


def test_color_with_a_wider_view_is_cropped_to_depth(tmp_path, frames):
    # Twice as wide a view of the same resolution: depth sees the inner half, columns 4 to 11.
    wide = np.zeros((2 * HEIGHT, 2 * WIDTH, 3), np.uint8)
    wide[3 : 3 + HEIGHT, 4 : 4 + WIDTH] = np.arange(WIDTH)[None, :, None] * 10
    for number in range(10):
        Image.fromarray(wide).save(frames / "color" / f"{number}.png")
    write_matrix(frames / "intrinsic" / "intrinsic_color.txt", intrinsic(FOCAL, 2 * WIDTH, 2 * HEIGHT))
    views = RGBDSceneDataset(split="train", data_root=tmp_path, num_views=1)[0].views
    np.testing.assert_array_equal(views.image[0][..., 0], np.tile(np.arange(WIDTH) * 10, (HEIGHT, 1)))


def test_depth_may_look_slightly_past_the_color_image(tmp_path, frames):
    big = np.full((600, 800, 3), 100, np.uint8)
    for number in range(10):
        Image.fromarray(big).save(frames / "color" / f"{number}.png")
    write_matrix(frames / "intrinsic" / "intrinsic_color.txt", intrinsic(1010, 800, 600))  # 1 % longer than scaling
    views = RGBDSceneDataset(split="train", data_root=tmp_path, num_views=1)[0].views
    assert (views.image[0] == 100).all()


@pytest.mark.parametrize("color_size", [(HEIGHT, WIDTH + 2), (2 * HEIGHT, 2 * WIDTH)])
def test_different_sizes_without_calibration_are_refused(tmp_path, frames, color_size):
    for number in range(10):
        Image.fromarray(np.zeros((*color_size, 3), np.uint8)).save(frames / "color" / f"{number}.png")
    message = (
        r"different size need a calibration: frame \d of .*room has colour .* and depth \(6, 8\).*intrinsic_color.txt"
    )
    with pytest.raises(ValueError, match=message):
        RGBDSceneDataset(split="train", data_root=tmp_path)[0]


def test_calibration_that_cannot_register_color_is_refused(tmp_path, frames):
    path = frames / "intrinsic" / "intrinsic_color.txt"
    write_matrix(path, intrinsic(2 * FOCAL, 2 * WIDTH, 2 * HEIGHT))  # for an image that is not there
    dataset = RGBDSceneDataset(split="train", data_root=tmp_path)
    with pytest.raises(
        ValueError, match=r"must cover what the depth image shows.*correct intrinsic/intrinsic_color.txt"
    ):
        dataset[0]
    write_matrix(path, intrinsic(FOCAL, WIDTH, HEIGHT))
    shifted = np.eye(4)
    shifted[0, 3] = 0.025
    write_matrix(frames / "intrinsic" / "extrinsic_color.txt", shifted)
    with pytest.raises(ValueError, match=r"one eye point: the extrinsics in .*25.0 mm.*sequence converter"):
        dataset[0]
    write_matrix(frames / "intrinsic" / "extrinsic_depth.txt", shifted)
    assert len(dataset[0].views) == 5
    write_matrix(frames / "intrinsic" / "extrinsic_depth.txt", shifted * np.nan)
    with pytest.raises(ValueError, match=r"finite, rigid 4x4 matrix: .*extrinsic_depth.txt is not"):
        dataset[0]


def test_depth_units_range_and_saturation(tmp_path, frames):
    depth = np.full((HEIGHT, WIDTH), 4000, np.uint16)
    depth[0, :4] = (0, 65535, 20000, 8000)
    for number in range(10):
        Image.fromarray(depth).save(frames / "depth" / f"{number}.png")
    dataset = RGBDSceneDataset(split="train", data_root=tmp_path, depth_scale=1 / 4000, max_depth_m=4)
    np.testing.assert_allclose(dataset[0].views.depth[0][0, :5], [0, 0, 0, 2, 1])


def test_views_without_one_valid_pixel_are_allowed(tmp_path, frames):
    for number in range(10):
        Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16)).save(frames / "depth" / f"{number}.png")
    transform = [CenterShift(), RandomScale(), GridSample(0.1), NormalizeColor(), Collect()]
    batch = collate([RGBDSceneDataset(split="train", data_root=tmp_path, transform=transform)[0]])
    assert batch.cameras.depth.count_nonzero() == 0


def test_labels_are_optional_and_mapped(tmp_path, frames):
    for number in range(1, 10):
        (frames / "label" / f"{number}.png").unlink()
    ids = np.zeros((2 * HEIGHT, 2 * WIDTH), np.uint8)  # labels may have the size of another colour image
    ids[0], ids[-1] = 1, 40
    Image.fromarray(ids).save(frames / "label" / "0.png")
    views = RGBDSceneDataset(split="train", data_root=tmp_path, num_views=9)[0].views
    for name, segment in zip(views.name, views.segment, strict=True):
        assert (segment.shape == (HEIGHT, WIDTH) and (segment == -1).all()) or name == "0"
    without = RGBDSceneDataset(split="train", data_root=tmp_path, segment_key=None)[0]
    assert without.views.segment is None and "segment" not in without.point
    Image.fromarray(np.full((HEIGHT, WIDTH), 41, np.uint8)).save(frames / "label" / "0.png")
    with pytest.raises(ValueError, match=r"Labels must be NYU40 ids 0..40: .*0.png has 41..41"):
        RGBDSceneDataset(split="train", data_root=tmp_path, num_views=9)[0]
    Image.fromarray(np.ones((HEIGHT, 2 * WIDTH), np.uint8)).save(frames / "label" / "0.png")
    with pytest.raises(ValueError, match=r"not another shape: .*label/0.png has \(6, 16\) .*depth of \(6, 8\)"):
        RGBDSceneDataset(split="train", data_root=tmp_path, num_views=9)[0]


def test_a_fraction_of_the_scenes_is_spread_over_the_split(tmp_path):
    for number in range(10):
        write_scene(tmp_path, name=f"room{number}", numbers=range(1))

    def names(fraction):
        dataset = RGBDSceneDataset(split="train", data_root=tmp_path, fraction=fraction)
        return [scene.name for scene in dataset.scenes]

    assert names(0.01) == names(0.1) == ["room5"]
    assert names(0.3) == ["room1", "room5", "room8"]
    assert names(1) == [f"room{number}" for number in range(10)]
    with pytest.raises(ValueError, match=r"fraction must be above 0 and at most 1: got 0"):
        names(0)


def test_clouds_without_labels_colour_and_normals_are_read(tmp_path, frames):
    for name in ("segment20", "instance", "color", "normal"):
        (tmp_path / "train" / "room" / f"{name}.npy").unlink()
    sample = SceneDataset(split="train", data_root=tmp_path)[0]
    assert sample.point == {} and sample.num_points == 50 and sample.views is None


def test_one_point_passes_the_whole_chain(tmp_path):
    write_scene(tmp_path, num_points=1)
    transform = [CenterShift(), RandomDropout(0.8, 1), RandomRotate(p=1), GridSample(0.02), NormalizeColor(), Collect()]
    batch = collate([RGBDSceneDataset(split="train", data_root=tmp_path, transform=transform)[0]])
    assert batch.points.grid_coord.tolist() == [[0, 0, 0]]
    np.testing.assert_allclose(batch.points.coord, 0, atol=1e-6)


def test_a_million_metres_in_float64_files_keep_millimetres(tmp_path, frames):
    offset = np.array([1e6, -1e6, 0])
    near = np.array([[0.001, 0, 0], [1.002, 1, 1]])
    cloud = tmp_path / "train" / "room"
    np.save(cloud / "coord.npy", near + offset)
    for name in ("color", "normal", "segment20", "instance"):
        np.save(cloud / f"{name}.npy", np.load(cloud / f"{name}.npy")[:2])
    for number in range(10):
        pose = pose_of(number)
        pose[:3, 3] += offset
        np.savetxt(frames / "pose" / f"{number}.txt", pose, fmt="%.9f")
    sample = RGBDSceneDataset(split="train", data_root=tmp_path, transform=[CenterShift(), GridSample(0.01)])[0]
    assert sample.coord.dtype == np.float32
    np.testing.assert_allclose(sample.coord[1] - sample.coord[0], [1.001, 1, 1], atol=1e-6)
    center = np.linalg.inv(sample.views.extrinsic[0])[:3, 3]
    expected = pose_of(int(sample.views.name[0]))[:3, 3] - [0.5015, 0.5, 0]
    np.testing.assert_allclose(center, expected, atol=1e-6)


def test_empty_cloud_after_cropping_names_scene_and_transform(tmp_path, frames):
    crop = PointRangeFilter((5, 5, 5, 6, 6, 6))
    with pytest.raises(ValueError, match=r"PointRangeFilter left none of the 50 points of scene 'room'"):
        RGBDSceneDataset(split="train", data_root=tmp_path, transform=[crop])[0]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("color", r"color/0.png must be a whole image file: .*skip.lst"),
        ("depth", r"depth/0.png must be a whole image file: .*skip.lst"),
        ("label", r"label/0.png must be a whole image file"),
    ],
)
@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_a_damaged_image_is_named(tmp_path, part, message, damage):
    frames = write_scene(tmp_path, numbers=range(1))
    path = frames / part / "0.png"
    if damage == "truncated":
        truncate(path)
    else:
        path.write_bytes(b"" if damage == "empty" else b"not an image")
    with pytest.raises(ValueError, match=message):
        RGBDSceneDataset(split="train", data_root=tmp_path)[0]


def test_a_truncated_jpeg_is_named(tmp_path):
    frames = write_scene(tmp_path, numbers=range(1))
    (frames / "color" / "0.png").unlink()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(
        frames / "color" / "0.jpg"
    )
    truncate(frames / "color" / "0.jpg")
    with pytest.raises(ValueError, match=r"color/0.jpg must be a whole image file"):
        RGBDSceneDataset(split="train", data_root=tmp_path)[0]


def test_images_of_the_wrong_kind_are_named(tmp_path):
    frames = write_scene(tmp_path, numbers=range(1))
    dataset = RGBDSceneDataset(split="train", data_root=tmp_path)
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(frames / "label" / "0.png")
    with pytest.raises(ValueError, match=r"Labels must be an image of one channel.*label/0.png has shape"):
        dataset[0]
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(frames / "depth" / "0.png")
    with pytest.raises(ValueError, match=r"Depth must be a 16-bit image of one channel: .*depth/0.png has mode 'L'"):
        dataset[0]


@pytest.mark.parametrize("name", ["coord", "color", "normal", "segment20", "instance"])
def test_a_truncated_array_is_named(tmp_path, frames, name):
    truncate(tmp_path / "train" / "room" / f"{name}.npy")
    with pytest.raises(ValueError, match=rf"{name}.npy must be a whole .npy file: .*Convert or download it again"):
        RGBDSceneDataset(split="train", data_root=tmp_path)[0]


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (
            "coord",
            np.zeros((0, 3), np.float32),
            r"coord.npy must hold at least one point, shape \(N, 3\): got \(0, 3\)",
        ),
        (
            "coord",
            np.zeros((5, 2), np.float32),
            r"coord.npy must hold at least one point, shape \(N, 3\): got \(5, 2\)",
        ),
        ("coord", np.full((50, 3), np.nan, np.float32), r"coord.npy must be finite: 50 of 50 rows are not"),
        ("normal", np.full((50, 3), np.inf, np.float32), r"normal.npy must be finite: 50 of 50"),
        (
            "color",
            np.zeros((49, 3), np.uint8),
            r"color.npy must have one row of 3 per point.*got \(49, 3\) for 50 points",
        ),
        ("segment20", np.zeros((50, 2), np.int64), r"segment20.npy must have one row of 1 per point.*got \(50, 2\)"),
    ],
)
def test_an_array_of_wrong_shape_or_content_is_named(tmp_path, frames, name, array, message):
    np.save(tmp_path / "train" / "room" / f"{name}.npy", array)
    with pytest.raises(ValueError, match=message):
        RGBDSceneDataset(split="train", data_root=tmp_path)[0]


def test_missing_files_are_named(tmp_path, frames):
    dataset = RGBDSceneDataset(split="train", data_root=tmp_path)
    calibration = frames / "intrinsic" / "intrinsic_depth.txt"
    text = calibration.read_text()
    calibration.unlink()
    with pytest.raises(FileNotFoundError, match=r"intrinsic_depth.txt must exist"):
        dataset[0]
    for wrong in ("1 0 nan 0 1 0 0 0 1", "1 2 3", "0 0 0 0 0 0 0 0 1"):
        calibration.write_text(wrong)
        with pytest.raises(ValueError, match=r"Intrinsics must be a finite 3x3 or 4x4 matrix.*intrinsic_depth.txt"):
            dataset[0]
    np.savetxt(calibration, intrinsic(100, 100, 80))
    with pytest.raises(ValueError, match=r"principal point must lie in the depth image.*\(49.5, 39.5\).*width 8"):
        dataset[0]
    calibration.write_text(text)
    (tmp_path / "train" / "room" / "coord.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"A scene folder must hold coord.npy: .*room/coord.npy"):
        dataset[0]


def test_missing_splits_and_folders_say_what_to_do(tmp_path, frames):
    with pytest.raises(
        FileNotFoundError, match=r"val does not exist. .* holds rgbd, train. Correct split or data_root"
    ):
        RGBDSceneDataset(split="val", data_root=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist either"):
        RGBDSceneDataset(split="val", data_root=tmp_path / "nowhere")
    (tmp_path / "val").mkdir()
    with pytest.raises(ValueError, match=r"A split must hold at least one scene: .*val holds none"):
        RGBDSceneDataset(split="val", data_root=tmp_path)
    with pytest.raises(ValueError, match=r"split must name at least one split"):
        RGBDSceneDataset(split=(), data_root=tmp_path)
    (tmp_path / "list.json").write_text(json.dumps(["train/room", "train/gone"]))
    with pytest.raises(FileNotFoundError, match=r"1 of 2 do not exist, first .*train/gone"):
        RGBDSceneDataset(split="list.json", data_root=tmp_path)
    (tmp_path / "list.json").write_text(json.dumps({"train": 1}))
    with pytest.raises(ValueError, match=r"list.json must be a JSON list of strings"):
        RGBDSceneDataset(split="list.json", data_root=tmp_path)
    (tmp_path / "list.json").write_text("[")
    with pytest.raises(ValueError, match=r"list.json must be a JSON list of scene folders"):
        RGBDSceneDataset(split="list.json", data_root=tmp_path)
    shutil.copytree(tmp_path / "train" / "room", tmp_path / "train" / "second")
    with pytest.raises(FileNotFoundError, match=r"1 of 2 have none, first 'second'. Export their frames"):
        RGBDSceneDataset(split="train", data_root=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"rgbd_root must hold the frames.*elsewhere does not exist"):
        RGBDSceneDataset(split="train", data_root=tmp_path, rgbd_root=tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(num_views=-1), "num_views must not be negative and frame_interval at least 1: got -1 and 1"),
        (dict(frame_interval=0), "num_views must not be negative and frame_interval at least 1: got 5 and 0"),
        (dict(image_size=(4,)), r"image_size must be \(height, width\) in pixels: got \(4,\)"),
        (dict(depth_scale=0.0), "depth_scale and max_depth_m must be positive"),
        (dict(holdout_every=1), "holdout_every must be at least 2"),
        (dict(loop=0), "loop must be at least 1: got 0"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, frames, arguments, message):
    with pytest.raises(ValueError, match=message):
        RGBDSceneDataset(split="train", data_root=tmp_path, **arguments)


def test_skip_list_of_the_data_set_is_honoured(tmp_path, frames):
    (tmp_path / "skip.lst").write_text("".join(f"room {number}\n" for number in range(1, 10)))
    assert RGBDSceneDataset(split="train", data_root=tmp_path)[0].views.name == ("0",)


def test_reading_writes_nothing(tmp_path, frames):
    (frames / "pose" / "3.txt").unlink()
    before = sorted(path for path in tmp_path.rglob("*"))
    RGBDSceneDataset(split="train", data_root=tmp_path)[0]
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_a_scene_of_one_frame_has_no_input_views(tmp_path):
    write_scene(tmp_path, numbers=range(1))
    data = RGBDSceneDataset(split="train", data_root=tmp_path, num_views=1, num_input_views=2)
    with pytest.raises(ValueError, match=r"at least 2 usable frames: 'room' has 1 of view_split 'train'.*num_input_vi"):
        data[0]
