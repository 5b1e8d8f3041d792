"""The final evaluation: every point of every scene, with results kept by checkpoint, so that it can be resumed."""

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from pointcept.config import RunSettings, load_config, validate_config
from pointcept.engines.amp import Precision
from pointcept.engines.hooks.evaluation import write_confusion
from pointcept.engines.hooks.information import format_figures
from pointcept.engines.inference import FragmentInference
from pointcept.engines.loaders import evaluation_loader
from pointcept.evaluation.folds import write_counts
from pointcept.evaluation.segmentation import SemanticSegmentationEvaluator
from pointcept.evaluation.submissions import SUBMISSIONS, finish_submission
from pointcept.models.hub import local_file
from pointcept.models.weights import load_weights
from pointcept.ops.backends import use_backends
from pointcept.registry import DATASETS, MODELS, TESTERS, build
from pointcept.structures import PointSample
from pointcept.utils.distributed import barrier, initialize, is_main_process
from pointcept.utils.files import atomic_write, write_text
from pointcept.utils.logging import configure_logging

_logger = logging.getLogger("pointcept")


@TESTERS.register("SemSegTester")
class SemanticSegmentationTester:
    """Predicts the classes of all points, scores them where there are labels, and writes them for a benchmark.

    Args:
        inference: How a cloud is predicted.
        evaluator: Scores the points; the class is that of validation.
        submission: Benchmark to write files for, or None.
        verbose: Log every scene.
    """

    def __init__(
        self,
        inference: FragmentInference,
        evaluator: SemanticSegmentationEvaluator,
        submission: Literal["scannet", "scannet200", "nuscenes", "semantic_kitti"] | None = None,
        verbose: bool = True,
    ) -> None:
        self.inference = inference
        self.evaluator = evaluator
        self.submission = submission
        self.verbose = verbose

    def run(
        self, model: nn.Module, loader: DataLoader, folder: Path, device: torch.device, precision: Precision
    ) -> dict[str, float]:
        """The evaluator's figures, empty where the scenes have no labels. Every process must call it.

        Writes ``<scene>.npy`` with the class of every point; a scene that has one already is not predicted again. With
        labels, ``metrics.json``, ``classes.txt``, ``confusion.json`` and ``confusion.png`` too.

        Args:
            model: On ``device``.
            loader: Gives one ``PointSample`` at a time.
            folder: For what is written; its name must tell checkpoints apart.
            device: Where to compute.
            precision: Number format of the network.

        Raises:
            ValueError: a file of an earlier run is of another number of points.
        """
        folder.mkdir(parents=True, exist_ok=True)
        model.eval()
        self.evaluator.reset()
        for number, sample in enumerate(loader, start=1):
            started = time.perf_counter()
            classes = self._classes(model, sample, folder / f"{sample.name}.npy", device, precision)
            segment = sample.point.get("segment")
            if "inverse" in sample.scene:
                classes, segment = classes[sample.scene["inverse"]], sample.scene.get("origin_segment")
            if self.submission is not None:
                SUBMISSIONS[self.submission](folder / "submission", sample.name, classes)
            accuracy = "no labels"
            if segment is not None and (segment >= 0).any():
                self.evaluator.add(torch.from_numpy(classes), torch.from_numpy(segment))
                accuracy = f"accuracy {float((classes == segment)[segment >= 0].mean()):.4f}"
            if self.verbose:
                _logger.info(
                    "Test: [%d/%d] %s: %d points, %s, %.1f s",
                    *(number, len(loader), sample.name, len(classes), accuracy, time.perf_counter() - started),
                )
        return self._report(folder)

    def _classes(
        self, model: nn.Module, sample: PointSample, path: Path, device: torch.device, precision: Precision
    ) -> np.ndarray:
        if path.is_file():
            classes = np.load(path, allow_pickle=False).astype(np.int64)
            if classes.shape != (sample.num_points,):
                raise ValueError(
                    f"A prediction must have one class per point: {path} has {classes.shape} for {sample.num_points} "
                    f"points of scene {sample.name!r}. Delete it, or the folder."
                )
            return classes
        classes = self.inference.predict(model, sample, device, precision)
        with atomic_write(path) as file:
            np.save(file, classes.astype(np.int16), allow_pickle=False)
        return classes

    def _report(self, folder: Path) -> dict[str, float]:
        if self.submission is not None and is_main_process():
            finish_submission(self.submission, folder / "submission")
            _logger.info("Submission: %s", folder / "submission")
        if not self.evaluator.confusion().any():
            _logger.warning("No figures: none of the points has a label. Predictions: %s", folder)
            barrier()
            return {}
        return write_report(self.evaluator, folder)


