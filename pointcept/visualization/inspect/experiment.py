"""An experiment's folder, opened again: its model, its scenes and the checkpoints that it kept."""

import dataclasses
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import torch

from pointcept.config import RunSettings, load_config, validate_config
from pointcept.datasets.collate import collate
from pointcept.models.checkpoints import load_checkpoint
from pointcept.models.pretraining import Ponder
from pointcept.models.weights import load_weights
from pointcept.registry import DATASETS, MODELS, build, near_matches
from pointcept.structures import SceneBatch

_logger = logging.getLogger("pointcept")
_SNAPSHOT = re.compile(r"step_(\d+)\.pth")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Weights of one moment of a run.

    Attributes:
        path: The file.
        step: How many optimizer steps were done; None where the file does not say.
    """

    path: Path
    step: int | None

    @property
    def label(self) -> str:
        """For people: the step, or the file's name."""
        return self.path.stem if self.step is None else f"step {self.step}"


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A rendering pre-training that has run.

    Attributes:
        folder: Where it is.
        settings: Its config.
        model: In evaluation mode, with the weights of the last ``load``.
        scene_names: Scenes of the data set, in its order.
        device: Where the model is.
    """

    folder: Path
    settings: RunSettings
    model: Ponder
    dataset: torch.utils.data.Dataset
    scene_names: tuple[str, ...]
    device: torch.device

    def load(self, checkpoint: Checkpoint) -> None:
        """Gives the model the weights of a checkpoint, all of which must fit."""
        load_weights(self.model, checkpoint.path, strict=True)

    def batch(self, scene: str) -> SceneBatch:
        """One scene, as an evaluation sees it.

        Raises:
            ValueError: there is none of that name, or it has no views.
        """
        if scene not in self.scene_names:
            raise ValueError(
                f"A scene must be one of the split's {len(self.scene_names)}: got {scene!r}. "
                f"{near_matches(scene, self.scene_names)}"
            )
        batch = collate([self.dataset[self.scene_names.index(scene)]])
        if batch.cameras is None:
            raise ValueError(
                f"A rendering needs posed views to be compared with: scene {scene!r} comes without. Set num_views of "
                "the data set, for example --options data.val.num_views=2."
            )
        return batch.to(self.device)


def open_experiment(
    folder: str | Path, *, split: str = "val", options: Sequence[str] = (), device: torch.device | str = "cpu"
) -> Experiment:
    """Builds the model and the data set of an experiment from its ``config.py``.

    Args:
        folder: The experiment's.
        split: Entry of the config's ``data``.
        options: Overrides of the config, such as ``data.val.data_root=...`` where the data lies elsewhere now.
        device: Where to compute.

    Raises:
        FileNotFoundError: there is no such folder, no config in it, or no data.
        ValueError: it is no rendering pre-training, or has no such split.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"An experiment must be a folder: {folder} does not exist. {_near_folders(folder)}"
            "It is the save_path of the run, such as exp/demo/pretrain-ponder-spunet."
        )
    if not (folder / "config.py").is_file():
        raise FileNotFoundError(
            f"An experiment's folder must hold its config.py: {folder} has none. {_near_folders(folder)}"
            "Give the save_path of the run, not the folder of its checkpoints."
        )
    settings = validate_config(load_config(folder / "config.py", options))
    if settings.data.get(split) is None:
        raise ValueError(f"split must be one of the config's data: got {split!r}. It has {sorted(settings.data)}.")
    model = build(settings.model, "model", MODELS)
    if not isinstance(model, Ponder):
        raise ValueError(
            f"Only a rendering pre-training (model type Ponder) can be inspected: {folder} trained a "
            f"{type(model).__name__}. Choose the experiment that its backbone came from."
        )
    dataset = build(settings.data[split], f"data.{split}", DATASETS)
    if not hasattr(dataset, "scenes"):
        raise ValueError(
            f"A data set of scenes is needed, which lists them as scenes: data.{split} is a {type(dataset).__name__}. "
            "Name another split, or replace it with --options."
        )
    names = tuple(scene.stem if scene.suffix == ".pth" else scene.name for scene in dataset.scenes)
    return Experiment(folder, settings, model.to(device).eval(), dataset, names, torch.device(device))


def find_checkpoints(folder: str | Path, given: Sequence[str | Path] = (), *, limit: int = 7) -> list[Checkpoint]:
    """The checkpoints to look at, in the order of their steps.

    Args:
        folder: The experiment's.
        given: Files, or names in the experiment's ``snapshots`` and ``model`` folders with or without ``.pth``. None
            given: the snapshots; without these, the checkpoints of epochs; and the last checkpoint.
        limit: At most so many of those found are taken, spread evenly, the first and the last among them.

    Raises:
        FileNotFoundError: there is none, or one that was given does not exist.
    """
    folder = Path(folder)
    if given:
        found = [_read(_given_file(folder, name)) for name in given]
    else:
        paths = sorted((folder / "snapshots").glob("step_*.pth")) or sorted((folder / "model").glob("epoch_*.pth"))
        last = folder / "model" / "model_last.pth"
        found = [_read(path) for path in (*paths, *([last] if last.is_file() else []))]
        if not found:
            raise FileNotFoundError(
                f"An experiment must have a checkpoint to be inspected: {folder} has neither snapshots/step_*.pth nor "
                "model/*.pth. Let it train at least one epoch, or name a file with --checkpoints."
            )
    by_step: dict[int | str, Checkpoint] = {}
    for checkpoint in found:
        by_step.setdefault(checkpoint.path.name if checkpoint.step is None else checkpoint.step, checkpoint)
    ordered = sorted(by_step.values(), key=lambda c: (c.step is None, c.step or 0))
    if given or len(ordered) <= limit:
        return ordered
    _logger.info("Of %d checkpoints %d are taken; --checkpoints chooses others.", len(ordered), limit)
    return [ordered[round(index * (len(ordered) - 1) / max(1, limit - 1))] for index in range(limit)]


def _read(path: Path) -> Checkpoint:
    if named := _SNAPSHOT.fullmatch(path.name):
        return Checkpoint(path, int(named[1]))
    step = load_checkpoint(path).get("step")
    return Checkpoint(path, step if isinstance(step, int) else None)


def _given_file(folder: Path, name: str | Path) -> Path:
    candidates = [Path(name)]
    candidates += [folder / part / f"{name}{suffix}" for part in ("snapshots", "model", "") for suffix in ("", ".pth")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    known = sorted(path.stem for part in ("snapshots", "model") for path in (folder / part).glob("*.pth"))
    raise FileNotFoundError(
        f"A checkpoint must exist: found no {name} in {folder / 'snapshots'} or {folder / 'model'}. "
        f"{near_matches(str(name), known) if known else 'These folders hold none.'}"
    )


def _near_folders(folder: Path) -> str:
    """Experiments beside or below a folder that is none, as a sentence."""
    root = next((parent for parent in (folder, *folder.parents) if parent.is_dir()), Path())
    levels = ("config.py", "*/config.py", "*/*/config.py")
    found = sorted({str(path.parent) for level in levels for path in root.glob(level)})
    return f"{near_matches(str(folder), found)} " if found and root != Path("/") else ""
