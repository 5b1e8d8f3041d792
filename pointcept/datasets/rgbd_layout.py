"""Writes scenes in the standard indoor RGB-D layout, so that a scene is on disk whole or not at all.

The layout: ``<root>/<split>/<scene>/*.npy`` for the cloud and ``<root>/rgbd/<scene>/`` with ``color/<i>.jpg``,
``depth/<i>.png``, ``pose/<i>.txt``, ``label/<i>.png``, ``intrinsic/*.txt`` and ``scene.json`` for the frames.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer, UInt8
from PIL import Image

SPLITS: tuple[str, ...] = ("train", "val", "test")
MAX_DEPTH = 65.535
"""Largest depth that a 16-bit image in millimetres holds, metres."""


@contextlib.contextmanager
def new_scene(root: Path, split: str, scene: str, *, overwrite: bool = False) -> Iterator[Path]:
    """A staging root for one scene; what was written there moves into ``root`` when the block ends without an error.

    Pass the staging root as ``root`` to the ``write_*`` functions. The frames move first and the cloud's folder last,
    so a scene that a split lists is complete; after an error or a kill the split does not list it.

    Args:
        root: Root of the data set; made when absent.
        split: One of ``SPLITS``.
        scene: Name of the scene.
        overwrite: Replace a scene that exists.

    Yields:
        The staging root, inside ``root``.

    Raises:
        ValueError: unknown split, or a name that is no folder name.
        FileExistsError: the scene exists and ``overwrite`` is false.
    """
    root = Path(root)
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}: got {split!r}. Use one of these names.")
    if not scene or Path(scene).name != scene or scene.startswith("."):
        raise ValueError(
            f"A scene's name must be a plain folder name: got {scene!r}. Leave out slashes and leading dots."
        )
    cloud = root / split / scene
    frames = root / "rgbd" / scene
    if cloud.exists() and not overwrite:
        raise FileExistsError(
            f"A new scene must not exist yet: found {cloud}. Remove it, choose another name, or pass overwrite=True."
        )
    root.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{scene}.", dir=root))
    try:
        yield staging
        staged_cloud = staging / split / scene
        staged_frames = staging / "rgbd" / scene
        if not staged_cloud.is_dir():
            raise ValueError(
                f"A scene needs a cloud before it is finished: nothing was written for {split}/{scene}. "
                "Call write_scene with the staging root, this split and this name."
            )
        cloud.parent.mkdir(parents=True, exist_ok=True)
        frames.parent.mkdir(parents=True, exist_ok=True)
        if cloud.exists():  # unlisted first, so that old cloud and new frames are never seen together
            os.rename(cloud, staging / "old_cloud")
        if frames.exists():  # of the scene that is replaced, or left by a process that was killed between the moves
            os.rename(frames, staging / "old_frames")
        if staged_frames.is_dir():
            os.rename(staged_frames, frames)
        os.rename(staged_cloud, cloud)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_scene(
    root: Path,
    split: str,
    scene: str,
    *,
    coord: Float[np.ndarray, "_N 3"],
    color: UInt8[np.ndarray, "_N 3"],
    normal: Float[np.ndarray, "_N 3"],
    segment20: Integer[np.ndarray, "_N"] | None = None,
    segment200: Integer[np.ndarray, "_N"] | None = None,
    instance: Integer[np.ndarray, "_N"] | None = None,
) -> None:
    """Write the cloud of one scene to ``<root>/<split>/<scene>``.

    Args:
        root: Root of the data set, or the staging root of ``new_scene``.
        split: One of ``SPLITS``.
        scene: Name of the scene.
        coord: Position, metres, z up.
        color: RGB, 0..255.
        normal: Unit vectors.
        segment20: ScanNet-20 class, -1 = ignore; not written when None.
        segment200: ScanNet-200 class, -1 = ignore; not written when None.
        instance: Object id, -1 = none; not written when None.

    Raises:
        ValueError: the arrays differ in length, or positions or normals are not finite.
    """
    arrays = {"coord": coord, "color": color, "normal": normal}
    optional = {"segment20": segment20, "segment200": segment200, "instance": instance}
    arrays.update({name: value for name, value in optional.items() if value is not None})
    for name, value in arrays.items():
        if len(value) != len(coord):
            raise ValueError(
                f"The arrays of a cloud must have one row per point: {name} has {len(value)} rows, coord "
                f"{len(coord)}, in scene {scene!r}. Index all of them alike."
            )
    for name in ("coord", "normal"):
        finite = np.isfinite(arrays[name]).all(axis=1)
        if not finite.all():
            raise ValueError(
                f"{name} of scene {scene!r} must be finite: {np.count_nonzero(~finite)} of {len(finite)} rows are "
                "not. Drop these points first."
            )
    folder = Path(root) / split / scene
    folder.mkdir(parents=True, exist_ok=True)
    dtypes = {"coord": np.float32, "color": np.uint8, "normal": np.float32}
    for name, value in arrays.items():
        np.save(folder / f"{name}.npy", np.ascontiguousarray(value, dtype=dtypes.get(name, np.int64)))


def write_frame(
    root: Path,
    scene: str,
    frame_id: int,
    *,
    color: UInt8[np.ndarray, "_H _W 3"],
    depth: Float[np.ndarray, "_h _w"],
    camera_to_world: Float[np.ndarray, "4 4"],
    label: UInt8[np.ndarray, "_H _W"] | None = None,
) -> None:
    """Write one posed frame to ``<root>/rgbd/<scene>``.

    Args:
        root: Root of the data set, or the staging root of ``new_scene``.
        scene: Name of the scene.
        frame_id: Number of the frame; the files are named by it.
        color: RGB.
        depth: z-depth, metres, 0 = missing; stored in whole millimetres. May differ from the colour in size.
        camera_to_world: Rigid, OpenCV axes (x right, y down, z forward), metres.
        label: NYU40 id of each colour pixel, 0 = unlabelled.

    Raises:
        ValueError: depth outside 0..65.535 m or not finite, a pose that is not rigid, a label of another size.
    """
    if not np.isfinite(depth).all() or depth.min(initial=0.0) < 0 or depth.max(initial=0.0) > MAX_DEPTH:
        raise ValueError(
            f"Depth of frame {frame_id} of scene {scene!r} must be finite and within 0..{MAX_DEPTH} m: got "
            f"{depth.min()}..{depth.max()}. Give metres, and set missing pixels to 0."
        )
    rotation = camera_to_world[:3, :3]
    is_rigid = np.isfinite(camera_to_world).all() and np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3)
    if not is_rigid or not np.allclose(camera_to_world[3], (0, 0, 0, 1)) or np.linalg.det(rotation) < 0:
        raise ValueError(
            f"The pose of frame {frame_id} of scene {scene!r} must be a finite rigid motion: got "
            f"{camera_to_world.tolist()}. Leave frames without a usable pose out."
        )
    if label is not None and label.shape != color.shape[:2]:
        raise ValueError(
            f"The label of frame {frame_id} of scene {scene!r} must have the size of its colour: got {label.shape} "
            f"and {color.shape[:2]}. Resize it (nearest)."
        )
    folder = Path(root) / "rgbd" / scene
    for name in ("color", "depth", "pose", *(() if label is None else ("label",))):
        (folder / name).mkdir(parents=True, exist_ok=True)
    Image.fromarray(color).save(folder / "color" / f"{frame_id}.jpg", quality=95, subsampling=0)
    millimetres = np.rint(depth.astype(np.float64) * 1000).astype(np.uint16)
    Image.fromarray(millimetres).save(folder / "depth" / f"{frame_id}.png")
    np.savetxt(folder / "pose" / f"{frame_id}.txt", camera_to_world, fmt="%.9g")
    if label is not None:
        Image.fromarray(label).save(folder / "label" / f"{frame_id}.png")


def write_intrinsics(
    root: Path,
    scene: str,
    intrinsic: Float[np.ndarray, "3 3"],
    size: tuple[int, int],
    *,
    color_intrinsic: Float[np.ndarray, "3 3"] | None = None,
) -> None:
    """Write the calibration of a scene's frames to ``<root>/rgbd/<scene>/intrinsic``.

    Args:
        root: Root of the data set, or the staging root of ``new_scene``.
        scene: Name of the scene.
        intrinsic: Of the depth images, pixels, the centre of the first pixel at (0, 0).
        size: Height and width of the depth images, pixels.
        color_intrinsic: Of the colour images; by default the same as for depth.

    Raises:
        ValueError: not positive focal lengths, or a principal point outside the image.
    """
    height, width = size
    focal_x, focal_y, center_x, center_y = (float(intrinsic[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    if not (focal_x > 0 and focal_y > 0 and 0 <= center_x < width and 0 <= center_y < height):
        raise ValueError(
            f"The intrinsic of scene {scene!r} must have positive focal lengths and a principal point inside the "
            f"{height} x {width} (height x width) image: got {intrinsic.tolist()}. Scale it with the images."
        )
    folder = Path(root) / "rgbd" / scene / "intrinsic"
    folder.mkdir(parents=True, exist_ok=True)
    for name, matrix in (("depth", intrinsic), ("color", intrinsic if color_intrinsic is None else color_intrinsic)):
        homogeneous = np.eye(4)
        homogeneous[:3, :3] = matrix
        np.savetxt(folder / f"intrinsic_{name}.txt", homogeneous, fmt="%.9g")


def write_scene_json(root: Path, scene: str, **facts: Any) -> None:
    """Write what else is known of a scene (``holdout_every`` for one) to ``<root>/rgbd/<scene>/scene.json``."""
    folder = Path(root) / "rgbd" / scene
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scene.json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n", encoding="utf-8")
