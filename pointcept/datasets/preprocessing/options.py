"""The choices of a sequence conversion, checked."""

import dataclasses

import numpy as np

from pointcept.datasets.frames import HOLDOUT_EVERY, held_out
from pointcept.datasets.preprocessing.registration import ColorCalibration
from pointcept.datasets.rgbd_layout import MAX_DEPTH


@dataclasses.dataclass(frozen=True)
class SequenceOptions:
    """How to convert an RGB-D sequence.

    Attributes:
        format: ``auto``, ``7scenes``, ``tum``, ``poselist`` or ``generic``.
        color_glob: Pattern of the colour files relative to the folder, for ``generic``.
        depth_glob: Pattern of the depth files, for ``generic``.
        pose_glob: Pattern of the pose files, for ``generic``.
        intrinsic: Intrinsics of the depth camera, (3, 3), pixels; from the folder or the calibration when None.
        color_calibration: How the colour camera sits beside the depth camera; None when colour is aligned to depth.
        depth_scale: Raw depth units per metre; what the format says when None.
        max_depth_m: Larger depths count as missing.
        image_size_px: Height and width of the written frames; those of the depth images when None.
        stride: Of the usable frames, every so many are converted.
        holdout_every: Of so many converted frames the last is held out: not fused, only scored.
        voxel_size_m: Distance of the fused points.
        min_observations: Points seen in fewer frames are left out as noise.
        gravity: Direction in which things fall, (3,), source frame; or ``auto``: from ``gravity-direction.txt`` in the
            folder, or else estimated; or ``none``: the source frame is kept.
    """

    format: str = "auto"
    color_glob: str | None = None
    depth_glob: str | None = None
    pose_glob: str | None = None
    intrinsic: np.ndarray | None = None
    color_calibration: ColorCalibration | None = None
    depth_scale: float | None = None
    max_depth_m: float = 10.0
    image_size_px: tuple[int, int] | None = None
    stride: int = 1
    holdout_every: int = HOLDOUT_EVERY
    voxel_size_m: float = 0.02
    min_observations: int = 2
    gravity: np.ndarray | str = "auto"

    def __post_init__(self) -> None:
        lengths = {"depth_scale": self.depth_scale, "max_depth_m": self.max_depth_m, "voxel_size_m": self.voxel_size_m}
        for name, value in lengths.items():
            if value is not None and not 0 < value < np.inf:
                raise ValueError(f"{name} must be positive and finite: got {value}.")
        if self.max_depth_m > MAX_DEPTH:
            raise ValueError(f"max_depth_m must be at most {MAX_DEPTH}, which 16 bits hold: got {self.max_depth_m}.")
        for name in ("stride", "min_observations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1: got {getattr(self, name)}.")
        if self.image_size_px is not None and min(self.image_size_px) < 1:
            raise ValueError(f"image_size_px must be a positive height and width: got {self.image_size_px}.")
        if isinstance(self.gravity, str) and self.gravity not in ("auto", "none"):
            raise ValueError(f"gravity must be a direction, 'auto' or 'none': got {self.gravity!r}.")
        held_out(0, self.holdout_every)  # raises when the value is too small
