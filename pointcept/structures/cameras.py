"""A batch of posed RGB-D views, padded to one size."""

import dataclasses

from jaxtyping import Float, Int
from torch import Tensor

from pointcept.structures.base import TensorStruct, require


@dataclasses.dataclass(frozen=True)
class CameraBatch(TensorStruct):
    """V views of each of B scenes. Smaller views, and views that a scene lacks, are padded.

    Padding has zero colour and depth, and the cameras of absent views are identities, so that nothing computed for them
    is not a number.

    Attributes:
        image: Colour, 0..1, RGB.
        depth: z-depth, metres, 0 = missing.
        intrinsic: Pixels, the centre of the first pixel at (0, 0).
        extrinsic: camera_from_world, OpenCV axes (x right, y down, z forward), metres.
        size_px: Height and width of each view before padding; (0, 0) for a view that the scene lacks.
        segment: Class id, -1 = ignore; or None.
        feature: Feature map of each whole view (without its padding) by a frozen image network; or None.
    """

    image: Float[Tensor, "_B _V 3 _H _W"]
    depth: Float[Tensor, "_B _V _H _W"]
    intrinsic: Float[Tensor, "_B _V 3 3"]
    extrinsic: Float[Tensor, "_B _V 4 4"]
    size_px: Int[Tensor, "_B _V 2"]
    segment: Int[Tensor, "_B _V _H _W"] | None = None
    feature: Float[Tensor, "_B _V _C _h _w"] | None = None

    def __post_init__(self) -> None:
        batch, views, _, height, width = self.image.shape
        expected = {
            "depth": (batch, views, height, width),
            "intrinsic": (batch, views, 3, 3),
            "extrinsic": (batch, views, 4, 4),
            "size_px": (batch, views, 2),
            "segment": (batch, views, height, width),
        }
        for name, shape in expected.items():
            value = getattr(self, name)
            require(
                value is None or tuple(value.shape) == shape,
                f"{name} must have shape {shape} to go with image {tuple(self.image.shape)}: got "
                f"{None if value is None else tuple(value.shape)}.",
            )
        require(
            self.feature is None or (self.feature.ndim == 5 and tuple(self.feature.shape[:2]) == (batch, views)),
            f"feature must have shape {(batch, views)} + (C, h, w) to go with image {tuple(self.image.shape)}: got "
            f"{None if self.feature is None else tuple(self.feature.shape)}.",
        )

    @property
    def batch_size(self) -> int:
        """B, the number of scenes."""
        return self.image.shape[0]

    @property
    def num_views(self) -> int:
        """V, the largest number of views of a scene."""
        return self.image.shape[1]
