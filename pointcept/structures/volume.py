"""The feature volume: what every encoder makes and every renderer reads."""

import dataclasses
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pointcept.structures.base import TensorStruct, require


@dataclasses.dataclass(frozen=True)
class FeatureVolume(TensorStruct):
    """Features on a regular grid of Z x Y x X voxels that fills a box, one volume per scene.

    The box is bounded by the outer faces of the outermost voxels: the centre of voxel i along an axis of n voxels lies
    at ``minimum + (i + 0.5) * extent / n`` (``align_corners=False`` in torch's terms). Reads are trilinear; outside the
    grid features are zero.

    Attributes:
        features: Channels-last in memory (``torch.channels_last_3d``), so that one voxel's channels lie together.
        box: Minimum and maximum corner, (x, y, z), metres, world frame.
        occupied: Which voxels hold points of the input; None if unknown.
    """

    features: Float[Tensor, "_B _C _Z _Y _X"]
    box: Float[Tensor, "_B 2 3"]
    occupied: Bool[Tensor, "_B _Z _Y _X"] | None = None

    def __post_init__(self) -> None:
        require(self.features.ndim == 5, f"features must have shape (B, C, Z, Y, X): got {tuple(self.features.shape)}.")
        require(
            tuple(self.box.shape) == (self.features.shape[0], 2, 3),
            f"box must have shape ({self.features.shape[0]}, 2, 3): got {tuple(self.box.shape)}.",
        )
        require(
            self.box.device == self.features.device,
            f"features and box must be on one device: got {self.features.device} and {self.box.device}.",
        )
        expected = (self.features.shape[0], *self.features.shape[2:])
        require(
            self.occupied is None or tuple(self.occupied.shape) == expected,
            f"occupied must have shape {expected} to go with features {tuple(self.features.shape)}: got "
            f"{None if self.occupied is None else tuple(self.occupied.shape)}.",
        )
        if self.box.device.type == "cpu":  # on an accelerator the check would wait for the device
            extent = self.box[:, 1] - self.box[:, 0]
            require(
                bool((torch.isfinite(extent) & (extent > 0)).all()),
                f"The box of a volume must have a finite, positive extent along every axis: got {extent.tolist()} m.",
            )

    @property
    def batch_size(self) -> int:
        """B, the number of scenes."""
        return self.features.shape[0]

    @property
    def num_channels(self) -> int:
        """C."""
        return self.features.shape[1]

    @property
    def grid_shape(self) -> tuple[int, int, int]:
        """Number of voxels along x, y and z."""
        _, _, size_z, size_y, size_x = self.features.shape
        return size_x, size_y, size_z

    @property
    def voxel_size(self) -> Float[Tensor, "_B 3"]:
        """Edges of one voxel along x, y and z, metres."""
        return (self.box[:, 1] - self.box[:, 0]) / axis_values(self.grid_shape, self.box)

    def projected(self, network: Callable[[Tensor], Tensor]) -> "FeatureVolume":
        """The volume with the features that a dense network makes of its own, channels-last in memory."""
        return self.replace(features=network(self.features).contiguous(memory_format=torch.channels_last_3d))

    def rows(self) -> Float[Tensor, "_V _C"]:
        """Features as one row per voxel, in the order b, z, y, x; a view where the memory is channels-last."""
        return self.features.permute(0, 2, 3, 4, 1).reshape(-1, self.num_channels).contiguous()


def axis_values(values: tuple[int, int, int], like: Tensor) -> Float[Tensor, "3"]:
    """One number per axis with the type and device of ``like``, made on the device so that the host need not wait."""
    return torch.cat([like.new_full((1,), float(value)) for value in values])
