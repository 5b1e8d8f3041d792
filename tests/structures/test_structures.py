import numpy as np
import pytest
import torch

from pointcept.structures import CameraBatch, FeatureVolume, PointBatch, PointSample, RayBatch, SceneBatch, Views


def points(offset: list[int], **fields) -> PointBatch:
    count = offset[-1]
    return PointBatch(
        coord=torch.zeros(count, 3),
        grid_coord=torch.zeros(count, 3).long(),
        feat=torch.zeros(count, 2),
        offset=torch.tensor(offset),
        **fields,
    )


def views(*sizes: tuple[int, int], **fields) -> Views:
    extrinsic = np.tile(np.eye(4), (len(sizes), 1, 1))
    extrinsic[:, :3, 3] = [0.1, 0.2, 2.0]
    return Views(
        image=[np.zeros((*size, 3), np.uint8) for size in sizes],
        depth=[np.full(size, 1.5, np.float32) for size in sizes],
        intrinsic=np.tile(np.diag([50.0, 60.0, 1.0]), (len(sizes), 1, 1)),
        extrinsic=extrinsic,
        **fields,
    )


def project(sample: PointSample) -> tuple[np.ndarray, np.ndarray]:
    """Pixel and depth of every point in every view."""
    homogeneous = np.concatenate([sample.coord, np.ones((len(sample.coord), 1))], axis=1)
    camera = np.einsum("vij,nj->vni", sample.views.extrinsic, homogeneous)[..., :3]
    pixel = np.einsum("vij,vnj->vni", sample.views.intrinsic, camera)
    return pixel[..., :2] / pixel[..., 2:], camera[..., 2]


def test_batch_index_and_counts_with_empty_clouds_anywhere():
    batch = points([0, 2, 2, 3, 3])
    assert batch.counts.tolist() == [0, 2, 0, 1, 0]
    assert batch.batch_index.tolist() == [1, 1, 3]
    assert batch.batch_size == 5 and batch.num_points == 3


@pytest.mark.parametrize("offset", [[2, 1, 3], [1, 2], [4]])
def test_offsets_that_do_not_describe_the_points_are_refused(offset):
    with pytest.raises(ValueError, match=r"offset must rise from 0 to N=3: got"):
        PointBatch(torch.zeros(3, 3), torch.zeros(3, 3).long(), torch.zeros(3, 1), torch.tensor(offset))


def test_point_data_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"segment must have one row per point: got \(3,\) for coord \(2, 3\)"):
        points([2], segment=torch.zeros(3).long())
    with pytest.raises(ValueError, match="must name the data set of each of the 1 clouds"):
        points([2], condition=("ScanNet", "S3DIS"))


def test_batches_are_frozen_and_replaced_copies_are_checked():
    batch = points([1, 2])
    with pytest.raises(AttributeError):
        batch.feat = torch.ones(2, 2)
    assert batch.replace(feat=torch.ones(2, 5)).feat.shape == (2, 5)
    with pytest.raises(ValueError, match="feat must have one row per point"):
        batch.replace(feat=torch.ones(3, 5))


def test_moving_a_batch_moves_every_tensor_of_every_part():
    batch = SceneBatch(seed=torch.zeros(2).long(), name=("a", "b"), points=points([1, 2]))
    moved = batch.to("meta")
    assert moved.seed.is_meta and moved.points.coord.is_meta and moved.points.offset.is_meta
    assert moved.name == ("a", "b") and moved.cameras is None


def test_parts_of_a_batch_must_hold_the_same_scenes():
    with pytest.raises(ValueError, match="the same number of scenes"):
        SceneBatch(seed=torch.zeros(1).long(), name=("a",), points=points([1, 2]))


def test_camera_sizes_must_agree():
    with pytest.raises(ValueError, match=r"depth must have shape \(1, 2, 4, 5\)"):
        CameraBatch(
            image=torch.zeros(1, 2, 3, 4, 5),
            depth=torch.zeros(1, 2, 4, 4),
            intrinsic=torch.zeros(1, 2, 3, 3),
            extrinsic=torch.zeros(1, 2, 4, 4),
            size_px=torch.zeros(1, 2, 2).long(),
        )


