"""Frames of a sequence as they are written: colour in the depth frame, resized, upright."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, UInt8

from pointcept.datasets.preprocessing.formats import FrameSource, RgbdSequence
from pointcept.datasets.preprocessing.fusion import depth_normals
from pointcept.datasets.preprocessing.images import (
    read_color,
    read_depth,
    resize_color,
    resize_depth,
    resize_intrinsic,
)
from pointcept.datasets.preprocessing.options import SequenceOptions
from pointcept.datasets.preprocessing.poses import read_intrinsic
from pointcept.datasets.preprocessing.registration import register_color


@dataclasses.dataclass(frozen=True)
class Frame:
    """One posed frame.

    Attributes:
        color: RGB, aligned to depth.
        depth: z-depth, metres, 0 = missing.
        camera_to_world: Pose, metres.
        measured: Where colour was measured on the surface that depth measured, not guessed.
    """

    color: UInt8[np.ndarray, "H W 3"]
    depth: Float[np.ndarray, "H W"]
    camera_to_world: Float[np.ndarray, "4 4"]
    measured: Bool[np.ndarray, "H W"]


class FrameReader:
    """Reads the frames of a sequence; all of them share size and intrinsics."""

    def __init__(self, sequence: RgbdSequence, options: SequenceOptions) -> None:
        """Read the size from the first frame.

        Args:
            sequence: With at least one frame.
            options: How to convert.

        Raises:
            ValueError: the intrinsics are unknown or contradictory, or the first depth image is unreadable.
        """
        self._options = options
        self._units_per_metre = options.depth_scale or sequence.depth_units_per_metre
        self._source_intrinsic = _depth_intrinsic(sequence, options)
        self._source_size: tuple[int, int] | None = None
        self._source_size = self._read_depth(sequence.frames[0]).shape
        self.size_px = options.image_size_px or self._source_size
        self.intrinsic = resize_intrinsic(self._source_intrinsic, self._source_size, self.size_px)

    def read(self, source: FrameSource, world_from_source: Float[np.ndarray, "4 4"]) -> Frame:
        """One frame, with its pose moved by ``world_from_source``.

        Raises:
            FileNotFoundError: an image is missing.
            ValueError: an image is unreadable or of another size, or colour cannot be aligned to depth.
        """
        color, depth = read_color(source.color), self._read_depth(source)
        if self._options.color_calibration is not None:
            color, measured = register_color(color, depth, self._source_intrinsic, self._options.color_calibration)
        elif color.shape[:2] == depth.shape:
            measured = depth > 0
        else:
            raise ValueError(
                f"Without a calibration, colour and depth must have one size: {source.color} has {color.shape[:2]}, "
                f"{source.depth} {depth.shape} (height, width). Pass --color-calibration with K_color, K_depth and "
                "t_depth_to_color (zeros, and K_depth scaled to the colour size as K_color, if only the resolution "
                "differs)."
            )
        if self.size_px != depth.shape:
            # A resized pixel counts as measured when every pixel that it is made from is.
            share = np.repeat(np.where(measured, 255, 0).astype(np.uint8)[..., None], 3, axis=-1)
            measured = resize_color(share, self.size_px)[..., 0] == 255
            color, depth = resize_color(color, self.size_px), resize_depth(depth, self.size_px)
        return Frame(color, depth, world_from_source @ source.camera_to_world, measured)

    def normals(self, source: FrameSource) -> Float[np.ndarray, "N 3"]:
        """Surface normals of one frame, source world frame."""
        normal, valid = depth_normals(self._read_depth(source), self._source_intrinsic)
        return normal[valid] @ source.camera_to_world[:3, :3].T

    def _read_depth(self, source: FrameSource) -> np.ndarray:
        depth = read_depth(source.depth, units_per_metre=self._units_per_metre, max_depth_m=self._options.max_depth_m)
        if self._source_size not in (None, depth.shape):
            raise ValueError(
                f"The depth images of a sequence must have one size, as they share intrinsics: {source.depth} has "
                f"{depth.shape}, the first one {self._source_size}. Convert them as separate scenes."
            )
        return depth


def _depth_intrinsic(sequence: RgbdSequence, options: SequenceOptions) -> np.ndarray:
    if options.intrinsic is not None:
        return options.intrinsic
    calibration = options.color_calibration
    calibrated = None if calibration is None else calibration.depth_intrinsic
    if sequence.intrinsic_file is None:
        if calibrated is None:
            raise ValueError(
                "The intrinsics of the depth camera must be known: the folder has no file of them. Pass --intrinsic "
                "with a file or 'fx fy cx cy'."
            )
        return calibrated
    intrinsic = read_intrinsic(sequence.intrinsic_file)
    if calibrated is not None and not np.allclose(intrinsic, calibrated, atol=0.5):
        raise ValueError(
            f"The intrinsics of the depth camera must be one set: {sequence.intrinsic_file} has {intrinsic.tolist()}, "
            f"K_depth of the calibration {calibrated.tolist()}. Pass the right ones with --intrinsic."
        )
    return intrinsic
