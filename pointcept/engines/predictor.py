"""Predicting the classes of one cloud with a trained segmentor, as the final evaluation does."""

import contextlib
import dataclasses
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from pointcept.config import RunSettings, validate_config
from pointcept.datasets.normals import estimate_normals
from pointcept.datasets.transforms.compose import apply_transforms
from pointcept.engines.amp import Precision
from pointcept.models.hub import local_file
from pointcept.models.weights import load_weights
from pointcept.registry import MODELS, TESTERS, TRANSFORMS, build, target_of
from pointcept.structures import PointSample
from pointcept.utils.distributed import initialize
from pointcept.utils.files import atomic_array
from pointcept.visualization.labelled_cloud import LabelledCloud

MissingColor = Literal["gray", "black"]
MissingNormal = Literal["estimate", "zero"]
_GRAY, _BLACK = 127.5, 0.0


class Predictor:
    """A trained segmentor that gives the points of any cloud their classes.

    The cloud goes through the transforms of the config's ``data.test`` and the inference of its ``test``: overlapping
    fragments and augmented variants, tile by tile, so that memory does not grow with the cloud.

    Args:
        config: Of the run, with ``test`` and ``data.test``; the data itself is not needed.
        weight: Checkpoint, a path or Hub id.
        missing_color: What points without colour get; None refuses clouds without colour where the model needs it.
        missing_normal: The same for normals: estimated from the neighbouring points, or zero.
        condition: Name of the data set whose norms and head are used; None takes that of ``data.test``.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the config has no final evaluation of a segmentation, or the checkpoint does not fit it.
    """

    def __init__(
        self,
        config: RunSettings | Mapping[str, Any],
        weight: str | Path,
        *,
        missing_color: MissingColor | None = None,
        missing_normal: MissingNormal | None = None,
        condition: str | None = None,
    ) -> None:
        settings = config if isinstance(config, RunSettings) else validate_config(config)
        test, data = settings.test, settings.data.get("test")
        if test is None or data is None or "inference" not in test:
            raise ValueError(
                f"Predicting needs test with an inference, and data.test: the config has test {test} and data "
                f"{sorted(settings.data)}. Add what is missing; configs/_base_/semseg_indoor.py has an example."
            )
        self.device = initialize()
        self.precision = Precision(settings.amp_dtype if settings.enable_amp else "float32", self.device.type)
        self.missing_color = missing_color
        self.missing_normal = missing_normal
        self.condition = condition or _default_condition(data)
        self.transform = [
            build(entry, f"data.test.transform[{index}]", TRANSFORMS)
            for index, entry in enumerate(data.get("transform", ()))
        ]
        tester = build(test, "test", TESTERS)
        self.inference = tester.inference
        self.class_names = tester.evaluator.class_names
        self._needed = needed_point_data(test["inference"]) | needed_point_data(data)
        model = build(settings.model, "model", MODELS)
        load_weights(model, local_file(weight), strict=True)
        self.model = model.to(self.device).eval()

    def __call__(self, sample: PointSample, all_probabilities: str | Path | None = None) -> LabelledCloud:
        """The class of every point of a cloud, in the cloud's order.

        Args:
            sample: ``coord``, and ``color`` (0..255) and ``normal`` as far as there are any.
            all_probabilities: File for the probabilities of all classes, (N, K) float16 ``.npy``; None writes none.

        Raises:
            ValueError: the cloud has no points, positions that are not finite, or lacks what the model needs.
            OSError: the file for all probabilities cannot be written, or has no room on the disk.
        """
        require_finite(sample)
        given = self._completed(sample)
        prepared = apply_transforms(given, self.transform, np.random.default_rng(given.seed))
        count = sample.num_points
        label, probability = np.full(count, -1, dtype=np.int64), np.zeros(count, dtype=np.float32)
        file = contextlib.nullcontext()
        if all_probabilities:
            file = atomic_array(all_probabilities, (count, len(self.class_names)), np.float16)
        with file as every, tqdm(total=count, desc="Predicting", unit="point", unit_scale=True) as progress:
            for tile in self.inference.tiles(self.model, prepared, self.device, self.precision):
                best = tile.probability.max(dim=1)
                label[tile.rows], probability[tile.rows] = best.indices.cpu().numpy(), best.values.cpu().numpy()
                if every is not None:
                    every[tile.rows] = tile.probability.half().cpu().numpy()
                progress.update(len(tile.rows))
        return LabelledCloud(sample.coord, label, probability, self.class_names)

    def _completed(self, sample: PointSample) -> PointSample:
        """The cloud without labels, with a condition, and with stand-ins for what it lacks."""
        point = {key: value for key, value in sample.point.items() if key not in ("segment", "instance")}
        for key, stand_in, flag in (
            ("color", self.missing_color, "--missing-color gray"),
            ("normal", self.missing_normal, "--missing-normal estimate"),
        ):
            if key in self._needed and key not in point:
                if stand_in is None:
                    raise ValueError(
                        f"The model needs point data {key!r}: the cloud {sample.name!r} has {sorted(point) or 'none'}. "
                        f"Give {flag} (missing_{key}= in Python), or a model trained without."
                    )
                point[key] = _stand_in(stand_in, sample.coord)
        absent = sorted(self._needed - {*point, "coord", "grid_coord", "name", "condition"})
        if absent:
            raise ValueError(
                f"The model needs point data {absent}: the cloud {sample.name!r} has {sorted(point) or 'none'}. Name "
                "the file's columns (columns=), or use another model."
            )
        scene = {"name": sample.name, "condition": self.condition}
        return dataclasses.replace(sample, point=point, scene=scene)


def require_finite(sample: PointSample) -> None:
    """Checks that a cloud has points, and that all of its numbers are finite.

    Raises:
        ValueError: it has none, or some are not.
    """
    if sample.num_points == 0:
        raise ValueError(f"A cloud needs at least one point: {sample.name!r} has none. Check the file.")
    for key, array in {"coord": sample.coord, **sample.point}.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            wrong = int((~np.isfinite(array)).reshape(len(array), -1).any(axis=1).sum())
            raise ValueError(
                f"A cloud must be finite: {key} of {wrong} of the {len(array)} points of {sample.name!r} is not. "
                "Remove these points first."
            )


def needed_point_data(config: Any) -> set[str]:
    """Point data that the ``Collect`` and colour transforms anywhere in a config ask for, labels excepted."""
    if isinstance(config, Mapping):
        own = set(config.get("feat_keys", ())) if config.get("type") == "Collect" else set()
        if str(config.get("type")).startswith(("NormalizeColor", "Chromatic")):
            own.add("color")
        return own.union(*(needed_point_data(value) for value in config.values()))
    if isinstance(config, list | tuple):
        return set().union(*(needed_point_data(value) for value in config))
    return set()


def _stand_in(kind: str, coord: np.ndarray) -> np.ndarray:
    if kind == "estimate":
        return estimate_normals(coord)
    value = {"gray": _GRAY, "black": _BLACK, "zero": 0.0}[kind]
    return np.full((len(coord), 3), value, dtype=np.float32)


def _default_condition(data: Mapping[str, Any]) -> str:
    if "condition" in data:
        return data["condition"]
    parameter = inspect.signature(target_of(data["type"])).parameters.get("condition")
    return "ScanNet" if parameter is None or parameter.default is inspect.Parameter.empty else parameter.default
