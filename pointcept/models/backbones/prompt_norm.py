"""Norms that depend on the data set of each cloud, and one way to apply them and ordinary norms."""

import dataclasses
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pointcept.ops.batch_norm import SyncBatchNorm
from pointcept.ops.sparse import VoxelSet
from pointcept.registry import near_matches
from pointcept.structures import PointBatch
from pointcept.utils.distributed import get_world_size

CONDITIONS = ("ScanNet", "S3DIS", "Structured3D")


class Prompt:
    """What prompt-driven norms need to know of a batch: the data set and the context vector of each cloud.

    Attributes:
        condition: Position of each cloud's data set among the conditions of the backbone, on the host.
        context: One vector per cloud; None where norms are not adaptive.
    """

    def __init__(self, condition: Sequence[int], context: Float[Tensor, "_B _C"] | None):
        self.condition = tuple(condition)
        self.context = context
        self._rows: dict[VoxelSet, dict[int, Tensor]] = {}

    def rows(self, voxels: VoxelSet) -> dict[int, Int[Tensor, "_R"]]:
        """The rows of ``voxels`` that belong to each condition that has any. Waits for the device once per set."""
        if voxels not in self._rows:
            condition = torch.tensor(self.condition, dtype=torch.long, device=voxels.batch_index.device)
            of_row = condition.index_select(0, voxels.batch_index)
            found = {index: (of_row == index).nonzero().view(-1) for index in sorted(set(self.condition))}
            self._rows[voxels] = {index: rows for index, rows in found.items() if rows.shape[0]}
        return self._rows[voxels]


class PromptNorm(nn.Module):
    """A norm per data set, a shift and scale from the data set's context vector, or both (arXiv 2308.09718).

    Clouds of several data sets may share a batch: each is normalised by the norm of its own.

    Args:
        channels: Width of the features.
        make_norm: Makes an ordinary norm of a given width.
        num_conditions: Number of data sets.
        decouple: Whether each data set has a norm of its own.
        context_channels: Width of the context vectors; 0 for no shift and scale.
        zero_init: Whether shift and scale begin as the identity.
        name: Under which the norm, or the list of norms, is kept in the state dict.
    """

    def __init__(
        self,
        channels: int,
        make_norm: Callable[[int], nn.Module],
        num_conditions: int,
        *,
        decouple: bool = True,
        context_channels: int = 0,
        zero_init: bool = False,
        name: str = "norm",
    ):
        super().__init__()
        self.decouple = decouple
        self._name = name
        norms = nn.ModuleList(make_norm(channels) for _ in range(num_conditions)) if decouple else make_norm(channels)
        self.add_module(name, norms)
        if context_channels > 0:
            self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(context_channels, 2 * channels))
            if zero_init:
                nn.init.zeros_(self.modulation[1].weight)
                nn.init.zeros_(self.modulation[1].bias)
        else:
            self.modulation = None

    def forward(self, features: Float[Tensor, "_V _C"], prompt: Prompt, voxels: VoxelSet) -> Float[Tensor, "_V _C"]:
        """Normalised features; row i lies in voxel i of ``voxels``."""
        norm = getattr(self, self._name)
        features = self._decoupled(norm, features, prompt, voxels) if self.decouple else apply_norm(norm, features)
        if self.modulation is None:
            return features
        shift, scale = self.modulation(prompt.context).index_select(0, voxels.batch_index).chunk(2, dim=1)
        return features * (1 + scale) + shift

    def _decoupled(self, norms: nn.ModuleList, features: Tensor, prompt: Prompt, voxels: VoxelSet) -> Tensor:
        present = set(prompt.condition)
        if len(present) == 1 and not self._is_synchronized(norms):
            return apply_norm(norms[present.pop()], features)
        rows = prompt.rows(voxels)
        # Norms that are synchronised over processes must be called by all of them, those with nothing to say as well.
        none = torch.empty(0, dtype=torch.long, device=features.device)
        called = range(len(norms)) if self._is_synchronized(norms) else sorted(rows) or [0]
        targets = [rows.get(index, none) for index in called]
        results = [apply_norm(norms[i], features.index_select(0, target)) for i, target in zip(called, targets)]
        result = torch.cat(results)
        return torch.zeros_like(result).index_copy(0, torch.cat(targets), result)

    def _is_synchronized(self, norms: nn.ModuleList) -> bool:
        return self.training and isinstance(norms[0], SyncBatchNorm) and get_world_size() > 1