def write_report(evaluator: SemanticSegmentationEvaluator, folder: Path) -> dict[str, float]:
    """The evaluator's figures, also logged and written to ``folder``. Every process must call it."""
    figures = evaluator.compute()
    _logger.info("Test: %s", format_figures(figures))
    _logger.info("By class:\n%s", evaluator.table())
    if is_main_process():
        write_text(folder / "metrics.json", json.dumps(figures, indent=2) + "\n")
        write_text(folder / "classes.txt", evaluator.table() + "\n")
        write_counts(evaluator, folder / "confusion.json")
        write_confusion(evaluator, folder / "confusion.png")
        _logger.info("Results: %s", folder)
    barrier()
    return figures


def evaluate(config: RunSettings | Mapping[str, Any]) -> dict[str, float]:
    """The final evaluation that a config describes, of the checkpoint ``weight``; results go to ``save_path/result``.

    Raises:
        ValueError: the config has no ``test``, or the checkpoint or the experiment's folder is of another model.
        FileNotFoundError: data or the checkpoint is missing.
    """
    settings = config if isinstance(config, RunSettings) else validate_config(config)
    use_backends(settings.backends)
    device = initialize()
    if settings.test is None or settings.data.get("test") is None:
        raise ValueError(
            f"A final evaluation needs test and data.test: the config has data {sorted(settings.data)} and test "
            f"{settings.test}. Add what is missing; configs/_base_/semseg_indoor.py has an example."
        )
    save_path = Path(settings.save_path)
    require_same_model(settings, save_path)
    weight = local_file(settings.weight or save_path / "model" / "model_best.pth")
    save_path.mkdir(parents=True, exist_ok=True)
    configure_logging(save_path / "test.log")
    tester = build(settings.test, "test", TESTERS)
    dataset = build(settings.data["test"], "data.test", DATASETS)
    model = build(settings.model, "model", MODELS)
    load_weights(model, weight, strict=True)
    folder = save_path / "result" / result_key(settings, weight)
    loader = evaluation_loader(dataset, _only, seed=settings.seed, num_workers=settings.num_worker)
    precision = Precision(settings.amp_dtype if settings.enable_amp else "float32", device.type)
    return tester.run(model.to(device), loader, folder, device, precision)


def result_key(settings: RunSettings, weight: Path) -> str:
    """A name that differs where the checkpoint, the data or the way of predicting does.

    Raises:
        FileNotFoundError: there is no such checkpoint.
    """
    if not weight.is_file():
        raise FileNotFoundError(f"A checkpoint must exist: there is no file {weight}. Check weight and save_path.")
    digest = hashlib.sha256()
    with weight.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    way = {
        "data": settings.data["test"],
        "test": settings.test.get("inference", settings.test),
        "amp": settings.enable_amp,
    }
    digest.update(json.dumps(way, sort_keys=True, default=str).encode())
    return f"{weight.stem}-{digest.hexdigest()[:12]}"


def require_same_model(settings: RunSettings, save_path: Path) -> None:
    """Checks that an experiment's folder is of the model that is to be evaluated.

    Raises:
        ValueError: its ``config.py`` describes another model.
    """
    path = save_path / "config.py"
    if not path.is_file():
        return
    recorded = load_config(path).to_plain()["model"]
    difference = _first_difference(recorded, settings.model, "model")
    if difference is not None:
        where, there, here = difference
        raise ValueError(
            f"An experiment must be evaluated with its own model: {where} is {there!r} in {path} and {here!r} in the "
            "config. Leave -c out, or choose the experiment's name with -n."
        )


def _first_difference(there: Any, here: Any, path: str) -> tuple[str, Any, Any] | None:
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        for key in [*there, *(key for key in here if key not in there)]:
            found = _first_difference(there.get(key), here.get(key), f"{path}.{key}")
            if found is not None:
                return found
        return None
    if isinstance(there, list | tuple) and isinstance(here, list | tuple) and len(there) == len(here):
        entries = (_first_difference(a, b, f"{path}[{index}]") for index, (a, b) in enumerate(zip(there, here)))
        return next((entry for entry in entries if entry is not None), None)
    return None if there == here else (path, there, here)


def _only(samples: Sequence[PointSample]) -> PointSample:
    return samples[0]
