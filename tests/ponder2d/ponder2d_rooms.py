"""A small scene of posed views in a box, for the tests of the encoders."""

import torch

from pointcept.structures import CameraBatch, PointBatch, SceneBatch


def make_cameras(scenes: int = 2, views: int = 3, height: int = 32, width: int = 64) -> CameraBatch:
    """Cameras inside a room of 4 x 3 x 2 m, which look along x and turn about z from view to view."""
    generator = torch.Generator().manual_seed(3)
    angle = torch.arange(views) * 0.4
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros(views), torch.ones(views)
    # columns: the camera's x (right), y (down) and z (forward) axes in the world
    rotation = torch.stack((sin, zero, cos, -cos, zero, sin, zero, -one, zero), dim=-1).view(views, 3, 3)
    world_from_camera = torch.eye(4).repeat(views, 1, 1)
    world_from_camera[:, :3, :3] = rotation
    world_from_camera[:, :3, 3] = torch.tensor([0.5, 1.0, 1.0])
    intrinsic = torch.tensor([[30.0, 0, (width - 1) / 2], [0, 30.0, (height - 1) / 2], [0, 0, 1]])
    return CameraBatch(
        image=torch.rand(scenes, views, 3, height, width, generator=generator),
        depth=torch.rand(scenes, views, height, width, generator=generator) + 1,
        intrinsic=intrinsic.expand(scenes, views, 3, 3),
        extrinsic=torch.linalg.inv(world_from_camera).expand(scenes, views, 4, 4),
        size_px=torch.tensor([height, width]).expand(scenes, views, 2),
    )


def make_batch(scenes: int = 2, views: int = 3) -> SceneBatch:
    """Scenes with points, input views and other views to render."""
    generator = torch.Generator().manual_seed(1)
    count = 50
    coord = torch.rand(scenes * count, 3, generator=generator) * torch.tensor([4.0, 3.0, 2.0])
    points = PointBatch(
        coord=coord,
        grid_coord=(coord * 10).long(),
        feat=torch.rand(scenes * count, 3, generator=generator),
        offset=torch.arange(1, scenes + 1) * count,
    )
    inputs = make_cameras(scenes, views)
    targets = make_cameras(scenes, 2, 8, 12)
    return SceneBatch(
        seed=torch.arange(scenes) + 7,
        name=tuple(f"room{i}" for i in range(scenes)),
        points=points,
        cameras=targets,
        inputs=inputs,
    )
