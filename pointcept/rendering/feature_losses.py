"""What rendered features are compared with: embeddings of classes, features of a teacher, each other's targets."""

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from pointcept.registry import LOSSES
from pointcept.rendering.class_tables import ClassTable, read_class_table
from pointcept.rendering.losses import RenderingLoss, SumAndCount, masked_sum
from pointcept.rendering.renderer import Rendering
from pointcept.rendering.schedules import WeightRamp
from pointcept.structures import RayBatch, RayTargets


@LOSSES.register()
class RayContrastLoss(RenderingLoss):
    """Each ray's feature should be nearest to its own target among those of all rays (InfoNCE, arXiv 1807.03748).

    Cross-entropy (nats) of the rendered, normalised features' products with all target features, divided by the
    temperature. Rays without a measured distance or with an all-zero target are no queries, but their targets are
    candidates, as in PonderV2. A target is what a teacher says of the pixel or, with embeddings, that of its class;
    then labels are used, and rays of one class repel each other for no reason: ``SemanticLoss`` does not have that.

    Args:
        weight: Factor of the term.
        temperature: Divides the products.
        embeddings: A safetensors file with one tensor (classes, D), row k for label k, e.g. text embeddings.
        num_classes: Instead of a file: one-hot embeddings of so many classes.

    Attributes:
        class_names: Names that the file gives its rows, which the data set's labels must have; or None.
    """

    name = "feature_loss"
    table: Float[Tensor, "K D"] | None

    def __init__(
        self,
        weight: float | WeightRamp = 0.1,
        temperature: float = 0.01,
        embeddings: str | Path | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(weight)
        self.temperature = _positive(temperature)
        self.compares, self.class_names, table = "teacher", None, None
        if embeddings is not None or num_classes is not None:
            self.compares, (table, self.class_names, *_) = "class", _class_table(self, embeddings, num_classes)
            table = F.normalize(table, dim=-1)
        self.register_buffer("table", table, persistent=False)

    def forward(self, rendering: Rendering, targets: RayTargets, rays: RayBatch) -> SumAndCount:
        """Sum over rays with a target feature."""
        if self.table is not None:
            segment = _segment(self, rendering, targets)
            known = self.table.index_select(0, segment.clamp(min=0).flatten()).view(*segment.shape, -1)
            targets = targets.replace(feature=known * (segment >= 0)[..., None])
        rendered, target = _feature_pair(self, rendering, targets)
        rendered, target = F.normalize(rendered.flatten(0, 1), dim=-1), target.flatten(0, 1)
        logits = rendered @ target.T / self.temperature
        own = torch.arange(target.shape[0], device=target.device)
        query = (target != 0).any(dim=-1) & (rays.valid & (targets.distance > 0)).flatten()
        return masked_sum(F.cross_entropy(logits, own, reduction="none"), query)


@LOSSES.register()
class FeatureCosineLoss(RenderingLoss):
    """Mean over valid rays with a target feature of 1 - cos(rendered, target), 0..2, no unit.

    For dense features of a frozen teacher (as in feature field distillation, arXiv 2205.15585, there with L2). An
    all-zero target is none.

    Args:
        weight: Factor of the term.
    """

    name = "feature_cosine_loss"
    compares = "teacher"

    def __init__(self, weight: float | WeightRamp = 1.0) -> None:
        super().__init__(weight)

    def forward(self, rendering: Rendering, targets: RayTargets, rays: RayBatch) -> SumAndCount:
        """Sum over valid rays with a target feature."""
        rendered, target = _feature_pair(self, rendering, targets)
        cosine = (F.normalize(rendered, dim=-1) * F.normalize(target, dim=-1)).sum(dim=-1)
        return masked_sum(1 - cosine, rays.valid & (target != 0).any(dim=-1))


@LOSSES.register()
class SemanticLoss(RenderingLoss):
    """Cross-entropy over class embeddings: the rendered feature should be nearest to that of the ray's class.

    Mean over valid rays with a class of -log softmax_k(cos(rendered, e_k) / temperature) at the class, nats (LSeg,
    arXiv 2201.03546). It uses labels. Unlike contrast between rays, rays of one class do not repel each other.

    Args:
        weight: Factor of the term.
        embeddings: A safetensors file with one tensor (classes, D), row k for label k, e.g. text embeddings as
            ``python -m pointcept.language`` writes them.
        num_classes: Instead of a file: one-hot embeddings of so many classes.
        temperature: Divides the cosines.

    Attributes:
        class_names: Names that the file gives its rows, which the data set's labels must have; or None.
    """

    name = "semantic_loss"
    compares = "class"
    table: Float[Tensor, "K D"]

    def __init__(
        self,
        weight: float | WeightRamp = 0.1,
        embeddings: str | Path | None = None,
        num_classes: int | None = None,
        temperature: float = 0.07,
    ) -> None:
        super().__init__(weight)
        table = _class_table(self, embeddings, num_classes)
        self.class_names = table.class_names
        self.register_buffer("table", F.normalize(table.embeddings, dim=-1), persistent=False)
        self.temperature = _positive(temperature)

    def forward(self, rendering: Rendering, targets: RayTargets, rays: RayBatch) -> SumAndCount:
        """Sum over valid rays with a class.

        Raises:
            ValueError: nothing to compare, features of another width than the embeddings, or (on a CPU) a label beyond
                the last class.
        """
        segment = _segment(self, rendering, targets)
        logits = F.normalize(rendering.feature, dim=-1) @ self.table.to(rendering.feature).T / self.temperature
        has_class = segment >= 0
        loss = F.cross_entropy(logits.flatten(0, 1), segment.clamp(min=0).flatten(), reduction="none")
        return masked_sum(loss.view(segment.shape), rays.valid & has_class)


def _class_table(loss: RenderingLoss, embeddings: str | Path | None, num_classes: int | None) -> ClassTable:
    """From a file, or one-hot."""
    if (embeddings is None) == (num_classes is None):
        raise ValueError(
            f"{type(loss).__name__} needs either embeddings or num_classes: got {embeddings!r} and {num_classes!r}."
        )
    return ClassTable(torch.eye(num_classes)) if embeddings is None else read_class_table(embeddings)


def _segment(loss: RenderingLoss, rendering: Rendering, targets: RayTargets) -> Int[Tensor, "B R"]:
    """The classes of the rays, checked together with the width of the rendered features."""
    name = type(loss).__name__
    if rendering.feature is None or targets.segment is None:
        raise ValueError(
            f"{name} needs rendered features and labels: got "
            f"{'no' if rendering.feature is None else 'a'} rendered feature and "
            f"{'no' if targets.segment is None else 'a'} label. Set the field's feature_channels, and load labels."
        )
    num_classes, width = loss.table.shape
    if rendering.feature.shape[-1] != width:
        raise ValueError(
            f"Rendered features must be as wide as the class embeddings, {width}: got "
            f"{rendering.feature.shape[-1]}. Set the field's feature_channels={width}."
        )
    segment = targets.segment
    if segment.device.type == "cpu" and segment.numel() and int(segment.max()) >= num_classes:
        raise ValueError(
            f"Labels must be below the number of class embeddings, {num_classes}: got {int(segment.max())}. "
            "Give an embedding for every class."
        )
    return segment


def _positive(temperature: float) -> float:
    if not temperature > 0:
        raise ValueError(f"temperature must be positive: got {temperature}.")
    return temperature


def _feature_pair(loss: RenderingLoss, rendering: Rendering, targets: RayTargets) -> tuple[Tensor, Tensor]:
    name = type(loss).__name__
    if rendering.feature is None or targets.feature is None:
        raise ValueError(
            f"{name} needs rendered and target features: got "
            f"{'no' if rendering.feature is None else 'a'} rendered and "
            f"{'no' if targets.feature is None else 'a'} target feature. Set the field's feature_channels and give "
            "the rays target features."
        )
    if rendering.feature.shape[-1] != targets.feature.shape[-1]:
        raise ValueError(
            f"{name} needs features of one width: got {rendering.feature.shape[-1]} rendered and "
            f"{targets.feature.shape[-1]} target channels. Set the field's feature_channels to the latter."
        )
    return rendering.feature, targets.feature
