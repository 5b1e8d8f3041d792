"""What a model receives: the scenes of one training or evaluation step."""

import dataclasses

from jaxtyping import Int
from torch import Tensor

from pointcept.structures.base import TensorStruct, require
from pointcept.structures.cameras import CameraBatch
from pointcept.structures.origin import OriginBatch
from pointcept.structures.points import PointBatch


@dataclasses.dataclass(frozen=True)
class SceneBatch(TensorStruct):
    """B scenes, each with a point cloud, posed views, or both.

    Attributes:
        seed: One number per scene; every random choice made for the scene derives from it, so that a scene's
            result depends neither on its batch mates nor on the process that computes it.
        name: Name of each scene.
        points: The point clouds, or None.
        cameras: The posed views, or None. They are what rendering is compared with.
        inputs: The posed views that an encoder of images sees; None: it sees ``cameras``.
        origin: The clouds before voxelization, or None.
    """

    seed: Int[Tensor, "_B"]
    name: tuple[str, ...]
    points: PointBatch | None = None
    cameras: CameraBatch | None = None
    inputs: CameraBatch | None = None
    origin: OriginBatch | None = None

    def __post_init__(self) -> None:
        sizes = {"name": len(self.name), "seed": self.seed.shape[0]}
        if self.points is not None:
            sizes["points"] = self.points.batch_size
        if self.cameras is not None:
            sizes["cameras"] = self.cameras.batch_size
        if self.inputs is not None:
            sizes["inputs"] = self.inputs.batch_size
        if self.origin is not None:
            sizes["origin"] = self.origin.batch_size
        require(
            len(set(sizes.values())) == 1,
            f"All parts of a batch must hold the same number of scenes: got {sizes}.",
        )

    @property
    def batch_size(self) -> int:
        """B, the number of scenes."""
        return len(self.name)
