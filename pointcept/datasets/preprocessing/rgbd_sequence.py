"""Converts an RGB-D sequence to a scene of the standard layout: posed frames, and the cloud that is fused from them."""

import argparse
import dataclasses
import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from pointcept.datasets.frames import HOLDOUT_EVERY, held_out
from pointcept.datasets.preprocessing.agreement import depth_errors
from pointcept.datasets.preprocessing.formats import FORMATS, FrameSource, RgbdSequence, open_sequence
from pointcept.datasets.preprocessing.frame_reader import FrameReader
from pointcept.datasets.preprocessing.fusion import CloudFusion, FusedCloud
from pointcept.datasets.preprocessing.gravity import (
    estimate_gravity,
    gravity_direction,
    read_gravity,
    upright_from_world,
)
from pointcept.datasets.preprocessing.options import SequenceOptions
from pointcept.datasets.preprocessing.poses import intrinsic_matrix, read_intrinsic
from pointcept.datasets.preprocessing.preview import frame_tile, scene_preview
from pointcept.datasets.preprocessing.registration import read_color_calibration
from pointcept.datasets.rgbd_layout import (
    SPLITS,
    new_scene,
    write_frame,
    write_intrinsics,
    write_scene,
    write_scene_json,
)

logger = logging.getLogger("pointcept")

GRAVITY_FILE = "gravity-direction.txt"
MAX_GRAVITY_FRAMES = 16
MAX_CHECKED_FRAMES = 16
MAX_TILES = 12
# Held-out depth further than this from the cloud (median) means wrong poses, intrinsics or depth scale.
SUSPICIOUS_ERROR_M = 0.05


@dataclasses.dataclass(frozen=True)
class Report:
    """What a conversion did.

    Attributes:
        num_points: Points of the cloud.
        extent_m: (3,), size of the cloud along x, y and z.
        num_fused: Frames written and fused.
        num_held_out: Frames written, not fused.
        num_skipped: Frames left out because a part was missing or unusable.
        heldout_error_m: Median absolute difference of held-out depth to the cloud; NaN when nothing could be compared.
    """

    num_points: int
    extent_m: np.ndarray
    num_fused: int
    num_held_out: int
    num_skipped: int
    heldout_error_m: float


def convert(
    folder: Path,
    root: Path,
    scene: str,
    *,
    splits: Sequence[str] = ("train",),
    options: SequenceOptions | None = None,
    overwrite: bool = False,
) -> Report:
    """Convert the sequence in ``folder`` to the scene ``scene`` under ``root``.

    The frames are written once, the cloud to each of ``splits``, so that one sequence can give training rays (its
    fused frames) and scores (its held-out frames). ``rgbd/<scene>/preview.png`` shows the result.

    Args:
        folder: The sequence.
        root: Root of the data set.
        scene: Name of the scene.
        splits: One or more of ``train``, ``val`` and ``test``.
        options: How to convert.
        overwrite: Replace the scene if it exists.

    Raises:
        FileNotFoundError: the folder, or a file of its format, is missing.
        FileExistsError: the scene exists and ``overwrite`` is false.
        ValueError: no frame is usable, an image is unreadable, sizes do not fit, or nothing can be fused.
    """
    options = options or SequenceOptions()
    existing = [root / split / scene for split in SPLITS if (root / split / scene).exists()]
    if existing and not overwrite:
        raise FileExistsError(
            f"A new scene must not exist yet: found {existing[0]}. Choose another --scene, or pass --overwrite."
        )
    globs = (options.color_glob, options.depth_glob, options.pose_glob)
    sequence = open_sequence(folder, format=options.format, globs=globs)
    if sequence.format == "7scenes" and options.color_calibration is None:
        logger.warning(
            "7-Scenes colour is not registered to depth: near surfaces will carry colours from tens of pixels away. "
            "Pass --color-calibration."
        )
    with new_scene(root, splits[0], scene, overwrite=overwrite) as staging:
        cloud, report = _Conversion(folder, sequence, options).run(staging, scene)
        write_scene(staging, splits[0], scene, coord=cloud.coord, color=cloud.color, normal=cloud.normal)
        for stale in existing:
            if stale.parent.name != splits[0]:
                shutil.rmtree(stale)
    for split in splits[1:]:
        write_scene(root, split, scene, coord=cloud.coord, color=cloud.color, normal=cloud.normal)
    return report


