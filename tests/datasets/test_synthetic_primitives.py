import numpy as np
import pytest

from pointcept.datasets.synthetic.primitives import (
    BOX,
    CYLINDER,
    ELLIPSOID,
    Primitives,
    cast_rays,
    cast_view,
    describe_hits,
)


def make(*entries):
    """Primitives of (shape, center, half_size[, rotation])."""
    count = len(entries)
    return Primitives(
        shape=np.array([entry[0] for entry in entries]),
        center=np.array([entry[1] for entry in entries], dtype=float),
        rotation=np.array([entry[3] if len(entry) > 3 else np.eye(3) for entry in entries]),
        half_size=np.array([entry[2] for entry in entries], dtype=float),
        material=np.arange(count),
        label=np.arange(count),
        instance=np.arange(count),
    )


def about_z(angle):
    return np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])


def shoot(primitives, origin, direction):
    distance, index = cast_rays(primitives, np.array([origin], dtype=float), np.array([direction], dtype=float))
    return distance[0], index[0]


@pytest.mark.parametrize(
    ("entry", "origin", "direction", "expected"),
    [
        ((BOX, (3, 0, 0), (1, 1, 1)), (0, 0, 0), (1, 0, 0), 2.0),
        ((BOX, (3, 0, 0), (1, 1, 1)), (0, 0, 0), (2, 0, 0), 1.0),  # in units of the direction's length
        ((BOX, (3, 0, 0), (1, 1, 1), about_z(np.pi / 4)), (0, 0, 0), (1, 0, 0), 3 - np.sqrt(2)),
        ((BOX, (3, 0, 0), (1, 1, 1)), (0, 1.5, 0), (1, 0, 0), np.inf),
        ((BOX, (3, 0, 0), (1, 1, 1)), (0, 0, 0), (-1, 0, 0), np.inf),  # behind
        ((BOX, (0, 0, 0), (1, 1, 1)), (0, 0, 0), (1, 0, 0), np.inf),  # from inside
        ((ELLIPSOID, (0, 0, 3), (1, 2, 0.5)), (0, 0, 0), (0, 0, 1), 2.5),
        ((ELLIPSOID, (0, 0, 3), (1, 2, 0.5)), (0.5, 0, 0), (0, 0, 1), 3 - 0.5 * np.sqrt(0.75)),
        ((ELLIPSOID, (0, 0, 3), (1, 2, 0.5)), (1.01, 0, 0), (0, 0, 1), np.inf),
        ((CYLINDER, (4, 0, 0), (0.5, 0.5, 1)), (0, 0, 0), (1, 0, 0), 3.5),
        ((CYLINDER, (4, 0, 0), (0.5, 0.5, 1)), (4.2, 0, 5), (0, 0, -1), 4.0),  # along the axis, into the cap
        ((CYLINDER, (4, 0, 0), (0.5, 0.5, 1)), (4.6, 0, 5), (0, 0, -1), np.inf),  # along the axis, beside it
        ((CYLINDER, (4, 0, 0), (0.5, 0.5, 1)), (0, 0, 1.1), (1, 0, 0), np.inf),  # above the cap
        ((CYLINDER, (4, 0, 0), (0.5, 0.5, 1)), (4, 0, 0), (0, 0, 1), np.inf),  # from inside
    ],
)
def test_entry_by_hand(entry, origin, direction, expected):
    distance, index = shoot(make(entry), origin, direction)
    assert distance == pytest.approx(expected, abs=1e-12)
    assert index == (0 if np.isfinite(expected) else -1)


def test_the_nearer_of_two_primitives_hides_the_other():
    wall, box = (BOX, (5, 0, 0), (0.1, 9, 9)), (BOX, (2, 0, 0), (0.5, 0.5, 0.5))
    for primitives, front in ((make(wall, box), 1), (make(box, wall), 0)):
        assert shoot(primitives, (0, 0, 0), (1, 0, 0)) == (pytest.approx(1.5), front)
        assert shoot(primitives, (0, 0.6, 0), (1, 0, 0)) == (pytest.approx(4.9), 1 - front)


def test_normals_by_hand():
    rotation = about_z(np.pi / 2)  # local x is world y
    primitives = make(
        (BOX, (0, 0, 0), (1, 2, 3)),
        (BOX, (0, 0, 0), (1, 2, 3), rotation),
        (ELLIPSOID, (0, 0, 0), (2, 1, 1)),
        (CYLINDER, (0, 0, 0), (1, 1, 2)),
        (CYLINDER, (0, 0, 0), (1, 1, 2)),
    )
    slanted = np.sqrt(0.5)
    point = np.array([[0.3, -2, 1], [0, 1, 0.5], [2 * slanted, slanted, 0], [0, 1, 1.9], [0.6, 0, -2]])
    surface = describe_hits(primitives, np.arange(5), point)
    # The gradient of (x/2)^2 + y^2 at (sqrt 2, 1/sqrt 2) points along (1, 2).
    expected = [[0, -1, 0], [0, 1, 0], [1 / np.sqrt(5), 2 / np.sqrt(5), 0], [0, 1, 0], [0, 0, -1]]
    np.testing.assert_allclose(surface.normal, expected, atol=1e-12)
    np.testing.assert_array_equal(surface.axis, [1, 0, 3, 3, 2])
    np.testing.assert_allclose(surface.local[1], [1, 0, 0.5], atol=1e-12)
    np.testing.assert_allclose(surface.unit[1], [1, 0, 0.5 / 3], atol=1e-12)


def test_a_view_equals_the_rays_of_its_pixels():
    rng = np.random.default_rng(0)
    count = 60  # around the camera, so that many lie behind it or reach through its plane
    rotations = [np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(count)]
    entries = [
        (int(rng.integers(3)), rng.uniform(-4, 4, 3), rng.uniform(0.05, 0.9, 3), r * np.sign(np.linalg.det(r)))
        for r in rotations
    ]
    primitives = make(*entries)
    intrinsic = np.array([[30.0, 0, 19.5], [0, 28.0, 14.0], [0, 0, 1]])
    pose = np.eye(4)
    pose[:3, :3] = rotations[0] * np.sign(np.linalg.det(rotations[0]))
    pose[:3, 3] = 0.3, -0.2, 0.1
    depth, index = cast_view(primitives, intrinsic, pose, (30, 40))
    row, column = np.mgrid[:30, :40]
    pixel = np.stack([(column - 19.5) / 30.0, (row - 14.0) / 28.0, np.ones((30, 40))], axis=-1).reshape(-1, 3)
    origin = np.tile(pose[:3, 3], (1200, 1))
    expected_depth, expected_index = cast_rays(primitives, origin, pixel @ pose[:3, :3].T)
    np.testing.assert_allclose(depth.ravel(), expected_depth, rtol=1e-9)
    np.testing.assert_array_equal(index.ravel(), expected_index)
    assert 0.2 < (index >= 0).mean() < 1.0
