"""Which frames of a scene may be drawn: listing, held-out frames, and frames that cannot be used."""

import json
import logging
import os
import re
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import NoReturn

import numpy as np
from jaxtyping import Bool, Float

from pointcept.datasets.frame_files import COLOR_SUFFIXES, read_pose

HOLDOUT_EVERY = 8
"""Of every so many frames of a scene the last is held out: never fused into the cloud, only used to score rendering."""

VIEW_SPLITS = ("train", "heldout", "all")

_NUMBER = re.compile(r"\d+(\.\d+)?")
_logger = logging.getLogger("pointcept")


def held_out(num_frames: int, holdout_every: int = HOLDOUT_EVERY) -> Bool[np.ndarray, "_N"]:
    """Which frames of a scene are held out, by their rank among all its frames sorted by number.

    Args:
        num_frames: Number of frames of the scene, usable or not.
        holdout_every: K; the frames of rank K-1, 2K-1, ... are held out.

    Returns:
        True for each frame that is held out.

    Raises:
        ValueError: ``holdout_every`` is below 2.
    """
    if holdout_every < 2:
        raise ValueError(
            f"holdout_every must be at least 2, so that frames remain to train on: got {holdout_every}. "
            f"The default is {HOLDOUT_EVERY}."
        )
    return np.arange(num_frames) % holdout_every == holdout_every - 1


