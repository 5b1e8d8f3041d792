"""The command ``python -m pointcept.cache_features``: a teacher's feature maps of all frames, written to files."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from tqdm import tqdm

from pointcept.config import load_config, validate_config
from pointcept.datasets.collate import collate
from pointcept.datasets.rgbd import RGBDSceneDataset
from pointcept.models.pretraining import TimmTeacher
from pointcept.registry import DATASETS, MODELS, build
from pointcept.structures import PointSample
from pointcept.utils.files import atomic_write
from pointcept.utils.logging import configure_logging


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the cache that the command line describes.

    Args:
        arguments: the command line without the program; None takes it from ``sys.argv``.
    """
    options = _parse(arguments)
    configure_logging()
    try:
        settings = validate_config(load_config(options.config_file, options.options))
        if not settings.model.get("teacher"):
            raise ValueError(f"The config must have a teacher: model.teacher of {options.config_file} is not set.")
        if settings.data.get(options.split) is None:
            raise ValueError(f"split must be one of {sorted(settings.data)}: got {options.split!r}. Correct --split.")
        teacher = build(settings.model["teacher"], "model.teacher", MODELS)
        dataset = build(settings.data[options.split], f"data.{options.split}", DATASETS)
        if not isinstance(dataset, RGBDSceneDataset):
            raise ValueError(
                f"Caching needs scenes with posed frames: data.{options.split} is {type(dataset).__name__}."
            )
        device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        written, kept = cache_features(teacher, dataset, options.folder, device=device, batch_size=options.batch_size)
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(
        f"{written} scenes written to {options.folder}, {kept} were there. Read them in training with the transform "
        f"dict(type='LoadFeatureMaps', folder={str(options.folder)!r}).\n"
    )


def cache_features(
    teacher: TimmTeacher, dataset: RGBDSceneDataset, folder: str | Path, *, device: torch.device, batch_size: int = 8
) -> tuple[int, int]:
    """Writes ``<folder>/<scene>.safetensors`` for every scene: per frame a map (C, h, w) in half precision.

    A scene is written at once when all its maps are there, and one that this teacher wrote before is kept, so that an
    interrupted run goes on.

    Args:
        teacher: Makes the maps.
        dataset: Says which frames there are and how they are read; its transforms are not applied.
        folder: Where the files go.
        device: Where the teacher runs.
        batch_size: Frames at a time.

    Returns:
        How many scenes were written and how many kept.

    Raises:
        ValueError: a file was written by another teacher.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1: got {batch_size}.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    scenes = {scene.name: scene for scene in dataset.scenes}
    kept = {name for name in scenes if _is_written(folder / f"{name}.safetensors", teacher)}
    with tqdm(total=len(scenes), initial=len(kept), unit="scene") as progress:
        for name in (name for name in scenes if name not in kept):
            maps: dict[str, torch.Tensor] = {}
            for views in dataset.read_frames(scenes[name], num_views=batch_size):
                sample = PointSample(coord=np.zeros((0, 3), np.float32), scene={"name": name}, views=views)
                found = teacher(collate([sample]).cameras.to(device))[0].half().cpu()
                maps |= {frame: one.clone() for frame, one in zip(views.name, found, strict=True)}
                progress.set_postfix(frames=len(maps))
            content = safetensors.torch.save(maps, metadata={"teacher": teacher.describe()})
            with atomic_write(folder / f"{name}.safetensors") as file:
                file.write(content)
            progress.update()
    return len(scenes) - len(kept), len(kept)


def _is_written(path: Path, teacher: TimmTeacher) -> bool:
    if not path.is_file():
        return False
    try:
        with safetensors.safe_open(path, "pt") as file:
            maker = (file.metadata() or {}).get("teacher")
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} must be a cache of feature maps: it cannot be read ({error}). Delete it.") from error
    if maker != teacher.describe():
        raise ValueError(
            f"{path} must be of the same teacher: it is of {maker!r}, and {teacher.describe()!r} is wanted. Choose "
            "another folder, or delete it."
        )
    return True


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pointcept.cache_features",
        description="Write the feature maps that a config's teacher makes of all frames of a split. An interrupted "
        "run goes on where it was.",
    )
    parser.add_argument("-c", "--config-file", required=True, help="a config with model.teacher, by path or name")
    parser.add_argument("-f", "--folder", type=Path, required=True, help="where the files go, one per scene")
    parser.add_argument("--split", default="train", help="data.<split> of the config (default train)")
    parser.add_argument("--batch-size", type=int, default=8, help="frames at a time (default 8)")
    parser.add_argument("--device", help="where the teacher runs (default: cuda if there is one, else cpu)")
    parser.add_argument("--options", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of the config")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
