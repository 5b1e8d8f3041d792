"""The segmentation evaluator equals brute force, exactly: absent classes, ignored points, several processes."""

import multiprocessing

import numpy as np
import pytest
import torch

from pointcept.evaluation import SemanticSegmentationEvaluator
from pointcept.structures import OriginBatch, PointBatch, SceneBatch
from pointcept.utils import distributed

NUM_CLASSES = 7


def random_points(seed: int, num_points: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions and labels; class 5 is only predicted, 6 only labelled, 4 neither; some points are ignored."""
    rng = np.random.default_rng(seed)
    pred = rng.choice([0, 1, 2, 3, 5], num_points)
    target = rng.choice([-1, 0, 1, 2, 3, 6], num_points)
    return torch.from_numpy(pred), torch.from_numpy(target)


def brute_force(pred: list[int], target: list[int], num_classes: int) -> dict[str, float]:
    """The figures by counting points one by one."""
    pairs = [(p, t) for p, t in zip(pred, target, strict=True) if t != -1]
    iou, accuracy = {}, {}
    for number in range(num_classes):
        hit = sum(p == number and t == number for p, t in pairs)
        union = sum(p == number or t == number for p, t in pairs)
        labelled = sum(t == number for _, t in pairs)
        if union:
            iou[number] = hit / union
        if labelled:
            accuracy[number] = hit / labelled
    return {
        "mIoU": sum(iou.values()) / len(iou),
        "mAcc": sum(accuracy.values()) / len(accuracy),
        "allAcc": sum(p == t for p, t in pairs) / len(pairs),
        "mIoU_all": sum(iou.values()) / num_classes,
        "mAcc_all": sum(accuracy.values()) / num_classes,
    }


def scene_batch(pred: torch.Tensor, target: torch.Tensor) -> tuple[dict, SceneBatch]:
    points = PointBatch(
        coord=torch.zeros(len(target), 3),
        grid_coord=torch.zeros(len(target), 3, dtype=torch.int64),
        feat=torch.zeros(len(target), 1),
        offset=torch.tensor([len(target)]),
        segment=target,
    )
    logits = torch.nn.functional.one_hot(pred, NUM_CLASSES).float()
    return {"logits": logits}, SceneBatch(seed=torch.zeros(1, dtype=torch.int64), name=("a",), points=points)


@pytest.mark.parametrize("seed", range(5))
def test_figures_equal_brute_force(seed):
    evaluator = SemanticSegmentationEvaluator(NUM_CLASSES)
    pred, target = random_points(seed)
    for part in (slice(0, 30), slice(30, 31), slice(31, 200)):
        evaluator.update(*scene_batch(pred[part], target[part]))
    assert evaluator.compute() == pytest.approx(brute_force(pred.tolist(), target.tolist(), NUM_CLASSES), abs=1e-15)


def evaluate_share(rank: int, world_size: int, store: str, results) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    evaluator = SemanticSegmentationEvaluator(NUM_CLASSES)
    if rank < 2:  # the last process sees no point at all
        evaluator.add(*random_points(rank))
    results.put((rank, evaluator.compute()))
    distributed.shutdown()


def test_several_processes_equal_brute_force_over_all_points(tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [
        context.Process(target=evaluate_share, args=(rank, 3, str(tmp_path / "store"), results)) for rank in range(3)
    ]
    for process in processes:
        process.start()
    figures = dict(results.get(timeout=300) for _ in processes)
    for process in processes:
        process.join()
    pred, target = (torch.cat(parts).tolist() for parts in zip(random_points(0), random_points(1)))
    expected = brute_force(pred, target, NUM_CLASSES)
    for rank in range(3):
        assert figures[rank] == pytest.approx(expected, abs=1e-15)


def test_predictions_of_voxels_are_scored_on_the_original_points():
    evaluator = SemanticSegmentationEvaluator(NUM_CLASSES)
    output, batch = scene_batch(torch.tensor([0, 1]), torch.tensor([0, 0]))
    origin = OriginBatch(
        inverse=torch.tensor([0, 0, 1, 1, 1]), offset=torch.tensor([5]), segment=torch.tensor([0, 0, 1, 1, 0])
    )
    evaluator.update(output, batch.replace(origin=origin))
    assert evaluator.compute()["allAcc"] == 4 / 5


def test_the_table_names_classes_and_leaves_absent_ones_open():
    evaluator = SemanticSegmentationEvaluator(3, class_names=["wall", "floor", "door"])
    evaluator.add(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, -1]))
    evaluator.compute()
    assert evaluator.table().splitlines() == [
        "class    IoU    acc  share",
        "wall   0.500  1.000  0.333",
        "floor  0.500  0.500  0.667",
        "door       -      -  0.000",
    ]


def test_known_label_sets_can_be_named():
    assert SemanticSegmentationEvaluator(20, class_names="scannet20").class_names[1] == "floor"
    with pytest.raises(ValueError, match=r"class_names must be a list or one of scannet20"):
        SemanticSegmentationEvaluator(20, class_names="scannet21")


def test_wrong_input_is_named():
    evaluator = SemanticSegmentationEvaluator(3)
    with pytest.raises(ValueError, match=r"must be of the same points: got 2 and 3\. Predict for the points"):
        evaluator.add(torch.tensor([0, 1]), torch.tensor([0, 1, 2]))
    with pytest.raises(
        ValueError, match=r"Labels must lie in 0\.\.2: 2 of 3 points do not, with values from -2 to 255"
    ):
        evaluator.add(torch.tensor([0, 1, 1, 1]), torch.tensor([-1, 255, 1, -2]))
    with pytest.raises(
        ValueError, match=r"Predictions must lie in 0\.\.2: 1 of 2 points do not, with values from 0 to 3"
    ):
        evaluator.add(torch.tensor([0, 3]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"At least one labelled point must be evaluated: got none"):
        evaluator.compute()
    with pytest.raises(ValueError, match=r"class_names must name all 3 classes: got 2 names"):
        SemanticSegmentationEvaluator(3, class_names=["a", "b"])
    output, batch = scene_batch(torch.tensor([0]), torch.tensor([0]))
    with pytest.raises(
        ValueError, match=r"must have 'logits' or 'pred' to be scored as a segmentation: got \['color'\]"
    ):
        evaluator.update({"color": output["logits"]}, batch)
    with pytest.raises(ValueError, match=r"needs labels: the batch of \('a',\) has none\. Set segment_key"):
        evaluator.update(output, batch.replace(points=batch.points.replace(segment=None)))
