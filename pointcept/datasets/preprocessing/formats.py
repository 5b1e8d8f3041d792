"""Finding the frames of an RGB-D sequence: colour, depth and pose files in the usual folder conventions."""

import dataclasses
import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pointcept.datasets.preprocessing.poses import pose_from_quaternion, read_pose, rigid_pose

logger = logging.getLogger("pointcept")

INTRINSIC_NAMES = ("camera-intrinsics.txt", "intrinsics.txt", "intrinsic.txt", "K.txt", "intrinsic/intrinsic_depth.txt")
MAX_TIME_DIFFERENCE_S = 0.02
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclasses.dataclass(frozen=True)
class FrameSource:
    """Where one frame comes from.

    Attributes:
        number: Frame number, unique in the sequence; frames are ordered by it.
        name: What the source calls the frame.
        color: Colour image.
        depth: 16-bit depth image.
        camera_to_world: (4, 4), OpenCV axes, metres.
    """

    number: int
    name: str
    color: Path
    depth: Path
    camera_to_world: np.ndarray


@dataclasses.dataclass(frozen=True)
class RgbdSequence:
    """The usable frames of a sequence.

    Attributes:
        format: Name of the convention.
        frames: Usable frames, by number.
        skipped: Names of the frames left out, by reason.
        intrinsic_file: Intrinsics of the depth camera found in the folder, or None.
        depth_units_per_metre: What the convention says of the raw depth.
    """

    format: str
    frames: tuple[FrameSource, ...]
    skipped: dict[str, list[str]]
    intrinsic_file: Path | None
    depth_units_per_metre: float


class _Collector:
    """Collects frames and the reasons for which others are left out."""

    def __init__(self) -> None:
        self.frames: list[FrameSource] = []
        self.skipped: dict[str, list[str]] = {}

    def add(
        self, number: int, name: str, color: Path | None, depth: Path | None, pose: Callable[[], np.ndarray] | None
    ) -> None:
        for what, value in (("colour", color), ("depth", depth), ("pose", pose)):
            if value is None:
                self.skipped.setdefault(f"no {what}", []).append(name)
                return
        try:
            camera_to_world = pose()
        except ValueError:
            self.skipped.setdefault("bad pose", []).append(name)
            return
        self.frames.append(FrameSource(number, name, color, depth, camera_to_world))

    def sequence(self, format: str, folder: Path, units_per_metre: float) -> RgbdSequence:
        frames = tuple(sorted(self.frames, key=lambda frame: frame.number))
        found = [folder / name for name in INTRINSIC_NAMES if (folder / name).is_file()]
        return RgbdSequence(format, frames, self.skipped, found[0] if found else None, units_per_metre)


def _by_number(files: list[Path], what: str) -> dict[int, Path]:
    """Files by the last number in their name (without suffix)."""
    numbered: dict[int, Path] = {}
    for file in sorted(files):
        digits = re.findall(r"\d+", file.stem)
        if not digits:
            raise ValueError(f"A {what} file must have its frame number in its name: {file} has none. Rename it.")
        number = int(digits[-1])
        if number in numbered:
            raise ValueError(
                f"Each frame must have one {what} file: {numbered[number]} and {file} both have the number {number}. "
                "Narrow the pattern."
            )
        numbered[number] = file
    return numbered


def _add_matched(collector: _Collector, color: dict[int, Path], depth: dict[int, Path], pose: dict[int, Path]) -> None:
    for number in sorted({*color, *depth, *pose}):
        file = pose.get(number)
        read = None if file is None else (lambda file=file: read_pose(file))
        present = color.get(number) or depth.get(number) or file
        collector.add(number, present.name, color.get(number), depth.get(number), read)


def read_seven_scenes(folder: Path) -> RgbdSequence:
    """7-Scenes: ``frame-<i>.color.png`` (or jpg), ``.depth.png`` (millimetres), ``.pose.txt`` (camera-to-world)."""
    files = [file for file in folder.glob("frame-*.color.*") if file.suffix in IMAGE_SUFFIXES]
    collector = _Collector()
    _add_matched(
        collector,
        _by_number(files, "colour"),
        _by_number(list(folder.glob("frame-*.depth.png")), "depth"),
        _by_number(list(folder.glob("frame-*.pose.txt")), "pose"),
    )
    return collector.sequence("7scenes", folder, 1000.0)


