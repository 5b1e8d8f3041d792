"""Indoor RGB-D scenes: the cloud of a room together with some of the posed frames it was scanned with."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int64, UInt8

from pointcept.datasets.base import SceneDataset
from pointcept.datasets.frame_files import (
    color_box,
    crop_resize,
    read_color,
    read_depth,
    read_extrinsic,
    read_intrinsic,
    read_label,
    resize_nearest,
    resized_intrinsic,
)
from pointcept.datasets.frames import HOLDOUT_EVERY, VIEW_SPLITS, SceneFrames, held_out, read_skip_list
from pointcept.datasets.labels import scannet20_from_nyu40
from pointcept.datasets.transforms.compose import Transform
from pointcept.registry import DATASETS
from pointcept.structures import PointSample, Views

Frame = tuple[str, Float[np.ndarray, "4 4"]]
"""Name and world_from_camera."""

_ALL_FRAMES = 2**31
_MAX_BASELINE_M = 0.005
_MAX_TURN_RAD = 0.01
_MAX_STRETCH = 1.05  # ScanNet's colour images are not quite of the shape of its depth images


@dataclasses.dataclass(frozen=True)
class _Calibration:
    """Intrinsics of a scene's depth images, and of its colour images where they are known."""

    depth: Float[np.ndarray, "3 3"]
    color: Float[np.ndarray, "3 3"] | None


