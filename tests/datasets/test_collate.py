import dataclasses

import numpy as np
import pytest
import torch

from pointcept.datasets import collate
from pointcept.structures import PointSample, Views


def make_views(sizes, value=51, labels=False):
    count = len(sizes)
    extrinsic = np.tile(np.eye(4), (count, 1, 1))
    extrinsic[:, 2, 3] = 2
    return Views(
        image=[np.full((*size, 3), value, np.uint8) for size in sizes],
        depth=[np.full(size, 1.5, np.float32) for size in sizes],
        intrinsic=np.tile([[5.0, 0, 1], [0, 6.0, 2], [0, 0, 1]], (count, 1, 1)),
        extrinsic=extrinsic,
        segment=[np.full(size, 3) for size in sizes] if labels else None,
        name=tuple(str(v) for v in range(count)),
    )


def make_sample(name, num_points=3, *, views=None, input_views=None, seed=0, **changes):
    point = {
        "grid_coord": np.arange(num_points * 3).reshape(-1, 3),
        "feat": np.full((num_points, 6), 0.5, np.float32),
        "segment": np.full(num_points, 4),
        "color": np.zeros((num_points, 3), np.float32),
    }
    point = {key: value for key, value in (point | changes).items() if value is not None}
    coord = np.full((num_points, 3), float(num_points), np.float32)
    scene = {"name": name, "condition": "ScanNet"}
    return PointSample(coord=coord, point=point, scene=scene, views=views, input_views=input_views, seed=seed)


def test_points_are_concatenated_with_cumulative_offsets():
    batch = collate([make_sample("a", 3, seed=5), make_sample("b", 1, seed=2**62)])
    assert batch.name == ("a", "b")
    assert batch.seed.tolist() == [5, 2**62]
    assert batch.points.offset.tolist() == [3, 4]
    assert batch.points.coord[:, 0].tolist() == [3, 3, 3, 1]
    assert batch.points.grid_coord.dtype == torch.int64 and batch.points.grid_coord[3].tolist() == [0, 1, 2]
    assert batch.points.feat.shape == (4, 6) and batch.points.feat.dtype == torch.float32
    assert batch.points.segment.tolist() == [4] * 4
    assert batch.points.instance is None
    assert batch.points.condition == ("ScanNet", "ScanNet")
    assert batch.cameras is None


def test_views_of_different_size_and_number_are_padded():
    first = make_sample("a", views=make_views([(4, 6), (5, 3)], labels=True))
    second = make_sample("b", views=make_views([(2, 2)], value=255))
    cameras = collate([first, second]).cameras
    assert cameras.image.shape == (2, 2, 3, 5, 6)
    assert cameras.size_px.tolist() == [[[4, 6], [5, 3]], [[2, 2], [0, 0]]]
    expected = torch.zeros(5, 6)
    expected[:4, :6] = 1.5
    torch.testing.assert_close(cameras.depth[0, 0], expected)
    torch.testing.assert_close(cameras.image[0, 0, 1], expected / 1.5 * 0.2)  # 51 / 255
    assert cameras.image[1, 0, :, :2, :2].unique().tolist() == [1.0]
    assert cameras.image[1, 0].sum() == 12 and cameras.image[1, 1].sum() == 0
    assert (cameras.segment[0, 1] == 3).sum() == 15 and cameras.segment[0, 1, 0, 3] == -1
    assert (cameras.segment[1] == -1).all()  # a scene without 2D labels
    torch.testing.assert_close(cameras.intrinsic[1, 0], torch.tensor([[5.0, 0, 1], [0, 6, 2], [0, 0, 1]]))
    assert torch.linalg.det(cameras.intrinsic).abs().min() > 0  # invertible for absent views too
    torch.testing.assert_close(cameras.extrinsic[1, 1], torch.eye(4))


def test_a_batch_is_the_concatenation_of_single_batches():
    samples = [make_sample(name, count, views=make_views([(3, 4)])) for name, count in (("a", 2), ("b", 5))]
    batch = collate(samples)
    singles = [collate([sample]) for sample in samples]
    for field in ("coord", "grid_coord", "feat", "segment"):
        joined = torch.cat([getattr(single.points, field) for single in singles])
        torch.testing.assert_close(getattr(batch.points, field), joined)
    for field in dataclasses.fields(batch.cameras):
        if field.name not in ("segment", "feature"):  # these are None
            joined = torch.cat([getattr(single.cameras, field.name) for single in singles])
            torch.testing.assert_close(getattr(batch.cameras, field.name), joined)


