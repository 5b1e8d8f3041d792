import math

import pytest
import torch

from pointcept.rendering.rays import RaySampler, camera_rays, intersect_box, make_rays, measured_normals
from pointcept.structures import CameraBatch


def make_cameras(depth: torch.Tensor, size: tuple[tuple[int, int], ...] | None = None) -> CameraBatch:
    """One scene whose views look along +x from (1, 2, 1.5) with z up, focal length 4 pixels."""
    views, height, width = depth.shape
    world_from_camera = torch.eye(4)
    world_from_camera[:3, :3] = torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    world_from_camera[:3, 3] = torch.tensor([1.0, 2.0, 1.5])
    intrinsic = torch.tensor([[4.0, 0, (width - 1) / 2], [0, 4.0, (height - 1) / 2], [0, 0, 1]])
    size_px = torch.tensor(size or ((height, width),) * views)
    generator = torch.Generator().manual_seed(0)
    return CameraBatch(
        image=torch.rand(1, views, 3, height, width, generator=generator),
        depth=depth[None],
        intrinsic=intrinsic.expand(1, views, 3, 3),
        extrinsic=torch.linalg.inv(world_from_camera).expand(1, views, 4, 4),
        size_px=size_px[None],
    )


BOX = torch.tensor([[[0.0, 0, 0], [6, 4, 3]]])
SEED = torch.tensor([5])


def test_central_ray_looks_along_the_optical_axis_and_oblique_rays_are_longer():
    cameras = make_cameras(torch.ones(1, 3, 5))
    pixel = torch.tensor([[[[2.0, 1.0], [6.0, 1.0]]]])  # the centre, and 4 pixels = 45 degrees to the right
    origin, direction, length = camera_rays(cameras.intrinsic, cameras.extrinsic, pixel)
    torch.testing.assert_close(origin[0, 0], torch.tensor([1.0, 2.0, 1.5]))
    torch.testing.assert_close(direction[0, 0, 0], torch.tensor([1.0, 0, 0]))
    torch.testing.assert_close(direction[0, 0, 1], torch.tensor([1.0, -1.0, 0]) / math.sqrt(2))
    torch.testing.assert_close(length[0, 0], torch.tensor([1.0, math.sqrt(2)]))