class SceneFrames:
    """The frames of one scene that a split may draw.

    A frame exists when it has a colour or a depth file, named by a number, so that ranks, and with them the held-out
    frames, stay the same when one of its files gets lost.

    Listing a scene reads its folders only; a pose is read when its frame is drawn. As soon as one frame turns out to
    be unusable all of them are checked, so that one warning tells how many are skipped and why. What is drawn does
    not depend on which frames were checked before.

    Args:
        folder: ``rgbd/<scene>``.
        view_split: ``"train"``: all but the held-out frames; ``"heldout"``: only those; ``"all"``: both.
        holdout_every: See ``held_out``.
        frame_interval: Of the frames of the split, every so many are used.
        skip: Names of frames to leave out without a word.

    Raises:
        FileNotFoundError: the folder, or its ``color``, ``depth`` or ``pose``, is missing.
        ValueError: no frame remains, a frame is not named by a number or has two files of a kind, or the scene was
            written with another ``holdout_every``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        view_split: str,
        holdout_every: int = HOLDOUT_EVERY,
        frame_interval: int = 1,
        skip: Iterable[str] = (),
    ) -> None:
        self.folder = folder
        self.view_split = view_split
        _check_scene_json(folder, holdout_every)
        parts = {
            "colour": _stems(folder / "color", COLOR_SUFFIXES),
            "depth": _stems(folder / "depth", (".png",)),
            "pose": _stems(folder / "pose", (".txt",)),
        }
        frames = _sorted_by_number(parts["colour"] | parts["depth"], folder)
        is_held_out = held_out(len(frames), holdout_every)
        allowed = {"train": ~is_held_out, "heldout": is_held_out, "all": np.ones(len(frames), bool)}[view_split]
        # The interval counts within the split: among all frames it could step over every held-out one.
        wanted = [frames[rank] for rank in np.flatnonzero(allowed)[::frame_interval]]
        skipped = {Decimal(stem) for stem in skip}
        wanted = [stem for stem in wanted if Decimal(stem) not in skipped]

        self._missing = {part: sum(stem not in stems for stem in wanted) for part, stems in parts.items()}
        complete = set.intersection(*parts.values())
        self._num_wanted = len(wanted)
        # Bytes, as a data set holds millions of frames.
        self._candidates = np.array([stem for stem in wanted if stem in complete], dtype=np.bytes_)
        self._unusable: set[int] | None = None
        if any(self._missing.values()):
            self._check_all()
        if len(self._candidates) == 0:
            self._refuse()

    def draw(self, num_views: int, rng: np.random.Generator) -> list[tuple[str, Float[np.ndarray, "4 4"]]]:
        """Frames in random order, without replacement: at most ``num_views``, fewer where the scene has fewer.

        Returns:
            Name and world_from_camera of each.

        Raises:
            ValueError: no frame of the scene is usable.
        """
        chosen = []
        for index in rng.permutation(len(self._candidates)).tolist():
            if len(chosen) == num_views:
                break
            stem, pose = self._read(index)
            if pose is None:
                self._check_all()
            else:
                chosen.append((stem, pose))
        if not chosen:
            self._refuse()
        return chosen

    def spread(self, num_views: int) -> list[tuple[str, Float[np.ndarray, "4 4"]]]:
        """At most ``num_views`` frames, evenly spread over the usable ones, in order.

        Returns:
            Name and world_from_camera of each.

        Raises:
            ValueError: no frame of the scene is usable.
        """
        unusable = self._check_all()
        usable = [index for index in range(len(self._candidates)) if index not in unusable]
        if not usable:
            self._refuse()
        count = min(num_views, len(usable))
        ranks = (np.arange(count) * 2 + 1) * len(usable) // (2 * count)
        return [self._read(usable[rank]) for rank in ranks.tolist()]

    def _read(self, index: int) -> tuple[str, Float[np.ndarray, "4 4"] | None]:
        stem = self._candidates[index].decode()
        return stem, read_pose(self.folder / "pose" / f"{stem}.txt")

    def _check_all(self) -> set[int]:
        if self._unusable is None:
            self._unusable = {index for index in range(len(self._candidates)) if self._read(index)[1] is None}
            if self._reasons():
                num_skipped = self._num_wanted - len(self._candidates) + len(self._unusable)
                _logger.warning(
                    "Scene %r: %d of %d frames (view_split %r) are skipped: %s.",
                    self.folder.name, num_skipped, self._num_wanted, self.view_split, self._reasons(),
                )  # fmt: skip
        return self._unusable

    def _reasons(self) -> str:
        reasons = [f"{count} without {part}" for part, count in self._missing.items() if count]
        if self._unusable:
            reasons.append(f"{len(self._unusable)} with a pose that is not a finite, rigid 4x4 matrix")
        return ", ".join(reasons)

    def _refuse(self) -> NoReturn:
        raise ValueError(
            f"Scene {self.folder.name!r} must have a usable frame of view_split {self.view_split!r}: got none of "
            f"{self._num_wanted} ({self._reasons() or 'nothing is listed'}) in {self.folder}. Export its frames again, "
            "choose another holdout_every or frame_interval, or leave the scene out with a JSON list as split."
        )


def read_skip_list(path: Path) -> dict[str, list[str]]:
    """Frames to leave out, per scene, from a text file of ``scene frame`` lines; none when there is no file.

    Raises:
        ValueError: a line is not a scene and a frame number.
    """
    skip: dict[str, list[str]] = {}
    if not path.is_file():
        return skip
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or not _NUMBER.fullmatch(words[1]):
            raise ValueError(
                f"Each line of {path} must be a scene and a frame number: line {number} is {line!r}. Correct it."
            )
        skip.setdefault(words[0], []).append(words[1])
    return skip


def _stems(folder: Path, suffixes: tuple[str, ...]) -> set[str]:
    try:
        names = [os.path.splitext(name) for name in os.listdir(folder) if not name.startswith(".")]
    except FileNotFoundError:
        raise FileNotFoundError(
            f"An RGB-D scene needs the folders color, depth and pose: {folder} does not exist. Export its frames."
        ) from None
    stems = [stem for stem, suffix in names if suffix.lower() in suffixes]
    if len(set(stems)) != len(stems):
        twice = next(stem for stem in sorted(stems) if stems.count(stem) > 1)
        raise ValueError(f"A frame must have one file in {folder}: found several for {twice!r}. Remove all but one.")
    return set(stems)


def _sorted_by_number(stems: set[str], folder: Path) -> list[str]:
    wrong = sorted(stem for stem in stems if not _NUMBER.fullmatch(stem))
    if wrong:
        raise ValueError(
            f"Frames must be named by a number, such as 12.jpg: found {wrong[0]!r} in {folder}. Rename or remove it, "
            "or convert the sequence with the sequence converter."
        )
    return sorted(stems, key=lambda stem: (Decimal(stem), stem))


def _check_scene_json(folder: Path, holdout_every: int) -> None:
    path = folder / "scene.json"
    if not path.is_file():
        return
    try:
        written = json.loads(path.read_text()).get("holdout_every", holdout_every)
    except (json.JSONDecodeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must hold a JSON object: {error}. Write the scene again.") from error
    if written != holdout_every:
        raise ValueError(
            f"holdout_every must be the value that the cloud was fused with, or held-out frames leak into it: {path} "
            f"says {written}, the data set {holdout_every}. Set holdout_every={written}, or convert the scene again."
        )