def test_read_only_images_and_one_point_work():
    views = make_views([(2, 3)])
    views.image[0].setflags(write=False)
    batch = collate([make_sample("a", 1, views=views)])
    assert batch.points.num_points == 1


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "A batch needs at least one sample"),
        ([make_sample("a"), make_sample("b", 0)], "Every sample must have points: scene 'b' has none"),
        (
            [make_sample("a", feat=None, grid_coord=None)],
            r"scene 'a' lacks \['grid_coord', 'feat'\] and has \['color', 'segment'\]. End the transforms with",
        ),
        (
            [make_sample("a"), make_sample("b", segment=None)],
            r"none must have point data 'segment': scenes \['a'\] have it, \['b'\] do not",
        ),
        (
            [make_sample("a"), make_sample("b", feat=np.zeros((3, 4), np.float32))],
            r"the same number of features: got \[\('a', 6\), \('b', 4\)\]",
        ),
        (
            [make_sample("a", views=make_views([(2, 2)])), make_sample("b")],
            r"none must have views: scenes \['b'\] have none",
        ),
        (
            [make_sample("a"), dataclasses.replace(make_sample("b"), scene={"name": "b"})],
            r"none must have a condition: got \['ScanNet', None\]",
        ),
    ],
    ids=["no sample", "no points", "no features", "labels", "feature widths", "views", "condition"],
)
def test_samples_that_do_not_fit_together_are_named(samples, message):
    with pytest.raises(ValueError, match=message):
        collate(samples)


def test_input_views_are_a_batch_of_their_own():
    first = make_sample("a", views=make_views([(2, 2)]), input_views=make_views([(4, 6), (3, 3)], value=255))
    second = make_sample("b", views=make_views([(2, 2)]), input_views=make_views([(4, 4)]))
    batch = collate([first, second])
    assert batch.cameras.size_px.tolist() == [[[2, 2]], [[2, 2]]]
    assert batch.inputs.size_px.tolist() == [[[4, 6], [3, 3]], [[4, 4], [0, 0]]]
    assert batch.inputs.image[0, 0].min() == 1 and collate([make_sample("a")]).inputs is None
    with pytest.raises(ValueError, match=r"must have input views: scenes \['b'\] have none"):
        collate([first, make_sample("b", views=make_views([(2, 2)]))])


def test_scenes_of_images_alone_have_no_points():
    batch = collate([make_sample("a", 0, views=make_views([(2, 2)])), make_sample("b", 0, views=make_views([(2, 2)]))])
    assert batch.points is None and batch.cameras.num_views == 1 and batch.batch_size == 2


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("extrinsic", lambda m: m * 0, r"extrinsic must be a rigid camera_from_world: view 1 of scene 'a' has \[\[0.0"),
        ("extrinsic", lambda m: m @ np.diag([2.0, 1, 1, 1]), "extrinsic must be a rigid camera_from_world"),
        ("extrinsic", lambda m: m * np.nan, "extrinsic must be a rigid camera_from_world"),
        ("intrinsic", lambda m: m * 0, "intrinsic must be that of a pinhole camera: view 1 of scene 'a'"),
        ("intrinsic", lambda m: np.diag([1, 1, 0]) @ m, "intrinsic must be that of a pinhole camera"),
        (
            "intrinsic",
            lambda m: np.diag([40.0, 40, 1]) @ m,
            r"intrinsic must suit the image's size: .* for 4 x 6 pixels \(height x width\)\. Scale it",
        ),
    ],
)
def test_unusable_cameras_are_named(field, change, message):
    views = make_views([(4, 6), (4, 6)])
    matrices = getattr(views, field).copy()
    matrices[1] = change(matrices[1])
    with pytest.raises(ValueError, match=message):
        collate([make_sample("a", views=dataclasses.replace(views, **{field: matrices}))])


def test_reflected_scenes_have_usable_cameras():
    sample = make_sample("a", views=make_views([(4, 6)]), input_views=make_views([(4, 6)]))
    moved = sample.moved(np.diag([-2.0, 2, 2, 1]))
    batch = collate([moved])
    assert batch.inputs.depth.max() == 3.0  # both kinds of views move
    assert torch.equal(batch.inputs.extrinsic, batch.cameras.extrinsic)