def read_generic(folder: Path, color_glob: str, depth_glob: str, pose_glob: str) -> RgbdSequence:
    """Any folder: three patterns relative to it; files are matched by the last number in their names.

    Depth is taken as millimetres and poses as 4x4 camera-to-world text files.

    Raises:
        ValueError: a pattern matches nothing, or two files of a kind have one number.
    """
    found = {}
    for what, pattern in (("colour", color_glob), ("depth", depth_glob), ("pose", pose_glob)):
        files = [file for file in folder.glob(pattern) if file.is_file()]
        if not files:
            raise ValueError(f"The {what} pattern must match files in {folder}: {pattern!r} matches none. Correct it.")
        found[what] = _by_number(files, what)
    collector = _Collector()
    _add_matched(collector, found["colour"], found["depth"], found["pose"])
    return collector.sequence("generic", folder, 1000.0)


def read_pose_list(folder: Path) -> RgbdSequence:
    """``images/<i>.png``, ``depth/<i>.png`` (millimetres), and ``poses.txt`` with one row of 16 numbers per image.

    A row is a camera-to-world matrix; rows follow the images in the order of their numbers.

    Raises:
        ValueError: ``poses.txt`` has not one row of 16 numbers per image.
    """
    images = [file for file in (folder / "images").glob("*") if file.suffix.lower() in IMAGE_SUFFIXES]
    color = _by_number(images, "colour")
    depth = _by_number(list((folder / "depth").glob("*.png")), "depth")
    file = folder / "poses.txt"
    rows = [line.split() for line in file.read_text().splitlines() if line.strip() and not line.startswith("#")]
    widths = {len(row) for row in rows}
    if len(rows) != len(color) or widths != {16}:
        raise ValueError(
            f"{file} must have one row of 16 numbers for each of the {len(color)} images in {folder / 'images'}: got "
            f"{len(rows)} rows with {sorted(widths)} numbers. Write the 4x4 camera-to-world matrices row by row."
        )
    collector = _Collector()
    for (number, image), row in zip(sorted(color.items()), rows, strict=True):
        matrix = _numbers(row, file)
        collector.add(number, image.name, image, depth.get(number), lambda m=matrix: rigid_pose(m.reshape(4, 4), file))
    return collector.sequence("poselist", folder, 1000.0)


def _numbers(words: list[str], file: Path) -> Float[np.ndarray, " _N"]:
    try:
        return np.array([float(word) for word in words])
    except ValueError as error:
        raise ValueError(f"{file} must hold numbers: {error}. Correct that line.") from None


def _time_table(file: Path, columns: int) -> tuple[np.ndarray, list[list[str]]]:
    """Rows of a TUM list, by time: seconds, and the words after the time."""
    lines = [line.split() for line in file.read_text().splitlines() if line.strip() and not line.startswith("#")]
    for words in lines:
        if len(words) < columns + 1:
            raise ValueError(f"A row of {file} must have {columns + 1} columns: got {' '.join(words)!r}. Correct it.")
    if not lines:
        raise ValueError(f"{file} must have rows of a time and {columns} values: it has none.")
    times = np.array([_numbers(words[:1], file)[0] for words in lines])
    order = np.argsort(times, kind="stable")
    return times[order], [lines[i][1 : columns + 1] for i in order]


def associate(
    times: Float[np.ndarray, " N"], other_times: Float[np.ndarray, " M"], max_difference_s: float
) -> np.ndarray:
    """Index of the nearest of the (rising) ``other_times`` for each time; -1 where it is too far away."""
    right = np.clip(np.searchsorted(other_times, times), 1, max(len(other_times) - 1, 1))
    right = np.minimum(right, len(other_times) - 1)
    left = np.maximum(right - 1, 0)
    nearest = np.where(np.abs(times - other_times[left]) <= np.abs(other_times[right] - times), left, right)
    return np.where(np.abs(times - other_times[nearest]) <= max_difference_s, nearest, -1)


