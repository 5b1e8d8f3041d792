"""One scene as the datasets and transforms see it: NumPy arrays with declared roles."""

import dataclasses
from typing import Any

import numpy as np

from pointcept.structures.base import require

_FLOAT32_EXTENT_M = 1000.0  # up to which float32 is good to a tenth of a millimetre


@dataclasses.dataclass
class Views:
    """Posed RGB-D frames of one scene; frames may differ in size.

    Attributes:
        image: V arrays (H, W, 3) uint8, RGB.
        depth: V arrays (H, W) float32, z-depth in metres, 0 = missing.
        intrinsic: (V, 3, 3) float64, pixels, the centre of the first pixel at (0, 0).
        extrinsic: (V, 4, 4) float64, camera_from_world (OpenCV axes: x right, y down, z forward).
        segment: V arrays (H, W) int64 of class ids, -1 = ignore; or None.
        name: V frame names, for messages and file names.
        feature: V arrays (C, h, w), a feature map of each whole view by a frozen image network; or None.
    """

    image: list[np.ndarray]
    depth: list[np.ndarray]
    intrinsic: np.ndarray
    extrinsic: np.ndarray
    segment: list[np.ndarray] | None = None
    name: tuple[str, ...] = ()
    feature: list[np.ndarray] | None = None

    def __post_init__(self) -> None:
        count = len(self.image)
        require(
            len(self.depth) == count
            and self.intrinsic.shape == (count, 3, 3)
            and self.extrinsic.shape == (count, 4, 4),
            f"Views need one depth, intrinsic (3, 3) and extrinsic (4, 4) per image: got {count} images, "
            f"{len(self.depth)} depths, intrinsic {self.intrinsic.shape}, extrinsic {self.extrinsic.shape}.",
        )
        for index, (image, depth) in enumerate(zip(self.image, self.depth, strict=True)):
            require(
                image.shape[:2] == depth.shape,
                f"Image and depth of a view must have one size: view {index} has {image.shape[:2]} and "
                f"{depth.shape}. Resize one of them, or register colour to depth, when reading.",
            )
        sizes = [label.shape for label in self.segment or ()]
        require(
            not sizes or sizes == [depth.shape for depth in self.depth],
            f"Labels of a view must have the size of its image: got labels {sizes} for images "
            f"{[depth.shape for depth in self.depth]}. Resize them, nearest neighbour, when reading.",
        )

    def __len__(self) -> int:
        return len(self.image)

    def transformed(self, new_from_world: np.ndarray) -> "Views":
        """The same views after the world was moved by a similarity, so that pixels still line up.

        A similarity of scale s multiplies depth by s; the cameras stay rigid (reflections are allowed).

        Args:
            new_from_world: (4, 4), a rotation or reflection times one positive scale, and a translation.
        Raises:
            ValueError: the matrix scales the axes differently.
        """
        linear = np.asarray(new_from_world, dtype=np.float64)[:3, :3]
        scale = float(np.cbrt(abs(np.linalg.det(linear))))
        require(
            scale > 0 and np.allclose(linear @ linear.T, scale**2 * np.eye(3), atol=1e-6 * scale**2),
            f"Cameras can only follow a similarity (one scale for all axes): got the linear part {linear.tolist()}. "
            "Use isotropic scaling for samples that carry views.",
        )
        extrinsic = self.extrinsic @ np.linalg.inv(new_from_world)
        extrinsic[:, :3, :] *= scale
        depth = self.depth if scale == 1.0 else [(d * scale).astype(np.float32) for d in self.depth]
        return dataclasses.replace(self, extrinsic=extrinsic, depth=depth)


@dataclasses.dataclass
class PointSample:
    """One scene before collation. The role of an array decides its treatment, never its name.

    Attributes:
        coord: (N, 3) float32, metres.
        point: arrays with N rows (``color`` (N, 3) float32 0..255, ``normal`` (N, 3) float32, ``strength`` (N, 1)
            float32, ``grid_coord`` (N, 3) int64, ``segment`` (N,) int64, ``instance`` (N,) int64, ``feat`` (N, C)
            float32, and any other).
        scene: per-scene values, kept as they are (``name``, ``condition``, and any other).
        views: the posed frames, or None.
        input_views: frames that an encoder of images sees while ``views`` are what it has to render; None: ``views``.
        seed: the number that all random choices of this sample, in the model too, derive from.
    """

    coord: np.ndarray
    point: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    scene: dict[str, Any] = dataclasses.field(default_factory=dict)
    views: Views | None = None
    input_views: Views | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require(
            self.coord.ndim == 2 and self.coord.shape[1] == 3,
            f"coord must have shape (N, 3): got {self.coord.shape} in sample {self.name!r}.",
        )
        for key, value in self.point.items():
            require(
                len(value) == len(self.coord),
                f"Point data {key!r} must have one row per point: got {len(value)} rows for {len(self.coord)} points "
                f"in sample {self.name!r}.",
            )

    @property
    def name(self) -> str:
        """Name of the scene, for messages and file names."""
        return str(self.scene.get("name", ""))

    @property
    def num_points(self) -> int:
        """N."""
        return len(self.coord)

    def select(self, index: np.ndarray) -> "PointSample":
        """The points of ``index`` (integer positions or a mask), with all their data, in that order."""
        if index.dtype == bool:
            index = np.flatnonzero(index)
        point = {key: value.take(index, axis=0) for key, value in self.point.items()}
        return dataclasses.replace(self, coord=self.coord.take(index, axis=0), point=point)

    def with_point(self, **arrays: np.ndarray) -> "PointSample":
        """A copy with point data added or replaced."""
        return dataclasses.replace(self, point={**self.point, **arrays})

    def moved(self, new_from_world: np.ndarray) -> "PointSample":
        """The scene after a similarity: points, normals and cameras move together."""
        linear, translation = new_from_world[:3, :3], new_from_world[:3, 3]
        is_small = self.coord.dtype == np.float32 and np.abs(translation).max() < _FLOAT32_EXTENT_M
        dtype = np.float32 if is_small else np.float64
        coord = (_turned(self.coord.astype(dtype, copy=False), linear) + translation.astype(dtype)).astype(
            np.float32, copy=False
        )
        point = dict(self.point)
        if "normal" in point:
            point["normal"] = _turned(point["normal"], linear / np.cbrt(abs(np.linalg.det(linear))))
        views, input_views = (
            None if seen is None else seen.transformed(new_from_world) for seen in (self.views, self.input_views)
        )
        return dataclasses.replace(self, coord=coord, point=point, views=views, input_views=input_views)


def _turned(vectors: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Vectors, one per row, after a linear map; what is nothing or a change of signs costs no product."""
    diagonal = np.diagonal(linear)
    if not np.array_equal(linear, np.diag(diagonal)):
        return vectors @ linear.T.astype(vectors.dtype)
    return vectors if (diagonal == 1).all() else vectors * diagonal.astype(vectors.dtype)
