"""The keys a config may have at its top level, with their types and defaults, and the check of a whole config."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, Literal

from pointcept.annotations import Mismatch, fitted, mismatch
from pointcept.config.language import plain
from pointcept.registry import (
    DATASETS,
    HOOKS,
    MODELS,
    OPTIMIZERS,
    SCHEDULERS,
    TESTERS,
    import_plugins,
    near_matches,
    validate,
)

REQUIRED_KEYS = ("model", "data", "optimizer")
DATA_SPLITS = ("train", "val", "test")
DATA_FACTS = ("num_classes", "ignore_index", "names")

# Names that configs define for their own use; nothing reads them.
HELPER_KEYS = (
    "dataset_type",
    "data_root",
    "class_names",
    "num_classes",
    "ignore_index",
    "grid_size",
    "point_max",
    "num_views",
    "image_size",
    "ray_num",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Everything a config says about a run. The component entries are configs with ``type``.

    Attributes:
        model: the model to train.
        data: ``train``, ``val``, ``test`` datasets, as far as there are any.
        optimizer: the optimizer's settings.
        scheduler: learning rate schedule, or None for a constant rate.
        param_dicts: parameter groups with own settings: ``keyword`` (a substring of parameter names), ``lr``, ...
        hooks: hooks in the order in which they are called.
        test: the final evaluation, on ``data.test``.
        imports: modules of the user's own to import first, so that their classes can be named.
        weight: checkpoint to start from.
        resume: continue an interrupted run from ``weight``, or from its own last checkpoint without one.
        evaluate: evaluate after every reported epoch.
        seed: all random choices derive from it.
        save_path: folder of the experiment.
        num_worker: data loading processes of the whole job.
        batch_size: training samples per step, over all processes.
        batch_size_val: evaluation samples per step, over all processes; None is one per process.
        epoch: passes over the training data.
        eval_epoch: reported epochs: evaluation and checkpoints happen this many times.
        gradient_accumulation_steps: batches per optimizer step.
        clip_grad: largest L2 norm of the whole gradient; None does not clip.
        sync_bn: share batch-norm statistics between processes.
        enable_amp: automatic mixed precision.
        amp_dtype: number format of mixed precision.
        backends: what computes an operation that has a choice, such as ``dict(sparse="torch")``;
            :mod:`pointcept.ops.backends` has the operations and the names.
        find_unused_parameters: let data-parallel training look for parameters without gradient in each step.
        mix_prob: probability of merging two neighbouring scenes of a batch (Mix3D).
    """

    model: dict[str, Any]
    data: dict[str, Any]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any] | None = None
    param_dicts: list[dict[str, Any]] | None = None
    hooks: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    test: dict[str, Any] | None = None
    imports: list[str] = dataclasses.field(default_factory=list)
    weight: str | None = None
    resume: bool = False
    evaluate: bool = True
    seed: int = 0
    save_path: str = "exp/default"
    num_worker: int = 2
    batch_size: int = 16
    batch_size_val: int | None = None
    epoch: int = 100
    eval_epoch: int = 100
    gradient_accumulation_steps: int = 1
    clip_grad: float | None = None
    sync_bn: bool = False
    enable_amp: bool = False
    amp_dtype: Literal["float16", "bfloat16"] = "bfloat16"
    backends: dict[str, str] = dataclasses.field(default_factory=dict)
    find_unused_parameters: bool = False
    mix_prob: float = 0.0

    def __post_init__(self) -> None:
        for name in ("batch_size", "batch_size_val", "epoch", "eval_epoch", "gradient_accumulation_steps"):
            _require_range(name, getattr(self, name), 1)
        for name in ("num_worker", "seed"):
            _require_range(name, getattr(self, name), 0)
        _require_range("mix_prob", self.mix_prob, 0.0, 1.0)
        if self.clip_grad is not None and self.clip_grad <= 0:
            raise ValueError(f"clip_grad must be positive: got {self.clip_grad}. Use None for no clipping.")
        if self.epoch % self.eval_epoch != 0:
            raise ValueError(
                f"epoch must be a multiple of eval_epoch: got {self.epoch} and {self.eval_epoch}. "
                "The data is repeated epoch // eval_epoch times per reported epoch."
            )


_ANNOTATIONS = typing.get_type_hints(RunSettings)
TOP_LEVEL_KEYS = (*_ANNOTATIONS, *HELPER_KEYS)


def check_top_level(config: Mapping[str, Any], source: str) -> None:
    """Refuses top-level keys that nothing reads.

    Raises:
        ValueError: an unknown key; the message has the nearest known one.
    """
    for key in config:
        if key not in TOP_LEVEL_KEYS:
            raise ValueError(
                f"Top-level keys of a config must be known: got {key!r} in {source}. "
                f"{near_matches(key, TOP_LEVEL_KEYS)} Names that only the file itself needs begin with an underscore."
            )


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with the defaults of :class:`RunSettings` for the settings it leaves out, in their order."""
    filled = {}
    for field in dataclasses.fields(RunSettings):
        if field.name in config:
            filled[field.name] = config[field.name]
        elif field.name not in REQUIRED_KEYS:
            filled[field.name] = field.default_factory() if callable(field.default_factory) else field.default
    return {**filled, **config}


def validate_config(config: Mapping[str, Any]) -> RunSettings:
    """Checks a whole config before anything slow happens, after importing its ``imports``.

    Args:
        config: what :func:`load_config` returned, or the same data written in Python.

    Returns:
        The settings of the run, checked.

    Raises:
        ValueError: an unknown or missing key or name, or a value out of its range.
        TypeError: a value of the wrong type.
    """
    check_top_level(config, "the config")
    missing = [key for key in REQUIRED_KEYS if key not in config]
    if missing:
        raise ValueError(f"A config must have {', '.join(REQUIRED_KEYS)}: missing {', '.join(missing)}. Add it.")
    import_plugins(config.get("imports", []))
    for key, annotation in _ANNOTATIONS.items():
        if key in config and (problem := _mismatch(config[key], annotation)) is not None:
            raise TypeError(
                f"{key}{problem.where} must be {problem.expected}: got {problem.found}. Correct the config."
            )
    given = plain({key: config[key] for key in _ANNOTATIONS if key in config})
    settings = RunSettings(**{key: fitted(value, _ANNOTATIONS[key]) for key, value in given.items()})
    validate(settings.model, "model", MODELS)
    _validate_data(settings.data)
    for index, hook in enumerate(settings.hooks):
        validate(hook, f"hooks[{index}]", HOOKS)
    validate(settings.optimizer, "optimizer", OPTIMIZERS)
    if settings.test is not None:
        validate(settings.test, "test", TESTERS)
    if settings.scheduler is not None:
        validate(settings.scheduler, "scheduler", SCHEDULERS)
    return settings


def _validate_data(data: Mapping[str, Any]) -> None:
    for key, value in data.items():
        if key in DATA_SPLITS:
            validate(value, f"data.{key}", DATASETS)
        elif key not in DATA_FACTS:
            raise ValueError(f"Keys of data must be known: got {key!r}. {near_matches(key, DATA_SPLITS + DATA_FACTS)}")


def _require_range(name: str, value: int | float | None, lowest: int | float, highest: float | None = None) -> None:
    if value is not None and (value < lowest or (highest is not None and value > highest)):
        bounds = f"at least {lowest}" if highest is None else f"from {lowest} to {highest}"
        raise ValueError(f"{name} must be {bounds}: got {value}. Correct the config.")


def _mismatch(value: Any, annotation: Any) -> Mismatch | None:
    return mismatch(value, annotation, target_of=lambda _: dict)