@DATASETS.register("ScanNetRGBDDataset")
class RGBDSceneDataset(SceneDataset):
    """Point clouds of rooms with posed RGB-D frames, in ScanNet's layout.

    ``<data_root>/<split>/<scene>/*.npy`` holds the cloud and ``<rgbd_root>/<scene>/`` the frames: ``color/<i>.jpg`` (or
    png), ``depth/<i>.png`` (16 bit, 0 = missing), ``pose/<i>.txt`` (camera-to-world), optionally ``label/<i>.png``
    (NYU40 ids), and ``intrinsic/intrinsic_depth.txt``. Colour of another size than depth, or seen with other
    intrinsics, is resampled to depth by ``intrinsic/intrinsic_color.txt``; the two must share their eye point. An item
    has one view per chosen frame: drawn at random without replacement by the item's seed, or, of held-out frames,
    always the same ones, evenly spread. Scenes with fewer frames give fewer views.

    With ``num_input_views`` an item also has views for an encoder of images, other ones than those to render: where
    held-out frames are rendered, evenly spread ones of all others; otherwise drawn together with the rendered ones. A
    scene with too few frames for both shares them out.

    Frames without colour, depth or a usable pose are skipped with one warning per scene. Frames that
    ``<data_root>/skip.lst`` names (lines of ``scene frame``) are left out.

    Args:
        split: Folder of ``data_root`` that holds one folder per scene, or a JSON file in it that lists scene folders
            relative to ``data_root``; or several of these.
        data_root: Folder of the data set.
        rgbd_root: Folder of the frames; ``data_root/rgbd`` by default.
        transform: Applied in this order.
        num_views: Frames per item; 0 gives clouds alone.
        num_input_views: Frames per item that an encoder of images sees; 0: it sees the ``num_views``.
        view_split: ``"train"``: all but the held-out frames; ``"heldout"``: only those; ``"all"``: both.
        holdout_every: Of every so many frames of a scene the last is held out.
        frame_interval: Of the frames of ``view_split``, every so many are used.
        image_size: Height and width of the views; the depth image's by default.
        depth_scale: Metres per unit of the depth files.
        max_depth_m: Depths beyond it count as missing; None keeps all.
        segment_key: File of the points' class ids, without ``.npy``; None reads no labels, of views neither.
        condition: Name of the data set, for prompt-driven norms.
        loop: How often an epoch passes over the scenes.
        labelled_points: As of :class:`SceneDataset`.
        fraction: As of :class:`SceneDataset`.

    Raises:
        FileNotFoundError: a split, the folder of the frames, or that of a scene does not exist.
        ValueError: a split is empty, or an argument is out of range.
    """

    def __init__(
        self,
        *,
        split: str | Sequence[str],
        data_root: str | Path,
        rgbd_root: str | Path | None = None,
        transform: Sequence[Transform] = (),
        num_views: int = 5,
        num_input_views: int = 0,
        view_split: Literal["train", "heldout", "all"] = "train",
        holdout_every: int = HOLDOUT_EVERY,
        frame_interval: int = 1,
        image_size: Sequence[int] | None = None,
        depth_scale: float = 0.001,
        max_depth_m: float | int | None = None,
        segment_key: str | None = "segment20",
        condition: str = "ScanNet",
        loop: int = 1,
        labelled_points: str | Path | None = None,
        fraction: float | int = 1.0,
    ) -> None:
        super().__init__(
            split=split,
            data_root=data_root,
            transform=transform,
            segment_key=segment_key,
            condition=condition,
            loop=loop,
            labelled_points=labelled_points,
            fraction=fraction,
        )
        held_out(0, holdout_every)
        if view_split not in VIEW_SPLITS:
            raise ValueError(f"view_split must be one of {', '.join(VIEW_SPLITS)}: got {view_split!r}.")
        if num_views < 0 or frame_interval < 1:
            raise ValueError(
                f"num_views must not be negative and frame_interval at least 1: got {num_views} and {frame_interval}."
            )
        if num_input_views < 0 or (num_input_views > 0 and num_views == 0):
            raise ValueError(
                f"num_input_views must not be negative, and 0 without num_views: got {num_input_views} and {num_views}."
            )
        if image_size is not None and (len(image_size) != 2 or min(image_size) < 1):
            raise ValueError(f"image_size must be (height, width) in pixels: got {image_size}.")
        if depth_scale <= 0 or (max_depth_m is not None and max_depth_m <= 0):
            raise ValueError(f"depth_scale and max_depth_m must be positive: got {depth_scale} and {max_depth_m}.")
        self.rgbd_root = self.data_root / "rgbd" if rgbd_root is None else Path(rgbd_root).expanduser()
        self.num_views = num_views
        self.num_input_views = num_input_views
        self.view_split = view_split
        self.holdout_every = holdout_every
        self.frame_interval = frame_interval
        self.image_size = None if image_size is None else (int(image_size[0]), int(image_size[1]))
        self.depth_scale = depth_scale
        self.max_depth_m = max_depth_m
        if num_views > 0:
            self._require_frames()
        self._skip = read_skip_list(self.data_root / "skip.lst")
        self._frames: dict[tuple[str, str], SceneFrames] = {}

    def read(self, scene: Path, rng: np.random.Generator) -> PointSample:
        """The cloud and the chosen views of one scene; ``rng`` chooses the views, unless they are held out."""
        sample = super().read(scene, rng)
        if self.num_views == 0:
            return sample
        chosen, inputs = self._choose(scene.name, rng)
        folder = self.rgbd_root / scene.name
        return dataclasses.replace(
            sample,
            views=self._read_views(folder, chosen),
            input_views=self._read_views(folder, inputs) if inputs else None,
        )

    def read_frames(self, scene: Path, *, num_views: int) -> Iterator[Views]:
        """All frames of a scene that an item may have, ``num_views`` at a time, in the order of their numbers."""
        splits = ["heldout", "train"] if self.view_split == "heldout" and self.num_input_views else [self.view_split]
        for view_split in splits:
            frames = self._scene_frames(scene.name, view_split).spread(_ALL_FRAMES)
            for start in range(0, len(frames), num_views):
                yield self._read_views(self.rgbd_root / scene.name, frames[start : start + num_views])

    def _choose(self, scene: str, rng: np.random.Generator) -> tuple[list[Frame], list[Frame]]:
        """Frames to render, and frames to encode where there are such."""
        frames = self._scene_frames(scene, self.view_split)
        if self.view_split == "heldout":
            others = self._scene_frames(scene, "train").spread(self.num_input_views) if self.num_input_views else []
            return frames.spread(self.num_views), others
        drawn = frames.draw(self.num_views + self.num_input_views, rng)
        if not self.num_input_views:
            return drawn, []
        if len(drawn) < 2:
            raise ValueError(
                f"num_input_views needs scenes with at least 2 usable frames: {scene!r} has {len(drawn)} of view_split "
                f"{self.view_split!r}. Set num_input_views=0, or leave the scene out with a JSON list as split."
            )
        share = self.num_views / (self.num_views + self.num_input_views)
        count = min(max(1, round(len(drawn) * share)), len(drawn) - 1)
        return drawn[:count], drawn[count:]

    def _require_frames(self) -> None:
        if not self.rgbd_root.is_dir():
            raise FileNotFoundError(
                f"rgbd_root must hold the frames, one folder per scene: {self.rgbd_root} does not exist. Export the "
                "frames there, or set rgbd_root."
            )
        absent = [scene.name for scene in self.scenes if not (self.rgbd_root / scene.name).is_dir()]
        if absent:
            raise FileNotFoundError(
                f"Every scene must have a folder of frames in {self.rgbd_root}: {len(absent)} of {len(self.scenes)} "
                f"have none, first {absent[0]!r}. Export their frames, or list the scenes to use in a JSON file and "
                "name that as split."
            )

    def _scene_frames(self, scene: str, view_split: str) -> SceneFrames:
        if (scene, view_split) not in self._frames:
            self._frames[scene, view_split] = SceneFrames(
                self.rgbd_root / scene,
                view_split=view_split,
                holdout_every=self.holdout_every,
                frame_interval=self.frame_interval,
                skip=self._skip.get(scene, ()),
            )
        return self._frames[scene, view_split]

    def _read_views(self, folder: Path, frames: Sequence[Frame]) -> Views:
        calibration = _read_calibration(folder / "intrinsic")
        has_labels = self.segment_key is not None and (folder / "label").is_dir()
        images, depths, intrinsics, segments = [], [], [], []
        for stem, _ in frames:
            depth = read_depth(
                folder / "depth" / f"{stem}.png", depth_scale=self.depth_scale, max_depth_m=self.max_depth_m
            )
            size = self.image_size or depth.shape
            images.append(_read_registered_color(folder, stem, depth.shape, size, calibration))
            depths.append(resize_nearest(depth, size))
            intrinsics.append(resized_intrinsic(_checked(calibration.depth, depth.shape, folder), depth.shape, size))
            if has_labels:
                segments.append(_read_segment(folder / "label" / f"{stem}.png", depth.shape, size))
        return Views(
            image=images,
            depth=depths,
            intrinsic=np.stack(intrinsics),
            extrinsic=np.linalg.inv(np.stack([pose for _, pose in frames])),
            segment=segments if has_labels else None,
            name=tuple(stem for stem, _ in frames),
        )


