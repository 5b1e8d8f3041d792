"""The points of each scene before voxelization, for predictions and scores at full resolution."""

import dataclasses

from jaxtyping import Int
from torch import Tensor

from pointcept.structures.base import TensorStruct, require


@dataclasses.dataclass(frozen=True)
class OriginBatch(TensorStruct):
    """M original points of B scenes together.

    Attributes:
        inverse: Row of the batch's points that stands for each original point.
        offset: Cumulative end of each scene's original points.
        segment: Class id of each original point, -1 = ignore; or None.
    """

    inverse: Int[Tensor, "_M"]
    offset: Int[Tensor, "_B"]
    segment: Int[Tensor, "_M"] | None = None

    def __post_init__(self) -> None:
        require(
            self.segment is None or self.segment.shape == self.inverse.shape,
            f"segment must have one row per original point: got {_shape(self.segment)} for inverse "
            f"{_shape(self.inverse)}.",
        )

    @property
    def batch_size(self) -> int:
        """B, the number of scenes."""
        return self.offset.shape[0]


def _shape(value: Tensor | None) -> tuple[int, ...] | None:
    return None if value is None else tuple(value.shape)
