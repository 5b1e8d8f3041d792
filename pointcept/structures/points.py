"""A batch of point clouds, concatenated, with the cumulative end of each cloud."""

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pointcept.structures.base import TensorStruct, require


@dataclasses.dataclass(frozen=True)
class PointBatch(TensorStruct):
    """B point clouds of N points together. Clouds may be empty, the last one too.

    Attributes:
        coord: Position, metres.
        grid_coord: Voxel index, non-negative for the samples that the transforms make.
        feat: Features: the input's at first, a backbone's later.
        offset: Cumulative end of each cloud, as in Pointcept; its last entry is N.
        segment: Class id, -1 = ignore; or None.
        instance: Instance id, -1 = none; or None.
        condition: Name of the data set of each cloud, for prompt-driven norms; may be empty.
    """

    coord: Float[Tensor, "_N 3"]
    grid_coord: Int[Tensor, "_N 3"]
    feat: Float[Tensor, "_N _C"]
    offset: Int[Tensor, "_B"]
    segment: Int[Tensor, "_N"] | None = None
    instance: Int[Tensor, "_N"] | None = None
    condition: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = self.coord.shape[0]
        for name in ("grid_coord", "feat", "segment", "instance"):
            value = getattr(self, name)
            require(
                value is None or value.shape[0] == count,
                f"{name} must have one row per point: got {None if value is None else tuple(value.shape)} for "
                f"coord {tuple(self.coord.shape)}.",
            )
        require(self.offset.ndim == 1, f"offset must have shape (B,): got {tuple(self.offset.shape)}.")
        # On an accelerator the check would wait for the device, and it would break a compiled graph.
        if self.offset.device.type == "cpu" and not torch.compiler.is_compiling():
            offset = self.offset.tolist()
            require(
                (offset[-1] if offset else 0) == count and all(a <= b for a, b in zip([0, *offset], offset)),
                f"offset must rise from 0 to N={count}: got {offset}. Build batches with collate.",
            )
        require(
            len(self.condition) in (0, self.batch_size),
            f"condition must name the data set of each of the {self.batch_size} clouds: got {self.condition}.",
        )

    @property
    def batch_size(self) -> int:
        """B, the number of clouds."""
        return self.offset.shape[0]

    @property
    def num_points(self) -> int:
        """N, the number of points of all clouds."""
        return self.coord.shape[0]

    @property
    def counts(self) -> Int[Tensor, "_B"]:
        """Number of points of each cloud."""
        return torch.diff(self.offset, prepend=self.offset.new_zeros(1))

    @property
    def batch_index(self) -> Int[Tensor, "_N"]:
        """Cloud that each point belongs to."""
        clouds = torch.arange(self.batch_size, device=self.offset.device)
        return torch.repeat_interleave(clouds, self.counts, output_size=self.num_points)

    def select(self, keep: Bool[Tensor, "_N"]) -> "PointBatch":
        """The points where ``keep`` holds, with all their data, in their order; clouds may become empty."""
        index = keep.nonzero()[:, 0]
        before = torch.cat((self.offset.new_zeros(1), keep.cumsum(0)))
        parts = {name: getattr(self, name) for name in ("coord", "grid_coord", "feat", "segment", "instance")}
        parts = {name: None if part is None else part.index_select(0, index) for name, part in parts.items()}
        return self.replace(offset=before.index_select(0, self.offset), **parts)