def _read_calibration(folder: Path) -> _Calibration:
    depth = read_intrinsic(folder / "intrinsic_depth.txt")
    if not (folder / "intrinsic_color.txt").is_file():
        return _Calibration(depth, None)
    color_from_depth = np.linalg.inv(read_extrinsic(folder / "extrinsic_color.txt")) @ read_extrinsic(
        folder / "extrinsic_depth.txt"
    )
    shift = float(np.linalg.norm(color_from_depth[:3, 3]))
    turn = float(np.abs(color_from_depth[:3, :3] - np.eye(3)).max())
    if shift > _MAX_BASELINE_M or turn > _MAX_TURN_RAD:
        raise ValueError(
            f"Colour and depth must be seen from one eye point: the extrinsics in {folder} are {shift * 1000:.1f} mm "
            f"and {turn:.3f} rad apart. Register colour to depth with the sequence converter."
        )
    return _Calibration(depth, read_intrinsic(folder / "intrinsic_color.txt"))


def _read_registered_color(
    folder: Path, stem: str, depth_size: tuple[int, int], size: tuple[int, int], calibration: _Calibration
) -> UInt8[np.ndarray, "_H _W 3"]:
    image = read_color(folder / "color", stem)
    color_size = (image.height, image.width)
    if calibration.color is None:
        if color_size != depth_size:
            raise ValueError(
                f"Colour and depth of different size need a calibration: frame {stem} of {folder} has colour "
                f"{color_size} and depth {depth_size} (height, width), and intrinsic/intrinsic_color.txt does not "
                "exist. Add it, or register colour to depth with the sequence converter."
            )
        return crop_resize(image, None, size)
    try:
        box = color_box(color_size, depth_size, calibration.color, calibration.depth)
    except ValueError as error:
        raise ValueError(
            f"{error} Frame {stem} of {folder}: correct intrinsic/intrinsic_color.txt and intrinsic_depth.txt for the "
            "sizes of the images, or register colour to depth with the sequence converter."
        ) from None
    return crop_resize(image, box, size)


def _checked(intrinsic: Float[np.ndarray, "3 3"], size: tuple[int, int], folder: Path) -> Float[np.ndarray, "3 3"]:
    if not (0 <= intrinsic[0, 2] < size[1] and 0 <= intrinsic[1, 2] < size[0]):
        raise ValueError(
            f"The principal point must lie in the depth image: {folder}/intrinsic/intrinsic_depth.txt has "
            f"({intrinsic[0, 2]:.1f}, {intrinsic[1, 2]:.1f}) for images of width {size[1]} and height {size[0]}. "
            "Scale the intrinsics with the images."
        )
    return intrinsic


def _read_segment(path: Path, depth_size: tuple[int, int], size: tuple[int, int]) -> Int64[np.ndarray, "_H _W"]:
    """Class of each pixel; a frame without a label file has none (-1) anywhere."""
    if not path.is_file():
        return np.full(size, -1, dtype=np.int64)
    ids = read_label(path)
    if ids.min() < 0 or ids.max() > 40:
        raise ValueError(
            f"Labels must be NYU40 ids 0..40: {path} has {ids.min()}..{ids.max()}. Map them when exporting."
        )
    stretch = (ids.shape[1] / ids.shape[0]) / (depth_size[1] / depth_size[0])
    if not 1 / _MAX_STRETCH < stretch < _MAX_STRETCH:
        raise ValueError(
            f"Labels may have another size than depth, but not another shape: {path} has {ids.shape} (height, width) "
            f"for depth of {tuple(depth_size)}. Export the labels for the depth images."
        )
    return scannet20_from_nyu40(resize_nearest(ids, size).astype(np.uint8))
