"""Label-efficient learning: lists of the scenes, and of the points, whose labels may be used."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from pointcept.utils.plain_pickle import load_torch_file


def read_scene_names(path: Path) -> list[str]:
    """Names of scenes, one per line, as the lists of ScanNet's limited-scenes tasks have them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it names nothing, or a scene twice.
    """
    if not path.is_file():
        raise FileNotFoundError(f"A list of scenes must be a text file: {path} does not exist. Correct the path.")
    names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice:
        raise ValueError(f"{path} must name every scene once, one per line: got {twice or 'none'}. Correct the list.")
    return names


def only_listed(scenes: Sequence[Path], names: Sequence[str], source: Path) -> list[Path]:
    """The scenes of a split that a list names, in the order of the split.

    Raises:
        ValueError: the list names a scene that the split does not have.
    """
    known = {scene.stem if scene.is_file() else scene.name: scene for scene in scenes}
    absent = [name for name in names if name not in known]
    if absent:
        raise ValueError(
            f"Every scene of {source} must be in the split: {len(absent)} of {len(names)} are not, first "
            f"{absent[0]!r}. Take the list of this split, or complete the data."
        )
    chosen = set(names)
    return [scene for name, scene in known.items() if name in chosen]


def read_labelled_points(path: Path, names: Sequence[str]) -> dict[str, Int64[np.ndarray, "_K"]]:
    """Rows of the points of each scene whose labels may be used.

    Args:
        path: JSON, or a file of ``torch.save`` (``.pth``, ``.pt``).
        names: The scenes; others in the file are not read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no dict of lists of rows, or lacks a scene.
    """
    if not path.is_file():
        raise FileNotFoundError(f"labelled_points must be a file: {path} does not exist. Correct the path.")
    try:
        rows: Any = load_torch_file(path) if path.suffix in (".pth", ".pt") else json.loads(path.read_text())
        return {name: np.asarray(rows[name], dtype=np.int64).reshape(-1) for name in names}
    except KeyError as error:
        raise ValueError(
            f"labelled_points must list every scene of the split: {path} lacks {error}. Add it, with [] for no labels."
        ) from None
    except (ValueError, TypeError) as error:
        raise ValueError(
            f'labelled_points must be a dict such as {{"scene0000_00": [3, 17]}}: {path} is not ({error}). Correct it.'
        ) from error


def keep_labels(segment: Int64[np.ndarray, "N"], rows: Int64[np.ndarray, "_K"], scene: Path) -> Int64[np.ndarray, "N"]:
    """Labels of the listed rows; all others become -1.

    Raises:
        ValueError: a row is outside the cloud.
    """
    if len(rows) and (rows.min() < 0 or rows.max() >= len(segment)):
        raise ValueError(
            f"labelled_points must be rows of the scene's cloud: {scene} has {len(segment)} points and the file lists "
            f"rows {rows.min()}..{rows.max()}. Make the file for these clouds."
        )
    kept = np.full_like(segment, -1)
    kept[rows] = segment[rows]
    return kept
