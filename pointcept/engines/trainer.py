"""Building a trainer from a config."""

import logging
import pprint
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from pointcept.config import RunSettings, validate_config
from pointcept.datasets.collate import collate
from pointcept.datasets.labels import label_names
from pointcept.datasets.mixing import MixingCollate
from pointcept.engines.amp import Precision
from pointcept.engines.hooks.checkpoint import CheckpointLoader
from pointcept.engines.loaders import evaluation_loader, training_loader
from pointcept.engines.loop import Trainer
from pointcept.engines.optim import build_optimizer
from pointcept.ops.backends import use_backends
from pointcept.ops.batch_norm import convert_sync_batch_norm
from pointcept.registry import DATASETS, HOOKS, MODELS, OPTIMIZERS, SCHEDULERS, build
from pointcept.rendering.class_tables import require_same_classes
from pointcept.utils.distributed import get_rank, get_world_size, initialize
from pointcept.utils.logging import configure_logging
from pointcept.utils.seeding import derive_seed, seed_everything

_logger = logging.getLogger("pointcept")


def build_trainer(config: RunSettings | Mapping[str, Any]) -> Trainer:
    """A trainer with everything a config names; with ``resume``, it goes on where the checkpoint was saved.

    Args:
        config: the settings, or a config that they are read from.

    Raises:
        ValueError: a setting is unknown, out of range or does not go with another.
        FileNotFoundError: data or a checkpoint is missing.
    """
    settings = config if isinstance(config, RunSettings) else validate_config(config)
    use_backends(settings.backends)
    device = initialize()
    save_path = Path(settings.save_path)
    save_path.mkdir(parents=True, exist_ok=True)
    configure_logging(save_path / "train.log")

    optimizer_settings = build(settings.optimizer, "optimizer", OPTIMIZERS)
    schedule = None if settings.scheduler is None else build(settings.scheduler, "scheduler", SCHEDULERS)
    hooks = [build(hook, f"hooks[{index}]", HOOKS) for index, hook in enumerate(settings.hooks)]
    if settings.weight and not settings.resume and not any(isinstance(hook, CheckpointLoader) for hook in hooks):
        raise ValueError(
            f"weight needs a hook that loads it: got {settings.weight!r} and no CheckpointLoader. Add "
            "dict(type='CheckpointLoader') to hooks."
        )

    common = {"seed": settings.seed, "num_workers": settings.num_worker, "pin_memory": device.type == "cuda"}
    train_loader = training_loader(
        build(_split(settings, "train"), "data.train", DATASETS),
        MixingCollate(settings.mix_prob),
        batch_size=settings.batch_size,
        repeats=settings.epoch // settings.eval_epoch,
        **common,
    )
    val_loader = None
    if settings.evaluate and settings.data.get("val") is not None:
        val_set = build(settings.data["val"], "data.val", DATASETS)
        val_loader = evaluation_loader(val_set, collate, batch_size=settings.batch_size_val, **common)

    seed_everything(settings.seed)
    model = build(settings.model, "model", MODELS).to(device)
    require_known_classes(model, train_loader.dataset)
    if settings.sync_bn and get_world_size() > 1:
        model = convert_sync_batch_norm(model)
    _logger.info("%s has %d trainable parameters.", type(model).__name__, _num_trainable(model))
    if hasattr(model, "describe_targets"):
        _logger.info(model.describe_targets())
    trainer = Trainer(
        model=model,
        train_loader=train_loader,
        val_loader=val_loader,
        optimizer=build_optimizer(model, optimizer_settings, settings.param_dicts),
        schedule=schedule,
        hooks=hooks,
        num_epochs=settings.eval_epoch,
        save_path=save_path,
        device=device,
        accumulation_steps=settings.gradient_accumulation_steps,
        clip_grad=None if settings.clip_grad is None else float(settings.clip_grad),
        precision=Precision(settings.amp_dtype if settings.enable_amp else "float32", device.type),
        find_unused_parameters=settings.find_unused_parameters,
        weight=settings.weight,
        config_text=pprint.pformat(settings, sort_dicts=False),
    )
    seed_everything(derive_seed(settings.seed, get_rank()))
    if settings.resume:
        trainer.resume(settings.weight or save_path / "model" / "model_last.pth")
    return trainer


def require_known_classes(model: nn.Module, dataset: Any) -> None:
    """Checks that parts of a model which know the names of their classes have those of the data set's labels.

    Parts without names, and data sets whose labels have none, are let through.

    Raises:
        ValueError: a name differs; the message has the part and the first label that does.
    """
    for path, part in model.named_modules():
        for source in getattr(dataset, "datasets", [dataset]):
            names, known = getattr(part, "class_names", None), label_names(source)
            if names is not None and known is not None:
                require_same_classes(names, known, f"{type(part).__name__} (model.{path})")


def _split(settings: RunSettings, name: str) -> dict[str, Any]:
    if settings.data.get(name) is None:
        raise ValueError(f"data must have {name!r} to train: got {sorted(settings.data)}. Add data.{name}.")
    return settings.data[name]


def _num_trainable(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
