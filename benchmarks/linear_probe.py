"""Linear probe of a frozen backbone: one linear layer on its features, scored on held-out rooms."""

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from pointcept.datasets.collate import collate
from pointcept.evaluation.segmentation import SemanticSegmentationEvaluator
from pointcept.registry import DATASETS, build

NUM_CLASSES = 20
_L2 = 1e-4


def probe(backbone: nn.Module, rooms: dict[str, object], grid_size: float) -> float:
    """Mean IoU of a linear layer on a backbone's features, over the points of the held-out rooms.

    Args:
        backbone: Evaluated as it is, in evaluation mode.
        rooms: Arguments of ``SyntheticRoomDataset`` but for the split.
        grid_size: Voxel edge of the input, metres.
    """
    backbone.eval()
    return score_linear(*(_features(backbone, rooms, split, grid_size) for split in ("train", "val")))


def score_linear(train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor]) -> float:
    """Mean IoU on ``val`` of a linear layer fitted to ``train``, both features (N, C) and labels (N,)."""
    std, mean = torch.std_mean(train[0], dim=0)
    weight, bias = fit_linear((train[0] - mean) / (std + 1e-6), train[1])
    logits = ((val[0] - mean) / (std + 1e-6)) @ weight.T + bias
    evaluator = SemanticSegmentationEvaluator(NUM_CLASSES)
    evaluator.add(logits.argmax(dim=1), val[1])
    return evaluator.compute()["mIoU"]


def fit_linear(
    features: Float[Tensor, "N C"], labels: Int[Tensor, "N"], max_steps: int = 100
) -> tuple[Float[Tensor, "K C"], Float[Tensor, "K"]]:
    """Weight and bias of multinomial logistic regression with a little weight decay, by L-BFGS from zero."""
    known = labels >= 0
    features, labels = features[known], labels[known]
    weight = torch.zeros(NUM_CLASSES, features.shape[1], requires_grad=True)
    bias = torch.zeros(NUM_CLASSES, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=max_steps, history_size=10, line_search_fn="strong_wolfe", tolerance_grad=1e-6
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(features @ weight.T + bias, labels) + _L2 * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return weight.detach(), bias.detach()


@torch.no_grad()
def _features(
    backbone: nn.Module, rooms: dict[str, object], split: str, grid_size: float
) -> tuple[Float[Tensor, "N C"], Int[Tensor, "N"]]:
    transform = [
        {"type": "CenterShift", "apply_z": True},
        {"type": "GridSample", "grid_size": grid_size},
        {"type": "CenterShift", "apply_z": False},
        {"type": "NormalizeColor"},
        {
            "type": "Collect",
            "feat_keys": ("color", "normal"),
            "keys": ("coord", "grid_coord", "segment", "name", "condition"),
        },
    ]
    config = {"type": "SyntheticRoomDataset", **rooms, "split": split, "num_views": 0, "transform": transform}
    dataset = build(config, f"data.{split}", DATASETS)
    features, labels = [], []
    for index in range(len(dataset)):
        points = collate([dataset[index]]).points
        features.append(backbone(points).feat.float())
        labels.append(points.segment)
    return torch.cat(features), torch.cat(labels)


def last_checkpoint(folder: Path) -> Path:
    """Where the checkpoint of a run lies."""
    return folder / "model" / "model_last.pth"