def read_tum(folder: Path) -> RgbdSequence:
    """TUM RGB-D: ``rgb.txt``, ``depth.txt`` (time, file; 5000 per metre) and ``groundtruth.txt`` (time, t, q xyzw).

    Each colour image takes the depth image nearest in time, and the pose nearest to that depth image, both within 20
    ms. Frames are numbered by their rank in ``rgb.txt``, left-out ones included.

    Raises:
        ValueError: a list is empty or has rows that are too short or no numbers.
    """
    color_times, color_rows = _time_table(folder / "rgb.txt", 1)
    depth_times, depth_rows = _time_table(folder / "depth.txt", 1)
    pose_times, pose_rows = _time_table(folder / "groundtruth.txt", 7)
    depth_index = associate(color_times, depth_times, MAX_TIME_DIFFERENCE_S)
    pose_index = associate(depth_times[depth_index], pose_times, MAX_TIME_DIFFERENCE_S)
    collector = _Collector()
    for rank, (row, depth, pose) in enumerate(zip(color_rows, depth_index, pose_index, strict=True)):
        color_file = folder / row[0]
        depth_file = None if depth < 0 else folder / depth_rows[depth][0]
        values = None if pose < 0 else _numbers(pose_rows[pose], folder / "groundtruth.txt")
        collector.add(
            rank,
            color_file.name,
            color_file if color_file.is_file() else None,
            depth_file if depth_file is not None and depth_file.is_file() else None,
            None if values is None else (lambda v=values: pose_from_quaternion(v[:3], v[3:], folder)),
        )
    return collector.sequence("tum", folder, 5000.0)


FORMATS: dict[str, tuple[str, Callable[[Path], bool], Callable[[Path], RgbdSequence]]] = {
    "tum": (
        "rgb.txt, depth.txt and groundtruth.txt",
        lambda folder: all((folder / name).is_file() for name in ("rgb.txt", "depth.txt", "groundtruth.txt")),
        read_tum,
    ),
    "7scenes": (
        "frame-<i>.color.png, frame-<i>.depth.png and frame-<i>.pose.txt",
        lambda folder: any(folder.glob("frame-*.color.*")) and any(folder.glob("frame-*.depth.png")),
        read_seven_scenes,
    ),
    "poselist": (
        "images/<i>.png, depth/<i>.png and poses.txt",
        lambda folder: all((folder / name).exists() for name in ("images", "depth", "poses.txt")),
        read_pose_list,
    ),
}


def _open(folder: Path, format: str, globs: tuple[str | None, str | None, str | None]) -> RgbdSequence:
    if format == "generic" or any(globs):
        if format not in ("auto", "generic") or not all(globs):
            raise ValueError(
                "The patterns of colour, depth and pose files must be given together, and only for the generic format: "
                f"got {globs} for {format!r}. Pass --color, --depth and --pose, or another --format without them."
            )
        return read_generic(folder, *globs)
    if format != "auto":
        needs, is_here, read = FORMATS[format]
        if not is_here(folder):
            raise FileNotFoundError(f"A sequence of format {format!r} must have {needs}: {folder} has not.")
        return read(folder)
    for name, (_, is_here, read) in FORMATS.items():
        if is_here(folder):
            logger.info("%s looks like a sequence of format %r", folder, name)
            return read(folder)
    known = "; ".join(f"{name}: {needs}" for name, (needs, _, _) in FORMATS.items())
    raise FileNotFoundError(
        f"The folder must follow a known format: {folder} follows none ({known}). For other folders pass the patterns "
        "--color, --depth and --pose."
    )


def open_sequence(
    folder: Path, *, format: str = "auto", globs: tuple[str | None, str | None, str | None] = (None, None, None)
) -> RgbdSequence:
    """The usable frames of a folder.

    Args:
        folder: The sequence.
        format: ``auto``, or one of ``7scenes``, ``tum``, ``poselist``, ``generic``.
        globs: Patterns of colour, depth and pose files, for ``generic`` alone.
    Raises:
        FileNotFoundError: there is no such folder, or it has not the files of the format.
        ValueError: the format is unknown, the patterns are incomplete, or no frame is usable.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"The sequence must be a folder: {folder} is not one. Check the path.")
    if format not in ("auto", "generic", *FORMATS):
        raise ValueError(f"format must be auto, generic, {', '.join(FORMATS)}: got {format!r}.")
    sequence = _open(folder, format, globs)
    if not sequence.frames:
        reasons = ", ".join(f"{len(names)} with {reason}" for reason, names in sequence.skipped.items()) or "no files"
        raise ValueError(
            f"A sequence must have a frame with colour, depth and a finite rigid pose: {folder}, read as "
            f"{sequence.format}, has none ({reasons}). Check the folder and --format."
        )
    return sequence