@dataclasses.dataclass(frozen=True)
class PromptNormFactory:
    """Makes the norms of a backbone; a plain norm where no prompt is asked for.

    Attributes:
        make_norm: Makes an ordinary norm of a given width.
        num_conditions: Number of data sets; 0 for ordinary norms.
        decouple: See :class:`PromptNorm`.
        context_channels: See :class:`PromptNorm`.
        zero_init: See :class:`PromptNorm`.
        name: See :class:`PromptNorm`; ``name_single`` is used where there is one norm for all data sets.
        name_single: Name of the one norm that is not decoupled.
    """

    make_norm: Callable[[int], nn.Module]
    num_conditions: int = 0
    decouple: bool = True
    context_channels: int = 0
    zero_init: bool = False
    name: str = "norm"
    name_single: str = "norm"

    def __call__(self, channels: int) -> nn.Module:
        """The norm for features of that width."""
        if self.num_conditions == 0:
            return self.make_norm(channels)
        return PromptNorm(
            channels,
            self.make_norm,
            self.num_conditions,
            decouple=self.decouple,
            context_channels=self.context_channels,
            zero_init=self.zero_init,
            name=self.name if self.decouple else self.name_single,
        )


def make_prompt(points: PointBatch, conditions: Sequence[str], embedding: nn.Embedding | None) -> Prompt:
    """The prompt of a batch, from the name of the data set of each cloud.

    Args:
        points: The batch.
        conditions: Names that the backbone was built for.
        embedding: One context vector per name; None where norms are not adaptive.

    Raises:
        ValueError: the batch does not name its data sets, or names one that the backbone was not built for.
    """
    if not points.condition and points.batch_size > 0:
        raise ValueError(
            f"Prompt-driven norms need the data set of each cloud (PointBatch.condition): got none for "
            f"{points.batch_size} clouds. Set condition= in the data sets, to one of {', '.join(conditions)}."
        )
    known = list(conditions)
    for name in points.condition:
        if name not in known:
            raise ValueError(
                f"condition must be among those that the backbone was built for ({', '.join(known)}): got {name!r}. "
                f"{near_matches(name, known)}"
            )
    condition = [known.index(name) for name in points.condition]
    if embedding is None:
        return Prompt(condition, None)
    return Prompt(condition, embedding(torch.tensor(condition, dtype=torch.long, device=points.feat.device)))


def normalize(
    norm: nn.Module, features: Float[Tensor, "V C"], prompt: Prompt | None, voxels: VoxelSet
) -> Float[Tensor, "V C"]:
    """Applies a norm of either kind to the features of voxels.

    Raises:
        ValueError: a batch norm meets fewer than two voxels in training.
    """
    if isinstance(norm, PromptNorm):
        return norm(features, prompt, voxels)
    return apply_norm(norm, features)


def apply_norm(norm: nn.Module, features: Float[Tensor, "V C"]) -> Float[Tensor, "V C"]:
    """Applies an ordinary norm.

    Raises:
        ValueError: a batch norm meets fewer than two voxels in training.
    """
    if norm.training and isinstance(norm, nn.BatchNorm1d):
        if torch.compiler.is_compiling():
            torch._check(features.shape[0] >= 2)  # a number that a compiled graph does not know cannot be branched on
        elif features.shape[0] < 2:
            raise ValueError(
                "Batch norm needs at least two voxels at every resolution in training: got "
                f"{features.shape[0]}. Use larger crops or more clouds per batch, or leave such clouds out."
            )
    return norm(features)
