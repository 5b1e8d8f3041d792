"""Rays that the tests of samplers share."""

import torch

from pointcept.structures import RayBatch


def straight_rays(near: float = 1.0, far: float = 5.0) -> RayBatch:
    """Two scenes of three rays along z."""
    ones = torch.ones(2, 3)
    return RayBatch(
        origins=torch.zeros(2, 3, 3),
        directions=torch.tensor([0.0, 0, 1]).expand(2, 3, 3),
        near=ones * near,
        far=ones * far,
        valid=ones.bool(),
    )


def unused(distance):
    """A signed distance that the sampler under test must not ask for."""
    raise AssertionError("this sampler must not ask for the SDF")