def test_projecting_points_on_the_rays_gives_their_pixels_back():
    generator = torch.Generator().manual_seed(1)
    intrinsic = torch.tensor([[50.0, 3.0, 20], [0, 60.0, 15], [0, 0, 1]], dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    extrinsic = torch.eye(4, dtype=torch.float64)
    extrinsic[:3, :3], extrinsic[:3, 3] = rotation, torch.tensor([0.3, -2.0, 1.0])
    pixel = torch.rand(7, 2, generator=generator, dtype=torch.float64) * 40
    origin, direction, length = camera_rays(intrinsic, extrinsic, pixel)
    depth = torch.rand(7, generator=generator, dtype=torch.float64) + 0.5
    camera = (origin + direction * (depth * length)[:, None]) @ rotation.T + extrinsic[:3, 3]
    projected = camera @ intrinsic.T
    torch.testing.assert_close(camera[:, 2], depth)
    torch.testing.assert_close(projected[:, :2] / projected[:, 2:], pixel)


def test_box_is_entered_and_left_where_worked_out_by_hand():
    origins = torch.tensor([[[-1.0, 1, 1], [1, 1, 1], [1, 5, 1], [-1, 1, 1]]])
    directions = torch.tensor([[[1.0, 0, 0], [0, 0, 1], [1, 0, 0], [-1, 0, 0]]])
    near, far, hit = intersect_box(origins, directions, BOX, 0.01)
    assert hit.tolist() == [[True, True, False, False]]
    torch.testing.assert_close(near[0, :2], torch.tensor([1.0, 0.01]))
    torch.testing.assert_close(far[0, :2], torch.tensor([7.0, 2.0]))


def test_rays_that_are_not_numbers_or_have_no_direction_are_invalid():
    origins = torch.tensor([[[1.0, 1, 1], [float("nan"), 1, 1], [9, 9, 9.0]]])
    directions = torch.tensor([[[float("nan"), 0, 1.0], [1, 0, 0], [0, 0, 0]]])
    near, far, hit = intersect_box(origins, directions, BOX, 0.01)
    assert not hit.any() and torch.isfinite(near).all() and torch.isfinite(far).all()


def test_targets_are_the_pixels_and_depth_becomes_distance():
    depth = torch.arange(1.0, 16.0).reshape(1, 3, 5)
    cameras = make_cameras(depth)
    rays, targets, length = make_rays(cameras, BOX, torch.tensor([[[[3, 2], [0, 1]]]]))
    torch.testing.assert_close(targets.color[0, 0], cameras.image[0, 0, :, 2, 3])
    torch.testing.assert_close(targets.distance[0], torch.tensor([14.0, 6.0]) * length[0])
    assert rays.valid.all()


def test_sampler_takes_distinct_measured_pixels_of_every_view():
    depth = torch.ones(3, 6, 8)
    depth[1, :, 4:] = 0
    depth[2] = 0
    cameras = make_cameras(depth)
    rays, targets = RaySampler(num_rays=10)(cameras, BOX, SEED)
    assert rays.valid.reshape(3, 10).sum(1).tolist() == [10, 10, 0]
    assert (targets.distance[rays.valid] > 0).all()
    assert torch.unique(rays.directions[0, :10], dim=0).shape[0] == 10
    assert (rays.directions[0, 10:20, 1] > 0).all()  # the measured half is to the left, towards +y


def test_a_view_with_fewer_measured_pixels_than_rays_gives_all_it_has():
    depth = torch.zeros(1, 6, 8)
    depth[0, 2, 3] = depth[0, 5, 1] = 1.0
    rays, _ = RaySampler(num_rays=10)(make_cameras(depth), BOX, SEED)
    assert rays.valid.sum() == 2


def test_asking_for_more_rays_than_pixels_is_legal():
    rays, _ = RaySampler(num_rays=100)(make_cameras(torch.ones(2, 3, 4)), BOX, SEED)
    assert rays.valid.sum() == 24


def test_padding_is_never_sampled():
    depth = torch.ones(2, 6, 8)
    rays, _, _ = make_rays(
        make_cameras(depth, size=((6, 8), (2, 3))), BOX, torch.tensor([[[[7, 5], [2, 1]], [[3, 1], [2, 1]]]])
    )
    assert rays.valid.tolist() == [[True, True, False, True]]


def test_other_seeds_choose_other_pixels():
    cameras = make_cameras(torch.ones(1, 20, 20))
    first, _ = RaySampler(num_rays=16)(cameras, BOX, torch.tensor([1]))
    again, _ = RaySampler(num_rays=16)(cameras, BOX, torch.tensor([1]))
    other, _ = RaySampler(num_rays=16)(cameras, BOX, torch.tensor([2]))
    assert torch.equal(first.directions, again.directions)
    assert not torch.equal(first.directions, other.directions)


def lidar_like(views: int = 2, height: int = 20, width: int = 30) -> torch.Tensor:
    """One pixel in ten has depth, all of 2 m."""
    generator = torch.Generator().manual_seed(2)
    return 2.0 * (torch.rand(views, height, width, generator=generator) < 0.1)


def test_a_share_of_the_rays_goes_through_measured_pixels_and_the_rest_anywhere():
    cameras = make_cameras(lidar_like())
    rays, targets = RaySampler(num_rays=40, depth_share=0.5)(cameras, BOX, SEED)
    measured = (targets.distance > 0).view(2, 40)
    assert rays.valid.all()
    assert (measured[:, :20]).all()  # they come first
    assert 0 < measured[:, 20:].sum() < 12  # of 40 random pixels one in ten has depth
    for view in rays.directions.view(2, 40, 3):
        assert torch.unique(view, dim=0).shape[0] == 40  # no pixel twice
    column_spread = rays.directions.view(2, 40, 3)[:, 20:, 1]
    assert column_spread.max() > 0.7 and column_spread.min() < -0.7  # both sides of the image


def test_views_with_few_measured_pixels_fill_up_with_others_and_never_with_padding():
    depth = torch.zeros(2, 6, 8)
    depth[0, 2, 3] = depth[0, 5, 1] = 1.0
    cameras = make_cameras(depth, size=((6, 8), (2, 3)))
    rays, targets = RaySampler(num_rays=10, depth_share=0.5)(cameras, BOX, SEED)
    assert rays.valid.view(2, 10).sum(dim=1).tolist() == [10, 6]
    assert (targets.distance > 0).view(2, 10).sum(dim=1).tolist() == [2, 0]
    none, targets = RaySampler(num_rays=10, depth_share=0.0)(cameras, BOX, SEED)
    assert none.valid.view(2, 10).sum(dim=1).tolist() == [10, 6]


def test_the_default_takes_measured_pixels_alone_and_the_same_ones_as_ever():
    cameras = make_cameras(lidar_like())
    rays, targets = RaySampler(num_rays=10)(cameras, BOX, SEED)
    assert (targets.distance > 0).all() and rays.valid.all()
    half, _ = RaySampler(num_rays=20, depth_share=0.5)(cameras, BOX, SEED)
    first = half.directions.view(2, 20, 3)[:, :10].reshape(1, 20, 3)
    assert torch.equal(first, rays.directions)  # the measured share is drawn as all of them are


def test_a_share_is_a_share():
    with pytest.raises(ValueError, match=r"depth_share must lie in 0..1: got 1.5"):
        RaySampler(depth_share=1.5)


def test_no_rays_are_refused():
    with pytest.raises(ValueError, match="num_rays must be at least 1: got 0"):
        RaySampler(num_rays=0)


def test_normals_of_a_measured_plane_face_the_camera():
    """A plane tilted about the camera's y axis, z = 2 + 0.5 x in the camera frame; the camera looks along world -x."""
    height, width = 5, 6
    intrinsic = torch.tensor([[40.0, 0, 2.5], [0, 40, 2], [0, 0, 1]])
    camera_from_world = torch.eye(4)
    camera_from_world[:3, :3] = torch.tensor([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]])
    slant = (torch.arange(width) - 2.5) / 40
    depth = (2 / (1 - 0.5 * slant)).expand(height, width).clone()
    depth[4, 4] = 0.0
    cameras = CameraBatch(
        image=torch.zeros(1, 1, 3, height, width),
        depth=depth[None, None],
        intrinsic=intrinsic[None, None],
        extrinsic=camera_from_world[None, None],
        size_px=torch.tensor([[[height, width]]]),
    )
    pixel = torch.tensor([[[[2, 2], [0, 2], [4, 3], [3, 2]]]])  # inside, at the border, above a hole, inside
    found = measured_normals(cameras, pixel)
    in_camera = torch.tensor([0.5, 0.0, -1.0]) / 1.25**0.5
    expected = camera_from_world[:3, :3].T @ in_camera
    torch.testing.assert_close(found[0, [0, 3]], expected.expand(2, 3), atol=1e-4, rtol=0)
    assert not found[0, [1, 2]].any()


def test_rays_without_a_direction_miss():
    box = torch.tensor([[[-1.0, -1, -1], [1, 1, 1]]])
    near, far, hit = intersect_box(torch.zeros(1, 1, 3), torch.zeros(1, 1, 3), box, 0.01)
    assert (near, far, hit) == (0, 1, False)
