"""Rays of a batch of scenes, and what the images say of them."""

import dataclasses

from jaxtyping import Bool, Float, Int
from torch import Tensor

from pointcept.structures.base import TensorStruct, require


@dataclasses.dataclass(frozen=True)
class RayBatch(TensorStruct):
    """R rays in each of B scenes.

    Attributes:
        origins: Camera centre, metres, world frame.
        directions: Unit vector, world frame.
        near: Distance along the ray at which the scene box is entered, metres.
        far: Distance along the ray at which it is left, metres; above ``near`` for valid rays.
        valid: Whether the ray exists (it is no padding) and meets the box. Other rays contribute to no loss.
    """

    origins: Float[Tensor, "_B _R 3"]
    directions: Float[Tensor, "_B _R 3"]
    near: Float[Tensor, "_B _R"]
    far: Float[Tensor, "_B _R"]
    valid: Bool[Tensor, "_B _R"]

    def __post_init__(self) -> None:
        shape = tuple(self.origins.shape[:2])
        for name in ("directions", "near", "far", "valid"):
            value = getattr(self, name)
            require(
                tuple(value.shape[:2]) == shape,
                f"{name} must describe the same rays as origins {tuple(self.origins.shape)}: got {tuple(value.shape)}.",
            )


@dataclasses.dataclass(frozen=True)
class RayTargets(TensorStruct):
    """What the real images say of R rays in each of B scenes.

    Attributes:
        color: RGB, 0..1.
        distance: Distance along the ray to the measured surface, metres; 0 = not measured.
        segment: Class id, -1 = ignore; or None.
        feature: Feature that the ray should see (class embedding, teacher feature), all zero = none; or None.
        normal: Unit normal of the measured surface, towards the camera, world frame, all zero = none; or None.
        pixel: View, column and row that the ray belongs to, view -1 = none; or None if unknown.
    """

    color: Float[Tensor, "_B _R 3"]
    distance: Float[Tensor, "_B _R"]
    segment: Int[Tensor, "_B _R"] | None = None
    feature: Float[Tensor, "_B _R _F"] | None = None
    normal: Float[Tensor, "_B _R 3"] | None = None
    pixel: Int[Tensor, "_B _R 3"] | None = None
