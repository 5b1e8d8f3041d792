"""Surfaces: the zero level of a signed distance grid as a triangle mesh, and meshes on disk."""

import logging
import os
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from skimage.measure import marching_cubes
from torch import nn

from pointcept.structures import FeatureVolume, SceneBatch
from pointcept.visualization.ply import vertex_array, write_ply
from pointcept.visualization.trimming import observed

logger = logging.getLogger("pointcept")


class Surface(NamedTuple):
    """A triangle mesh.

    Attributes:
        vertices: Position, metres, world frame.
        faces: Three vertices per triangle, counter-clockwise seen from outside (where the distance is positive).
        normals: Unit vector per vertex, outwards, world frame.
    """

    vertices: Float[np.ndarray, "_V 3"]
    faces: Int[np.ndarray, "_F 3"]
    normals: Float[np.ndarray, "_V 3"]


def voxel_centers(
    box: Float[np.ndarray, "2 3"], grid_shape: tuple[int, int, int]
) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Where the samples of a grid lie whose voxels fill a box, as in ``FeatureVolume``.

    Args:
        box: Minimum and maximum corner, (x, y, z), metres: the outer faces of the outermost voxels.
        grid_shape: Number of voxels along x, y and z.

    Returns:
        Centre of the first voxel and distance between centres, both (x, y, z) in metres; the arguments of
        ``extract_surface``.
    """
    box = np.asarray(box, dtype=np.float64)
    spacing = (box[1] - box[0]) / np.asarray(grid_shape)
    return box[0] + spacing / 2, spacing


def extract_surface(
    sdf: Float[np.ndarray, "Z Y X"],
    origin: Float[np.ndarray, "3"],
    spacing: Float[np.ndarray, "3"],
) -> Surface:
    """The surface where a sampled signed distance is zero, by marching cubes.

    A grid without a change of sign has no surface: the result is empty, and a warning says so.

    Args:
        sdf: Signed distance at the samples, metres, positive outside.
        origin: Position of sample [0, 0, 0], (x, y, z), metres, world frame.
        spacing: Distance between samples along x, y and z, metres.
    Raises:
        ValueError: the grid has fewer than two samples along an axis, or values that are not finite.
    Source: Lewiner et al., Efficient Implementation of Marching Cubes' Cases with Topological Guarantees, 2003;
        computed by scikit-image.
    """
    if min(sdf.shape) < 2:
        raise ValueError(f"A surface needs at least two samples along every axis: got a grid of {sdf.shape}.")
    wrong = int((~np.isfinite(sdf)).sum())
    if wrong:
        raise ValueError(
            f"Signed distances must be finite: {wrong} of {sdf.size} are nan or inf. Check the weights of the field."
        )
    lowest, highest = float(sdf.min()), float(sdf.max())
    if not lowest < 0 < highest:
        logger.warning(
            "No surface: the signed distance keeps its sign over the whole grid (%.3g to %.3g m).", lowest, highest
        )
        return Surface(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32), np.zeros((0, 3), np.float32))
    vertices, faces, _, _ = marching_cubes(
        sdf.transpose(2, 1, 0), level=0.0, spacing=tuple(spacing), gradient_direction="descent"
    )
    return Surface((vertices + np.asarray(origin)).astype(np.float32), faces, _vertex_normals(vertices, faces))


def keep_vertices(surface: Surface, keep: Bool[np.ndarray, "_V"]) -> Surface:
    """The surface without some vertices, and without the triangles that have one of these."""
    faces = surface.faces[keep[surface.faces].all(axis=1)]
    used = np.zeros(len(keep), dtype=bool)
    used[faces] = True
    number = np.cumsum(used) - 1
    return Surface(surface.vertices[used], number[faces].astype(surface.faces.dtype), surface.normals[used])


@torch.no_grad()
def scene_surface(
    model: nn.Module,
    batch: SceneBatch,
    scene_index: int = 0,
    *,
    voxel_size_m: float = 0.05,
    trim_m: float | None = 0.15,
) -> tuple[Surface, UInt8[np.ndarray, "_V 3"]]:
    """The coloured surface of one scene, as a model that renders signed distances believes it to be.

    Args:
        model: In evaluation mode; has ``encoder``, ``sample_sdf`` and ``sample_color``, as ``Ponder`` has.
        batch: Holds the scene.
        scene_index: Which scene of the batch.
        voxel_size_m: Distance between the samples of the signed distance, metres.
        trim_m: Cut away what is neither seen in a view of the scene, nor closer than this (metres) behind what a view
            measured or to a point of the cloud: there the surface is a guess. None keeps everything.

    Returns:
        The surface, empty where the signed distance keeps its sign or nothing was observed, and the colour of each
        vertex.
    """
    return volume_surface(model, model.encoder(batch), batch, scene_index, voxel_size_m=voxel_size_m, trim_m=trim_m)


@torch.no_grad()
def volume_surface(
    model: nn.Module,
    volume: FeatureVolume,
    batch: SceneBatch,
    scene_index: int = 0,
    *,
    voxel_size_m: float = 0.05,
    trim_m: float | None = 0.15,
) -> tuple[Surface, UInt8[np.ndarray, "_V 3"]]:
    """As ``scene_surface``, from the volume that the model's encoder made of the batch."""
    sdf, origin = model.sample_sdf(volume, scene_index, voxel_size_m)
    surface = extract_surface(
        sdf.float().cpu().numpy(), origin.double().cpu().numpy(), np.full(3, voxel_size_m, dtype=np.float64)
    )
    if trim_m is not None:
        surface = keep_vertices(surface, observed(surface.vertices, batch, scene_index, margin_m=trim_m))
    if len(surface.vertices) == 0:
        return surface, np.zeros((0, 3), np.uint8)
    color = model.sample_color(volume, scene_index, torch.from_numpy(surface.vertices).to(volume.box))
    return surface, (color.clamp(0, 1) * 255).round().byte().cpu().numpy()


def write_mesh(
    path: str | os.PathLike,
    vertices: Float[np.ndarray, "_V 3"],
    faces: Int[np.ndarray, "_F 3"],
    colors: UInt8[np.ndarray, "_V 3"] | None = None,
) -> None:
    """Write a triangle mesh as a binary PLY file; an interrupted run leaves the old file whole.

    Args:
        path: Where to write; folders are made as needed.
        vertices: Position, metres.
        faces: Three vertices per triangle.
        colors: Colour of each vertex; or None.
    Raises:
        ValueError: a shape is wrong, or a face names a vertex that does not exist.
    """
    if faces.size and not (0 <= faces.min() and faces.max() < len(vertices)):
        raise ValueError(
            f"Faces must name vertices 0 to {len(vertices) - 1}: got {int(faces.min())} to {int(faces.max())}."
        )
    triangles = np.empty(len(faces), dtype=[("vertex_indices", np.int32, (3,))])
    triangles["vertex_indices"] = faces
    write_ply(path, {"vertex": vertex_array(vertices, colors), "face": triangles})


def _vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Mean of the normals of the faces at each vertex, weighted by area."""
    first, second, third = (vertices[faces[:, corner]] for corner in range(3))
    face_normals = np.cross(second - first, third - first)
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], face_normals)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), np.finfo(np.float32).tiny)