def test_rays_must_agree():
    ones = torch.ones(1, 2)
    with pytest.raises(ValueError, match="far must describe the same rays"):
        RayBatch(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), near=ones, far=torch.ones(1, 3), valid=ones.bool())


def test_volume_knows_its_voxels():
    volume = FeatureVolume(torch.zeros(1, 4, 2, 5, 10), torch.tensor([[[0.0, 0, 1], [5, 5, 2]]]))
    assert volume.grid_shape == (10, 5, 2) and volume.num_channels == 4
    torch.testing.assert_close(volume.voxel_size, torch.tensor([[0.5, 1.0, 0.5]]))


@pytest.mark.parametrize("top", [0.0, -1.0, float("nan"), float("inf")])
def test_boxes_without_extent_are_refused(top):
    with pytest.raises(ValueError, match="positive extent along every axis"):
        FeatureVolume(torch.zeros(1, 4, 2, 2, 2), torch.tensor([[[0.0, 0, 0], [1, 1, top]]]))


def test_rows_are_in_the_order_of_the_memory():
    features = torch.arange(24.0).reshape(1, 1, 2, 3, 4).expand(1, 2, 2, 3, 4)
    volume = FeatureVolume(features, torch.tensor([[[0.0, 0, 0], [1, 1, 1]]]))
    assert torch.equal(volume.rows()[:, 0], torch.arange(24.0))


def test_a_similarity_moves_points_and_cameras_together():
    angle, scale = 0.7, 1.3
    moved_from_world = np.eye(4)
    moved_from_world[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    moved_from_world[:3, :3] *= scale
    moved_from_world[:3, 3] = [3.0, -1.0, 0.5]
    sample = PointSample(
        coord=np.random.default_rng(0).random((20, 3)).astype(np.float32),
        point={"normal": np.tile(np.array([[1.0, 0, 0]], np.float32), (20, 1))},
        views=views((4, 5), (3, 2)),
    )
    moved = sample.moved(moved_from_world)
    for before, after in zip(project(sample)[0], project(moved)[0], strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-4)
    np.testing.assert_allclose(project(moved)[1], project(sample)[1] * scale, rtol=1e-5)
    np.testing.assert_allclose(moved.views.depth[1], 1.5 * scale, rtol=1e-6)
    np.testing.assert_allclose(moved.point["normal"][0], [np.cos(angle), np.sin(angle), 0], atol=1e-6)
    rotation = moved.views.extrinsic[:, :3, :3]
    np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), np.tile(np.eye(3), (2, 1, 1)), atol=1e-12)


def test_cameras_cannot_follow_unequal_scales():
    with pytest.raises(ValueError, match="only follow a similarity"):
        views((4, 5)).transformed(np.diag([1.0, 1.0, 2.0, 1.0]))


def test_views_must_be_complete_and_registered():
    with pytest.raises(ValueError, match=r"view 0 has \(4, 5\) and \(2, 5\)"):
        Views(
            image=[np.zeros((4, 5, 3), np.uint8)],
            depth=[np.zeros((2, 5), np.float32)],
            intrinsic=np.eye(3)[None],
            extrinsic=np.eye(4)[None],
        )
    with pytest.raises(ValueError, match="one depth, intrinsic"):
        Views(image=[], depth=[], intrinsic=np.eye(3)[None], extrinsic=np.zeros((0, 4, 4)))


def test_selecting_points_selects_all_their_data():
    sample = PointSample(
        coord=np.arange(12, dtype=np.float32).reshape(4, 3), point={"mark": np.arange(4)}, scene={"name": "room"}
    )
    chosen = sample.select(np.array([2, 0]))
    assert chosen.point["mark"].tolist() == [2, 0] and chosen.coord[0, 0] == 6 and chosen.name == "room"


def test_point_data_must_have_a_row_per_point():
    with pytest.raises(ValueError, match="'color' must have one row per point: got 3 rows for 4 points in sample 'x'"):
        PointSample(coord=np.zeros((4, 3), np.float32), point={"color": np.zeros((3, 3))}, scene={"name": "x"})
    with pytest.raises(ValueError, match=r"coord must have shape \(N, 3\)"):
        PointSample(coord=np.zeros((4, 2), np.float32))
