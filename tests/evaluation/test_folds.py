"""Figures of several folds are those of all their points together, not means of the folds' figures."""

import pytest
import torch

from pointcept.evaluation.folds import joined, main, write_counts
from pointcept.evaluation.segmentation import SemanticSegmentationEvaluator

NAMES = ("floor", "wall", "chair")


def fold(path, seed: int, count: int, names=NAMES) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pred, target = torch.randint(len(names), (2, count), generator=generator)
    evaluator = SemanticSegmentationEvaluator(len(names), names)
    evaluator.add(pred, target)
    evaluator.compute()
    path.mkdir()
    write_counts(evaluator, path / "confusion.json")
    return pred, target


def test_points_count_alike_in_all_folds(tmp_path, capsys):
    parts = [fold(tmp_path / name, seed, count) for seed, (name, count) in enumerate({"a": 30, "b": 500}.items())]
    together = SemanticSegmentationEvaluator(3, NAMES)
    together.add(*(torch.cat(part) for part in zip(*parts)))
    figures = together.compute()
    assert joined([tmp_path / "a", tmp_path / "b/confusion.json"]).compute() == figures
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"2 folds: mIoU {figures['mIoU']:.4f}, ") and together.table() in printed


def test_folds_that_do_not_belong_together_are_named(tmp_path, capsys):
    fold(tmp_path / "a", 0, 9)
    fold(tmp_path / "b", 0, 9, names=("floor", "wall", "sofa"))
    with pytest.raises(
        ValueError, match=r"All folds must have the same classes: .*b.confusion\.json has 3 others than"
    ):
        joined([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(FileNotFoundError, match=r"A fold must have counts: .*c does not exist"):
        joined([tmp_path / "c"])
    with pytest.raises(ValueError, match=r"There must be a fold to join: got none"):
        joined([])
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(ValueError, match=r"bad\.json must be the counts of a fold: "):
        joined([tmp_path / "bad.json"])
    assert main([str(tmp_path / "c")]) == 1 and "A fold must have counts" in capsys.readouterr().err
