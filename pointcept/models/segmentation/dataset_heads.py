"""Heads for several data sets with classes of their own: one of each, or one that compares with class embeddings."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from pointcept.models.segmentation.losses import CrossEntropyLoss, SegmentationLoss, segmentation_losses
from pointcept.models.segmentation.segmentor import require_classes
from pointcept.registry import MODELS, near_matches
from pointcept.rendering.class_tables import read_class_table
from pointcept.structures import PointBatch

CONDITIONS = ("Structured3D", "ScanNet", "S3DIS")
"""Order of the data sets in Pointcept's and PonderV2's models for several; that of their backbones is another."""

_CLIP_SCALE = math.log(100.0)


class DatasetHeads(nn.Module):
    """What turns features into logits where every data set has classes of its own.

    Every cloud goes through the head of its data set, which is ``PointBatch.condition``; a batch may mix data sets.

    Args:
        conditions: Names of the data sets, in the order of the heads.
        criteria: Losses; their sum is minimised. Cross-entropy by default.

    Raises:
        ValueError: a loss has another ``ignore_index`` than -1; a class is another one in every data set.
    """

    def __init__(self, conditions: Sequence[str], criteria: Sequence[SegmentationLoss]) -> None:
        super().__init__()
        self.conditions = tuple(conditions)
        self.criteria = nn.ModuleList(criteria or [CrossEntropyLoss()])
        for criterion in self.criteria:
            if criterion.ignore_index != -1:
                raise ValueError(
                    f"Losses of several data sets must have ignore_index=-1, as a class is another one in each of "
                    f"{list(conditions)}: {criterion.name} has {criterion.ignore_index}. Leave it out, and map what "
                    "shall not count to -1 in its data set."
                )

    def head(self, feat: Float[Tensor, "N C"], number: int) -> Float[Tensor, "N K"]:
        """Logits of the classes of data set ``number``."""
        raise NotImplementedError

    def rows(self, points: PointBatch) -> dict[int, Int[Tensor, "_R"]]:
        """The points of each data set that the batch has any of, by its number.

        Raises:
            ValueError: the batch does not name its data sets, or names one that there is no head for.
        """
        if not points.condition and points.batch_size > 0:
            raise ValueError(
                f"Heads of several data sets need the data set of each cloud (PointBatch.condition): got none for "
                f"{points.batch_size} clouds. Set condition= in the data sets, to one of {', '.join(self.conditions)}."
            )
        for name in points.condition:
            if name not in self.conditions:
                raise ValueError(
                    f"condition must be among those that there are heads for ({', '.join(self.conditions)}): got "
                    f"{name!r}. {near_matches(name, self.conditions)}"
                )
        of_cloud = [self.conditions.index(name) for name in points.condition]
        of_point = torch.tensor(of_cloud, device=points.offset.device).index_select(0, points.batch_index)
        return {number: torch.nonzero(of_point == number).squeeze(1) for number in sorted(set(of_cloud))}

    def logits(self, feat: Float[Tensor, "N C"], points: PointBatch) -> Float[Tensor, "N K"]:
        """Logits of all points, K the most classes of a data set of the batch; those that a cloud lacks are -inf."""
        parts = {number: self.head(feat.index_select(0, rows), number) for number, rows in self.rows(points).items()}
        width = max((part.shape[1] for part in parts.values()), default=0)
        result = feat.new_full((points.num_points, width), -torch.inf)
        for number, rows in self.rows(points).items():
            padded = F.pad(parts[number], (0, width - parts[number].shape[1]), value=-torch.inf)
            result = result.index_copy(0, rows, padded.to(result.dtype))
        return result

    def loss_terms(
        self, feat: Float[Tensor, "N C"], points: PointBatch, names: Sequence[str]
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Of each loss the sum over data sets of its value times the labelled points, and their number.

        Their quotient is the mean over the labelled points of the batch.

        Raises:
            ValueError: the batch has no labels, or labels outside the classes of their data set (checked on the CPU);
                or as of :meth:`rows`.
        """
        if points.segment is None:
            raise ValueError(
                f"Training a segmentor needs labels: the batch of {tuple(names)} has none. Set segment_key in the "
                "data sets, and keep 'segment' in Collect(keys=...)."
            )
        sums = {criterion.name: feat.new_zeros((), dtype=torch.float32) for criterion in self.criteria}
        for number, rows in self.rows(points).items():
            logits, target = self.head(feat.index_select(0, rows), number), points.segment.index_select(0, rows)
            if target.device.type == "cpu":
                require_classes(target, logits.shape[1], [f"{self.conditions[number]} in {list(names)}"])
            num_labelled = (target >= 0).sum()
            for name, value in segmentation_losses(self.criteria, logits, target).items():
                sums[name] = sums[name] + value * num_labelled
        count = (points.segment >= 0).sum().float()
        return {name: (total, count) for name, total in sums.items()}


