"""The k-nearest-neighbour probe as a final evaluation: a frozen backbone is scored without any training."""

import logging
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from pointcept.datasets.base import SceneDataset
from pointcept.datasets.collate import collate
from pointcept.engines.amp import Precision
from pointcept.engines.tester import write_report
from pointcept.evaluation.nearest_neighbors import NearestNeighborClassifier
from pointcept.evaluation.segmentation import SemanticSegmentationEvaluator
from pointcept.registry import TESTERS
from pointcept.structures import PointSample, SceneBatch
from pointcept.utils.distributed import is_main_process

_logger = logging.getLogger("pointcept")


@TESTERS.register()
class KNNProbe:
    """Classifies the points of the test scenes by the most similar features of labelled scenes, and scores them.

    The model is a backbone, or has one as ``backbone``; its weights, batch norm statistics and everything else stay as
    they are. The chains of transforms of both data sets must end with ``GridSample`` and ``Collect``; with
    ``return_inverse=True`` scores are those of the original points.

    Args:
        memory: The labelled scenes. Every process reads all of them.
        evaluator: Scores the points; the class is that of validation.
        k: Neighbours that vote.
        temperature: Of their votes; see :class:`NearestNeighborClassifier`.
        max_features: Labelled points that are remembered at most, a uniform sample of all.
    """

    def __init__(
        self,
        memory: SceneDataset,
        evaluator: SemanticSegmentationEvaluator,
        k: int = 20,
        temperature: float = 0.07,
        max_features: int = 50_000,
    ) -> None:
        self.memory = memory
        self.evaluator = evaluator
        self.classifier = NearestNeighborClassifier(evaluator.num_classes, k, temperature, max_features)

    def run(
        self, model: nn.Module, loader: DataLoader, folder: Path, device: torch.device, precision: Precision
    ) -> dict[str, float]:
        """The evaluator's figures; writes ``metrics.json``, ``classes.txt`` and ``confusion.png``.

        Args:
            model: On ``device``.
            loader: Gives one ``PointSample`` at a time.
            folder: For what is written.
            device: Where to compute.
            precision: Number format of the network.

        Raises:
            ValueError: the scenes have no labels.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.evaluator.reset()
        self.classifier.reset()
        for index in tqdm(range(len(self.memory)), "Labelled scenes", unit="scene", disable=not is_main_process()):
            feat, batch = _features(model, self.memory[index], device, precision)
            if batch.points.segment is None:
                raise ValueError(
                    f"The memory of a probe needs labels: scene {batch.name[0]!r} has none. Set segment_key, and keep "
                    "'segment' in Collect(keys=...)."
                )
            self.classifier.add(feat, batch.points.segment)
        _logger.info("Nearest neighbours: %d labelled features.", self.classifier.num_features)
        for sample in loader:
            feat, batch = _features(model, sample, device, precision)
            self.evaluator.update({"pred": self.classifier.votes(feat).argmax(dim=1)}, batch)
        return write_report(self.evaluator, folder)


@torch.no_grad()
def _features(
    model: nn.Module, sample: PointSample, device: torch.device, precision: Precision
) -> tuple[Float[Tensor, "N C"], SceneBatch]:
    """Features of the points of a scene, and the scene as a batch."""
    batch = collate([sample]).to(device)
    backbone = getattr(model, "backbone", model).eval()
    with precision.autocast():
        encoded = backbone(batch.points)
    if encoded.num_points != batch.points.num_points:
        raise ValueError(
            f"A probe needs features of every point: {type(backbone).__name__} gave {encoded.num_points} rows for "
            f"{batch.points.num_points} points. Use a backbone with decoder, or hyper_column_levels up to the finest."
        )
    return encoded.feat, batch
