"""Clouds of a user's own: every format gives the same points, and what is wrong with a file is said."""

import numpy as np
import pytest
from plyfile import PlyData, PlyElement

from pointcept.datasets.cloud_files import read_cloud_file
from pointcept.datasets.normals import estimate_normals

COORD = np.array([[0.5, 1.0, 2.0], [1.5, -1.0, 0.25], [3.0, 0.0, 1.0]], dtype=np.float32)
COLOR = np.array([[255, 0, 10], [1, 2, 3], [100, 150, 200]], dtype=np.float32)
LABEL = np.array([2, 0, 1])


def matrix() -> np.ndarray:
    return np.concatenate([COORD, COLOR, LABEL[:, None]], axis=1)


def ply(path, **columns: np.ndarray) -> None:
    vertices = np.empty(3, dtype=[(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        vertices[name] = values
    PlyData([PlyElement.describe(vertices, "vertex")]).write(path)


def write_all(folder) -> list:
    position = dict(zip("xyz", COORD.T))
    color = dict(zip(("red", "green", "blue"), COLOR.T.astype(np.uint8)))
    ply(folder / "bytes.ply", **position, **color, label=LABEL.astype(np.int32))
    ply(
        folder / "floats.ply",
        **position,
        r=COLOR[:, 0] / 255,
        g=COLOR[:, 1] / 255,
        b=COLOR[:, 2] / 255,
        segment=LABEL.astype(np.uint8),
    )
    np.save(folder / "matrix.npy", matrix())
    np.savez(folder / "arrays.npz", coord=COORD, color=COLOR, segment=LABEL, unrelated=np.float64(3))
    np.savetxt(folder / "blanks.txt", matrix(), header="x y z r g b label")
    np.savetxt(folder / "commas.csv", matrix(), delimiter=",", comments="//", header="x,y,z,r,g,b,label")
    scene = folder / "scene"
    scene.mkdir()
    for name, array in {"coord": COORD, "color": COLOR, "segment20": LABEL}.items():
        np.save(scene / f"{name}.npy", array)
    return sorted(folder.iterdir())


def test_every_format_gives_the_same_cloud(tmp_path):
    paths = write_all(tmp_path)
    assert len(paths) == 7
    for path in paths:
        sample = read_cloud_file(path)
        assert sample.name == path.stem and set(sample.point) == {"color", "segment"}, path
        np.testing.assert_allclose(sample.coord, COORD, rtol=1e-6, err_msg=str(path))
        np.testing.assert_allclose(sample.point["color"], COLOR, rtol=1e-5, err_msg=str(path))
        np.testing.assert_array_equal(sample.point["segment"], LABEL)
        assert sample.point["segment"].dtype == np.int64 and sample.coord.dtype == np.float32


def test_columns_can_be_named(tmp_path):
    np.savetxt(tmp_path / "own.txt", np.concatenate([COLOR[:, :1], COORD, -COORD], axis=1))
    sample = read_cloud_file(tmp_path / "own.txt", ["_", "x", "y", "z", "normal_x", "normal_y", "normal_z"])
    np.testing.assert_allclose(sample.coord, COORD)
    np.testing.assert_allclose(sample.point["normal"], -COORD)


def test_points_far_from_the_origin_keep_their_millimetres(tmp_path):
    far = COORD.astype(np.float64) + np.array([3_500_000.001, 5_400_000.0, 100.0])
    np.save(tmp_path / "far.npy", far)
    np.testing.assert_array_equal(read_cloud_file(tmp_path / "far.npy").coord, far)


def test_what_is_wrong_with_a_file_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"A cloud must exist: there is no file .*gone\.ply"):
        read_cloud_file(tmp_path / "gone.ply")
    (tmp_path / "scan.e57").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"scan\.e57 must be a readable cloud: its suffix must be \.ply, \.npy"):
        read_cloud_file(tmp_path / "scan.e57")
    (tmp_path / "broken.ply").write_bytes(b"ply\nformat nonsense")
    with pytest.raises(ValueError, match=r"broken\.ply must be a readable cloud"):
        read_cloud_file(tmp_path / "broken.ply")
    np.save(tmp_path / "wide.npy", np.zeros((4, 5)))
    with pytest.raises(ValueError, match=r"The columns of .*wide\.npy must be named: it has 5, and 0 names.*--columns"):
        read_cloud_file(tmp_path / "wide.npy")
    with pytest.raises(ValueError, match=r"Columns must be known: got height\. Known: _, blue"):
        read_cloud_file(tmp_path / "wide.npy", ["x", "y", "z", "height", "_"])
    with pytest.raises(ValueError, match=r"must have all of red, green, blue: it has only red\."):
        read_cloud_file(tmp_path / "wide.npy", ["x", "y", "z", "red", "_"])
    np.save(tmp_path / "pickled.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"pickled\.npy must be a readable cloud: Object arrays cannot be loaded"):
        read_cloud_file(tmp_path / "pickled.npy")
    np.save(tmp_path / "empty.npy", np.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"A cloud needs points with x, y and z: .*empty\.npy has 0 rows of x, y, z"):
        read_cloud_file(tmp_path / "empty.npy")
    bad = matrix()
    bad[1, 2], bad[0, 0] = np.nan, np.inf
    np.save(tmp_path / "bad.npy", bad)
    with pytest.raises(ValueError, match=r"bad\.npy must be finite: it is not, 1 in x, 1 in z\. Remove these points"):
        read_cloud_file(tmp_path / "bad.npy")


def test_normals_of_a_room_point_into_it():
    rng = np.random.default_rng(0)
    walls = []
    for axis in range(3):
        for side in (0.0, 4.0):
            wall = rng.uniform(1.0, 3.0, (400, 3))
            wall[:, axis] = side
            inward = np.zeros(3)
            inward[axis] = 1 if side == 0 else -1
            walls.append((wall, np.tile(inward, (400, 1))))
    coord, expected = (np.concatenate(part) for part in zip(*walls))
    normal = estimate_normals(coord + 1e5)
    np.testing.assert_allclose(normal, expected, atol=1e-3)
    assert normal.dtype == np.float32


def test_a_cloud_without_planes_gets_normals_that_point_up():
    np.testing.assert_array_equal(estimate_normals(COORD[:2]), [[0, 0, 1], [0, 0, 1]])
    assert estimate_normals(COORD[:0]).shape == (0, 3)