@MODELS.register()
class DecoupledHeads(DatasetHeads):
    """One linear layer per data set (arXiv 2308.09718).

    Args:
        in_channels: Width of the features.
        conditions: Names of the data sets.
        num_classes: Classes of each.
        criteria: Losses; cross-entropy by default.

    Raises:
        ValueError: there is not one number of classes for each data set.
    """

    def __init__(
        self,
        in_channels: int,
        conditions: Sequence[str] = CONDITIONS,
        num_classes: Sequence[int] = (25, 20, 13),
        criteria: Sequence[SegmentationLoss] = (),
    ) -> None:
        super().__init__(conditions, criteria)
        if len(num_classes) != len(conditions):
            raise ValueError(
                f"num_classes must be given for each of {list(conditions)}: got {list(num_classes)}. Correct either."
            )
        self.seg_heads = nn.ModuleList(nn.Linear(in_channels, count) for count in num_classes)

    def head(self, feat: Float[Tensor, "N C"], number: int) -> Float[Tensor, "N K"]:
        """Logits of the classes of data set ``number``."""
        return self.seg_heads[number](feat)


@MODELS.register()
class LanguageHeads(DatasetHeads):
    """Cosines of projected features and fixed class embeddings, times a scale (arXiv 2308.09718, section 3.3).

    Data sets share the projection and the table; each has the rows of its own classes. The table is a part of the
    state, so that a checkpoint carries its own.

    Args:
        in_channels: Width of the features.
        valid_index: Rows of the table that are the classes of each data set, in the order of its labels;
            ``pointcept.datasets.unified_labels`` has those of indoor data sets.
        conditions: Names of the data sets.
        embeddings: The table, a safetensors file with one row per class as ``python -m pointcept.language`` writes it;
            None expects it in the checkpoint that is loaded.
        criteria: Losses; cross-entropy by default.
        num_embeddings: Rows of the table, where there is no file.
        embedding_channels: Their width, where there is no file.

    Raises:
        ValueError: the rows are not given for each data set, or one lies outside the table.
    """

    class_embedding: Float[Tensor, "_R _D"]

    def __init__(
        self,
        in_channels: int,
        valid_index: Sequence[Sequence[int]],
        conditions: Sequence[str] = CONDITIONS,
        embeddings: str | Path | None = None,
        criteria: Sequence[SegmentationLoss] = (),
        num_embeddings: int = 36,
        embedding_channels: int = 512,
    ) -> None:
        super().__init__(conditions, criteria)
        if len(valid_index) != len(conditions):
            raise ValueError(f"valid_index must be given for each of {list(conditions)}: got {len(valid_index)} lists.")
        if embeddings is None:
            table = torch.full((num_embeddings, embedding_channels), torch.nan)  # until a checkpoint is loaded
        else:
            table = F.normalize(read_class_table(embeddings).embeddings, dim=1)
        for number, index in enumerate(valid_index):
            if not 0 <= min(index) <= max(index) < table.shape[0]:
                raise ValueError(
                    f"valid_index must hold rows of the class embeddings, 0..{table.shape[0] - 1}: that of "
                    f"{conditions[number]} is {list(index)}. Correct it, or use the embeddings it was made for."
                )
            self.register_buffer(f"_index_{number}", torch.tensor(index), persistent=False)
        self.proj_head = nn.Linear(in_channels, table.shape[1])
        self.register_buffer("class_embedding", table)
        self.logit_scale = nn.Parameter(torch.tensor(_CLIP_SCALE), requires_grad=False)

    def head(self, feat: Float[Tensor, "N C"], number: int) -> Float[Tensor, "N K"]:
        """Logits of the classes of data set ``number``.

        Raises:
            ValueError: there is no table yet (checked on the CPU).
        """
        table = self.class_embedding.index_select(0, getattr(self, f"_index_{number}"))
        if table.device.type == "cpu" and bool(table.isnan().any()):
            raise ValueError(
                "A language-guided head needs class embeddings: got none. Give embeddings=, a file that python -m "
                "pointcept.language writes, or load a checkpoint that has them."
            )
        return F.normalize(self.proj_head(feat), dim=1) @ table.T * self.logit_scale.exp()
