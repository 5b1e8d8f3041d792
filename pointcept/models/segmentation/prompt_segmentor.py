"""Semantic segmentation of several data sets with one backbone: Point Prompt Training (arXiv 2308.09718)."""

from collections.abc import Sequence

from torch import Tensor, nn

from pointcept.models.segmentation.dataset_heads import CONDITIONS, DatasetHeads, DecoupledHeads, LanguageHeads
from pointcept.models.segmentation.losses import SegmentationLoss
from pointcept.registry import MODELS
from pointcept.structures import PointBatch, SceneBatch


class _PromptSegmentation(DatasetHeads):
    """The heads of several data sets on top of a backbone."""

    num_classes = 0  # as a backbone

    def _add_backbone(self, backbone: nn.Module, out_channels: int | None, backbone_mode: bool) -> None:
        if getattr(backbone, "num_classes", 0):
            raise ValueError(
                f"The backbone of a prompt segmentor must give features: it has num_classes={backbone.num_classes}. "
                "Set num_classes=0 in it."
            )
        if out_channels not in (None, backbone.out_channels):
            raise ValueError(
                f"backbone_out_channels must be the backbone's {backbone.out_channels}: got {out_channels}. Leave it "
                "out."
            )
        known = getattr(backbone, "conditions", None) or self.conditions
        absent = [name for name in self.conditions if name not in known]
        if absent:
            raise ValueError(
                f"The backbone's norms must know the data sets of the heads: {absent} are not among its conditions "
                f"{list(known)}. Add them to the backbone's conditions."
            )
        self.backbone = backbone
        self.out_channels = backbone.out_channels
        self.backbone_mode = backbone_mode

    def forward(self, batch: SceneBatch | PointBatch) -> dict[str, Tensor] | PointBatch:
        """Loss terms in training; in evaluation ``logits`` (N, K), as :meth:`DatasetHeads.logits` gives them.

        With ``backbone_mode`` it gives the features of a ``PointBatch``.

        Raises:
            ValueError: the batch has no points, names no data set or an unknown one, or in training has no labels or
                wrong ones.
        """
        if self.backbone_mode:
            return self.backbone(batch)
        if batch.points is None:
            raise ValueError(f"A segmentor needs point clouds: the batch of {batch.name} has none.")
        feat = self.backbone(batch.points).feat
        if not self.training:
            return {"logits": self.logits(feat, batch.points)}
        terms = self.loss_terms(feat, batch.points, batch.name)
        return {name: total / count.clamp(min=1) for name, (total, count) in terms.items()}


@MODELS.register("PPT-v1m2")
class DecoupledPromptSegmentor(_PromptSegmentation, DecoupledHeads):
    """Point Prompt Training with one linear head per data set; Pointcept's PPT-v1m2, whose checkpoints load.

    Args:
        backbone: Gives features; with prompt-driven norms it needs the same data sets, in any order.
        criteria: Losses; their sum is minimised. Cross-entropy by default.
        backbone_out_channels: Accepted for Pointcept's configs, and checked.
        context_channels: Accepted for Pointcept's configs: the backbone has the context vectors.
        conditions: Names of the data sets, in the order of the heads.
        num_classes: Classes of each.
        backbone_mode: Be a backbone: give features of a ``PointBatch``, and have no use for the heads.

    Raises:
        ValueError: the backbone gives logits, or its norms were built for other data sets; or as of
            :class:`DecoupledHeads`.
    """

    head_prefixes = ("seg_heads.",)

    def __init__(
        self,
        backbone: nn.Module,
        criteria: Sequence[SegmentationLoss] = (),
        backbone_out_channels: int | None = None,
        context_channels: int = 256,
        conditions: Sequence[str] = CONDITIONS,
        num_classes: Sequence[int] = (25, 20, 13),
        backbone_mode: bool = False,
    ) -> None:
        DecoupledHeads.__init__(self, backbone.out_channels, conditions, num_classes, criteria)
        self._add_backbone(backbone, backbone_out_channels, backbone_mode)


@MODELS.register("PPT-v1m1")
class LanguagePromptSegmentor(_PromptSegmentation, LanguageHeads):
    """Point Prompt Training with a head that compares with text embeddings; Pointcept's PPT-v1m1.

    Its checkpoints load, with the table of embeddings that they hold; nothing is downloaded.

    Args:
        backbone: Gives features; with prompt-driven norms it needs the same data sets, in any order.
        valid_index: See :class:`LanguageHeads`.
        criteria: Losses; their sum is minimised. Cross-entropy by default.
        backbone_out_channels: Accepted for Pointcept's configs, and checked.
        context_channels: Accepted for Pointcept's configs: the backbone has the context vectors.
        conditions: Names of the data sets.
        template: Accepted for Pointcept's configs: prompts are chosen when the table is written.
        clip_model: Likewise.
        class_name: Names of the rows of the table, of which only the number is used.
        backbone_mode: Be a backbone: give features of a ``PointBatch``, and have no use for the head.
        embeddings: See :class:`LanguageHeads`.

    Raises:
        ValueError: the backbone gives logits, or its norms were built for other data sets; or as of
            :class:`LanguageHeads`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        valid_index: Sequence[Sequence[int]],
        criteria: Sequence[SegmentationLoss] = (),
        backbone_out_channels: int | None = None,
        context_channels: int = 256,
        conditions: Sequence[str] = CONDITIONS,
        template: str | Sequence[str] = "[x]",
        clip_model: str = "ViT-B/16",
        class_name: Sequence[str] | None = None,
        backbone_mode: bool = False,
        embeddings: str | None = None,
    ) -> None:
        rows = {} if class_name is None else {"num_embeddings": len(class_name)}
        LanguageHeads.__init__(self, backbone.out_channels, valid_index, conditions, embeddings, criteria, **rows)
        self._add_backbone(backbone, backbone_out_channels, backbone_mode)