class _Conversion:
    """One sequence on its way to one scene."""

    def __init__(self, folder: Path, sequence: RgbdSequence, options: SequenceOptions) -> None:
        self.sequence = sequence
        self.options = options
        self.frames = sequence.frames[:: options.stride]
        self.reader = FrameReader(sequence, options)
        self.skipped = {reason: list(names) for reason, names in sequence.skipped.items()}
        self.world_from_source = self._world_from_source(folder)

    def _world_from_source(self, folder: Path) -> Float[np.ndarray, "4 4"]:
        gravity = self.options.gravity
        if isinstance(gravity, np.ndarray):
            return upright_from_world(gravity / np.linalg.norm(gravity))
        if gravity == "none":
            return np.eye(4)
        if (folder / GRAVITY_FILE).is_file():
            logger.info("Gravity is read from %s", folder / GRAVITY_FILE)
            return upright_from_world(read_gravity(folder / GRAVITY_FILE))
        chosen = self.frames[:: -(-len(self.frames) // MAX_GRAVITY_FRAMES)]
        normals = np.concatenate([self.reader.normals(frame) for frame in chosen])
        down = estimate_gravity(normals, np.stack([frame.camera_to_world[:3, 1] for frame in chosen]))
        logger.info("Gravity is estimated from %d frames: %s", len(chosen), np.round(down, 4).tolist())
        return upright_from_world(down)

    def run(self, root: Path, scene: str) -> tuple[FusedCloud, Report]:
        """Write everything but the cloud to ``root``, and give the cloud."""
        fusion = CloudFusion(self.options.voxel_size_m)
        is_held_out = held_out(len(self.frames), self.options.holdout_every)
        tiled = set(np.linspace(0, len(self.frames) - 1, min(MAX_TILES, len(self.frames))).astype(int).tolist())
        written: list[FrameSource] = []
        tiles = []
        write_intrinsics(root, scene, self.reader.intrinsic, self.reader.size_px)
        for index, source in enumerate(tqdm(self.frames, desc=scene, unit="frame")):
            frame = self.reader.read(source, self.world_from_source)
            if not frame.depth.any():
                self.skipped.setdefault("no depth in range", []).append(source.name)
                continue
            hold = bool(is_held_out[len(written)])
            written.append(source)
            write_frame(
                root, scene, source.number, color=frame.color, depth=frame.depth, camera_to_world=frame.camera_to_world
            )
            if index in tiled:
                tiles.append(frame_tile(frame.color, frame.depth, held_out=hold))
            if not hold:
                fusion.add_frame(
                    frame.color, frame.depth, self.reader.intrinsic, frame.camera_to_world, use=frame.measured
                )
        self._warn(written)
        cloud = fusion.cloud(self.options.min_observations)
        is_held_out = is_held_out[: len(written)]
        error = self._heldout_error(cloud, [source for source, hold in zip(written, is_held_out) if hold])
        self._write_facts(root, scene, written, error)
        centers = np.stack([(self.world_from_source @ source.camera_to_world)[:3, 3] for source in written])
        scene_preview(
            tiles, cloud.coord, cloud.color, cloud.normal, centers, is_held_out, self.options.voxel_size_m
        ).save(root / "rgbd" / scene / "preview.png")
        return cloud, Report(
            num_points=len(cloud.coord),
            extent_m=cloud.coord.max(axis=0) - cloud.coord.min(axis=0),
            num_fused=int(np.count_nonzero(~is_held_out)),
            num_held_out=int(np.count_nonzero(is_held_out)),
            num_skipped=sum(len(names) for names in self.skipped.values()),
            heldout_error_m=error,
        )

    def _warn(self, written: list[FrameSource]) -> None:
        if self.skipped:
            reasons = ", ".join(f"{len(names)} {reason} (first: {names[0]})" for reason, names in self.skipped.items())
            logger.warning("Frames were skipped: %s", reasons)
        if not written:
            raise ValueError(
                f"A frame must have depth within {self.options.max_depth_m} m: none of {len(self.frames)} has. Check "
                "--depth-scale and --max-depth."
            )
        if len(written) < self.options.holdout_every:
            logger.warning(
                "No frame is held out, so rendering cannot be scored: %d frames, --holdout-every %d. Lower it.",
                len(written),
                self.options.holdout_every,
            )

    def _heldout_error(self, cloud: FusedCloud, sources: list[FrameSource]) -> float:
        """Median absolute difference of held-out depth to the cloud, metres; NaN when nothing can be compared."""
        errors = [np.zeros(0)]
        for source in sources[:: max(1, -(-len(sources) // MAX_CHECKED_FRAMES))]:
            frame = self.reader.read(source, self.world_from_source)
            errors.append(
                depth_errors(
                    cloud.coord,
                    cloud.normal,
                    self.options.voxel_size_m,
                    frame.depth,
                    self.reader.intrinsic,
                    frame.camera_to_world,
                )
            )
        everything = np.abs(np.concatenate(errors))
        error = float(np.median(everything)) if len(everything) else float("nan")
        if error > SUSPICIOUS_ERROR_M:
            logger.warning(
                "Held-out depth is %.0f mm (median) from the fused cloud: the poses (camera-to-world, metres?), the "
                "intrinsics or --depth-scale are likely wrong. Look at preview.png.",
                1000 * error,
            )
        return error

    def _write_facts(self, root: Path, scene: str, written: list[FrameSource], error: float) -> None:
        write_scene_json(
            root,
            scene,
            holdout_every=self.options.holdout_every,
            source_format=self.sequence.format,
            source_frames={str(source.number): source.name for source in written},
            skipped={reason: len(names) for reason, names in self.skipped.items()},
            world_from_source=self.world_from_source.tolist(),
            color_was_registered=self.options.color_calibration is not None,
            voxel_size_m=self.options.voxel_size_m,
            heldout_depth_error_m=None if np.isnan(error) else round(error, 6),
        )


def _intrinsic_argument(words: list[str]) -> np.ndarray:
    if len(words) == 1:
        return read_intrinsic(Path(words[0]))
    try:
        values = np.array([float(word) for word in words])
    except ValueError:
        values = np.zeros(0)
    return intrinsic_matrix(values, f"--intrinsic {' '.join(words)}")


def _gravity_argument(words: list[str]) -> np.ndarray | str:
    if words in (["auto"], ["none"]):
        return words[0]
    return read_gravity(Path(words[0])) if len(words) == 1 else gravity_direction(words, "--gravity")


def _parser() -> argparse.ArgumentParser:
    defaults = SequenceOptions()
    parser = argparse.ArgumentParser(
        prog="python -m pointcept.datasets.preprocessing.rgbd_sequence",
        description="Convert a folder of colour, 16-bit depth, poses and intrinsics to a scene of the standard layout.",
    )
    parser.add_argument("folder", type=Path, help="the sequence")
    parser.add_argument("--output", type=Path, required=True, metavar="ROOT", help="root of the data set")
    parser.add_argument("--scene", required=True, metavar="NAME", help="name of the scene")
    parser.add_argument(
        "--split", nargs="+", choices=SPLITS, default=["train"], help="split or splits that list the scene"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the scene if it exists")
    parser.add_argument("--format", choices=("auto", *FORMATS, "generic"), default="auto")
    parser.add_argument("--color", metavar="GLOB", help="colour files, for other folders than the known formats")
    parser.add_argument("--depth", metavar="GLOB", help="depth files")
    parser.add_argument("--pose", metavar="GLOB", help="4x4 camera-to-world text files")
    parser.add_argument("--intrinsic", nargs="+", metavar="K", help="of the depth camera: a file, or fx fy cx cy")
    parser.add_argument(
        "--color-calibration", type=Path, metavar="JSON", help="register colour to depth (K_color, t_depth_to_color)"
    )
    parser.add_argument("--depth-scale", type=float, metavar="UNITS", help="raw depth units per metre")
    parser.add_argument("--max-depth", type=float, default=defaults.max_depth_m, metavar="METRES")
    parser.add_argument("--image-size", type=int, nargs=2, metavar=("H", "W"), help="resize frames and intrinsics")
    parser.add_argument("--stride", type=int, default=defaults.stride, help="use every so many frames")
    parser.add_argument("--holdout-every", type=int, default=HOLDOUT_EVERY, metavar="K", help="hold out 1 in K frames")
    parser.add_argument("--voxel-size", type=float, default=defaults.voxel_size_m, metavar="METRES")
    parser.add_argument(
        "--min-observations", type=int, default=defaults.min_observations, help="frames that must see a point"
    )
    parser.add_argument(
        "--gravity", nargs="+", default=["auto"], help="auto, none, a file, or the direction x y z in which things fall"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the converter from the command line; 0 on success, 1 after bad input."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    given = _parser().parse_args(arguments)
    try:
        options = SequenceOptions(
            format=given.format,
            color_glob=given.color,
            depth_glob=given.depth,
            pose_glob=given.pose,
            intrinsic=None if given.intrinsic is None else _intrinsic_argument(given.intrinsic),
            color_calibration=given.color_calibration and read_color_calibration(given.color_calibration),
            depth_scale=given.depth_scale,
            max_depth_m=given.max_depth,
            image_size_px=given.image_size and tuple(given.image_size),
            stride=given.stride,
            holdout_every=given.holdout_every,
            voxel_size_m=given.voxel_size,
            min_observations=given.min_observations,
            gravity=_gravity_argument(given.gravity),
        )
        with logging_redirect_tqdm():
            report = convert(
                given.folder, given.output, given.scene, splits=given.split, options=options, overwrite=given.overwrite
            )
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        logger.error("%s", error)
        return 1
    x, y, z = report.extent_m
    logger.info(
        "%s: %d points, %.2f x %.2f x %.2f m, %d frames fused, %d held out, %d skipped; held-out depth within %.1f mm "
        "(median) of the cloud; see %s",
        given.scene,
        report.num_points,
        x,
        y,
        z,
        report.num_fused,
        report.num_held_out,
        report.num_skipped,
        1000 * report.heldout_error_m,
        given.output / "rgbd" / given.scene / "preview.png",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
