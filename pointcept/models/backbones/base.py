"""What every backbone of the toolkit can do, whatever it is made of."""

from abc import abstractmethod
from typing import NamedTuple

from torch import nn

from pointcept.registry import MODELS, load_builtins
from pointcept.structures import PointBatch


class StageInfo(NamedTuple):
    """One resolution of a backbone.

    Attributes:
        channels: Width of its features.
        stride: Edge of its voxels, in voxels of the input.
    """

    channels: int
    stride: int


class Backbone(nn.Module):
    """Turns the input features of points into learned ones.

    A cloud's result does not depend on the other clouds of its batch, and follows its points when they are permuted.
    Pre-training needs no more than :meth:`forward` and ``out_channels``; what is built on top of several resolutions,
    fine-tuning and long training use the rest.

    Attributes:
        in_channels: Width of the input features.
        num_classes: Number of logits per point; 0 gives features.
        out_channels: Width of the result: ``num_classes``, or that of the features where it is 0.
        encoder_parts: Names of the children that make up the encoder, for freezing them.
        gradient_checkpointing: Whether blocks are computed again in the backward pass, which saves their memory.
    """

    in_channels: int
    num_classes: int = 0
    out_channels: int
    encoder_parts: tuple[str, ...] = ()
    gradient_checkpointing: bool = False

    @abstractmethod
    def forward(self, points: PointBatch) -> PointBatch:
        """The same points, in the same order, with ``out_channels`` features."""
        raise NotImplementedError

    @abstractmethod
    def forward_stages(self, points: PointBatch) -> list[PointBatch]:
        """The last features of every resolution, finest first, before the head.

        Entry i has one point for each occupied voxel of stride ``stage_info[i].stride``: ``coord`` is the mean of the
        input points in it, ``grid_coord`` counts voxels of that size, ``offset`` and ``condition`` are those of the
        clouds. Labels are left out.
        """
        raise NotImplementedError

    @property
    @abstractmethod
    def stage_info(self) -> tuple[StageInfo, ...]:
        """Channels and stride of what :meth:`forward_stages` gives, in its order."""
        raise NotImplementedError

    @abstractmethod
    def reset_head(self, num_classes: int) -> None:
        """Replaces the head by a freshly initialised one, or by none where ``num_classes`` is 0.

        Raises:
            ValueError: ``num_classes`` is negative.
        """
        raise NotImplementedError

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Trades time for memory in training; results, gradients and running statistics stay the same."""
        self.gradient_checkpointing = enabled


def backbone_names() -> list[str]:
    """Registered names of all backbones, without their aliases."""
    load_builtins()
    targets = {name: MODELS.get(name) for name in MODELS.names()}
    return [
        name
        for name, target in targets.items()
        if isinstance(target, type) and issubclass(target, Backbone) and target.__name__ == name
    ]
