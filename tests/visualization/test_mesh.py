import logging
import os

import numpy as np
import pytest
import torch
from plyfile import PlyData
from torch import nn

from pointcept.structures import FeatureVolume, SceneBatch
from pointcept.visualization import extract_surface, scene_surface, voxel_centers, write_mesh

CENTER = np.array([10.3, -4.2, 1.7])
RADIUS = 0.8


def sphere(grid_shape=(24, 30, 20)):
    """The distance to a sphere that is off the origin, on voxels of another edge along every axis."""
    box = np.stack([CENTER - 1.2, CENTER + 1.3])
    origin, spacing = voxel_centers(box, grid_shape)
    axes = [origin[axis] + spacing[axis] * np.arange(grid_shape[axis]) for axis in range(3)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    distance = np.sqrt((x - CENTER[0]) ** 2 + (y - CENTER[1]) ** 2 + (z - CENTER[2]) ** 2) - RADIUS
    return distance.transpose(2, 1, 0).astype(np.float32), origin, spacing


def test_voxel_centers_by_hand():
    # 4 voxels over 2 m: 0.5 m each, the first centre a quarter of a metre inside
    origin, spacing = voxel_centers(np.array([[1.0, 0, -3], [3, 3, -1]]), (4, 3, 1))
    np.testing.assert_allclose(origin, [1.25, 0.5, -2])
    np.testing.assert_allclose(spacing, [0.5, 1, 2])


def test_a_sphere_lies_where_it_is_in_the_world():
    sdf, origin, spacing = sphere()
    vertices, faces, _ = extract_surface(sdf, origin, spacing)
    radius = np.linalg.norm(vertices - CENTER, axis=1)
    assert np.abs(radius - RADIUS).max() < spacing.min() / 10
    np.testing.assert_allclose((vertices.min(0) + vertices.max(0)) / 2, CENTER, atol=0.01)
    area = np.linalg.norm(np.cross(*edges(vertices, faces)), axis=1).sum() / 2
    assert area == pytest.approx(4 * np.pi * RADIUS**2, rel=0.02)


def edges(vertices, faces):
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    return b - a, c - a


def test_normals_and_faces_point_outwards():
    sdf, origin, spacing = sphere()
    vertices, faces, normals = extract_surface(sdf, origin, spacing)
    outwards = (vertices - CENTER) / np.linalg.norm(vertices - CENTER, axis=1, keepdims=True)
    assert (normals * outwards).sum(1).min() > 0.95
    face_normals = np.cross(*edges(vertices, faces))
    assert ((face_normals * outwards[faces[:, 0]]).sum(1) >= -1e-6).all()


def test_one_crossing_by_hand():
    # the distance falls from 0.25 at x = 0 to -0.75 at x = 1 (spacing 1, origin 5): zero at a quarter of the way
    sdf = np.broadcast_to(np.array([0.25, -0.75], np.float32), (2, 2, 2)).copy()
    vertices, _, normals = extract_surface(sdf, np.array([5.0, 0, 0]), np.ones(3))
    np.testing.assert_allclose(vertices[:, 0], 5.25, atol=1e-6)
    np.testing.assert_allclose(normals, np.broadcast_to([-1.0, 0, 0], normals.shape), atol=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_no_surface_is_an_empty_mesh_and_a_warning(sign, caplog, tmp_path):
    sdf = sign * np.linspace(0.5, 1, 27, dtype=np.float32).reshape(3, 3, 3)
    with caplog.at_level(logging.WARNING, logger="pointcept"):
        vertices, faces, normals = extract_surface(sdf, np.zeros(3), np.ones(3))
    assert vertices.shape == faces.shape == normals.shape == (0, 3)
    assert "keeps its sign" in caplog.text
    write_mesh(tmp_path / "empty.ply", vertices, faces)
    assert PlyData.read(tmp_path / "empty.ply")["face"].count == 0


def test_grids_without_a_meaning_are_refused():
    with pytest.raises(ValueError, match=r"at least two samples along every axis: got a grid of \(1, 3, 3\)"):
        extract_surface(np.zeros((1, 3, 3)), np.zeros(3), np.ones(3))
    sdf = np.zeros((2, 2, 2))
    sdf[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="1 of 8 are nan or inf"):
        extract_surface(sdf, np.zeros(3), np.ones(3))


class SphereModel(nn.Module):
    """Offers what a rendering model offers, for a sphere that is red in the east and green in the west."""

    def __init__(self, radius: float) -> None:
        super().__init__()
        self.radius = radius

    def encoder(self, batch: SceneBatch) -> FeatureVolume:
        box = torch.tensor(np.stack([CENTER - 1, CENTER + 1]), dtype=torch.float32)
        return FeatureVolume(torch.zeros(1, 1, 2, 2, 2), box[None])

    def sample_sdf(self, volume, scene_index, voxel_size_m):
        axes = [torch.arange(float(low), float(high), voxel_size_m) for low, high in volume.box[scene_index].T]
        z, y, x = torch.meshgrid(*reversed(axes), indexing="ij")
        center = torch.tensor(CENTER, dtype=torch.float32)
        return (torch.stack((x, y, z), dim=-1) - center).norm(dim=-1) - self.radius, volume.box[scene_index, 0]

    def sample_color(self, volume, scene_index, positions):
        east = (positions[:, 0] > CENTER[0]).float()
        return torch.stack((east, 1 - east, torch.zeros_like(east)), dim=-1)


def test_the_surface_of_a_scene_has_the_models_place_and_colours():
    batch = SceneBatch(torch.zeros(1, dtype=torch.int64), ("sphere",))
    surface, colors = scene_surface(SphereModel(RADIUS), batch, voxel_size_m=0.1, trim_m=None)
    assert np.abs(np.linalg.norm(surface.vertices - CENTER, axis=1) - RADIUS).max() < 0.01
    east = surface.vertices[:, 0] > np.float32(CENTER[0])
    np.testing.assert_array_equal(colors, np.where(east[:, None], (255, 0, 0), (0, 255, 0)))
    assert len(scene_surface(SphereModel(RADIUS), batch, voxel_size_m=0.1)[0].vertices) == 0  # nothing was observed


def test_a_model_without_a_surface_gives_an_empty_one():
    batch = SceneBatch(torch.zeros(1, dtype=torch.int64), ("nothing",))
    surface, colors = scene_surface(SphereModel(-1.0), batch, voxel_size_m=0.5)
    assert surface.faces.shape == colors.shape == (0, 3)


def test_ply_round_trip(tmp_path):
    sdf, origin, spacing = sphere((8, 8, 8))
    vertices, faces, _ = extract_surface(sdf, origin, spacing)
    colors = np.random.default_rng(0).integers(0, 256, vertices.shape, dtype=np.uint8)
    path = tmp_path / "new folder" / "sphere.ply"
    write_mesh(path, vertices, faces, colors)
    data = PlyData.read(path)
    assert (data.text, data.byte_order) == (False, "<")
    vertex = data["vertex"]
    np.testing.assert_array_equal(np.stack([vertex[axis] for axis in "xyz"], 1), vertices)
    np.testing.assert_array_equal(np.stack([vertex[name] for name in ("red", "green", "blue")], 1), colors)
    np.testing.assert_array_equal(np.stack(list(data["face"]["vertex_indices"])), faces)
    assert [entry.name for entry in path.parent.iterdir()] == ["sphere.ply"]


def test_a_failed_write_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "mesh.ply"
    vertices, faces = np.eye(3, dtype=np.float32), np.array([[0, 1, 2]])
    write_mesh(path, vertices, faces)
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="must be writable: No space left"):
        write_mesh(path, 2 * vertices, faces)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["mesh.ply"]


def test_faces_must_name_vertices_that_exist(tmp_path):
    with pytest.raises(ValueError, match="vertices 0 to 2: got 0 to 3"):
        write_mesh(tmp_path / "mesh.ply", np.eye(3, dtype=np.float32), np.array([[0, 1, 3]]))
    with pytest.raises(ValueError, match=r"color must have shape \(3, 3\), one row per point: got \(2, 3\)"):
        write_mesh(
            tmp_path / "mesh.ply", np.eye(3, dtype=np.float32), np.array([[0, 1, 2]]), np.zeros((2, 3), np.uint8)
        )
