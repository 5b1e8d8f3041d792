"""Lifting against brute-force twins, on a scene whose answer is known, and under changes that must not matter."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pointcept.structures import CameraBatch
from ponder2d.depth import DepthBins, DepthDistribution
from ponder2d.lifting import ProjectionLifting, SplattingLifting

GRID = (5, 4, 3)
BOX = torch.tensor([[[-1.0, -0.8, 0.0], [1.0, 0.8, 1.5]], [[-1.2, -1.0, -0.2], [1.2, 1.0, 1.0]]], dtype=torch.float64)
EDGES = DepthBins(0.3, 4.0, 6, "linear").edges.double()


def look_at(eye: Tensor, target: Tensor) -> Tensor:
    """camera_from_world of a camera at ``eye``, with the world's z up."""
    forward = (target - eye) / (target - eye).norm()
    right = torch.linalg.cross(forward, torch.tensor([0.0, 0.0, 1.0], dtype=eye.dtype))
    right = right / right.norm()
    down = torch.linalg.cross(forward, right)
    rotation = torch.stack((right, down, forward))
    matrix = torch.eye(4, dtype=eye.dtype)
    matrix[:3, :3], matrix[:3, 3] = rotation, -rotation @ eye
    return matrix


def ring_of_cameras(height: int = 12, width: int = 16) -> CameraBatch:
    """Three views of each of two scenes; one view is smaller than the others and one is absent."""
    angle = torch.arange(6, dtype=torch.float64).view(2, 3)
    eye = torch.stack((1.6 * angle.cos(), 1.6 * angle.sin(), 0.7 + 0.1 * angle), dim=-1)
    extrinsic = torch.stack([torch.stack([look_at(e, torch.tensor([0.1, 0.0, 0.5]).double()) for e in s]) for s in eye])
    intrinsic = torch.tensor([[11.0, 0.3, 7.2], [0.0, 12.0, 5.6], [0.0, 0.0, 1.0]]).double().repeat(2, 3, 1, 1)
    size = torch.tensor([[[12, 16], [12, 16], [9, 13]], [[12, 16], [12, 16], [0, 0]]])
    extrinsic[1, 2], intrinsic[1, 2] = torch.eye(4), torch.eye(3)
    return CameraBatch(
        image=torch.zeros(2, 3, 3, height, width, dtype=torch.float64),
        depth=torch.zeros(2, 3, height, width, dtype=torch.float64),
        intrinsic=intrinsic,
        extrinsic=extrinsic,
        size_px=size,
    )


def maps(channels: int = 2, height: int = 6, width: int = 8) -> tuple[Tensor, Tensor]:
    """Random features and bin probabilities of those views."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, channels, height, width, generator=generator, dtype=torch.float64)
    logits = torch.randn(2, 3, len(EDGES) - 1, height, width, generator=generator, dtype=torch.float64)
    return features, logits.softmax(dim=2)


def project(cameras: CameraBatch, b: int, v: int, position: Tensor) -> tuple[float, float, float] | None:
    """Pixel and depth of a position in a view, or None where the view does not see it."""
    point = cameras.extrinsic[b, v, :3, :3] @ position + cameras.extrinsic[b, v, :3, 3]
    z = float(point[2])
    if z < 0.05:
        return None
    column, row, _ = (cameras.intrinsic[b, v] @ point / point[2]).tolist()
    rows, columns = cameras.size_px[b, v].tolist()
    return (column, row, z) if -0.5 <= column < columns - 0.5 and -0.5 <= row < rows - 0.5 else None


def linear_weights(place: float, count: int) -> list[tuple[int, float]]:
    low = math.floor(place)
    return [(min(max(i, 0), count - 1), w) for i, w in ((low, 1 - (place - low)), (low + 1, place - low))]


def projected_by_hand(features: Tensor, probability: Tensor | None, cameras: CameraBatch) -> Tensor:
    """The loop over scenes, voxels and views that ``ProjectionLifting`` stands for."""
    height, width = features.shape[-2:]
    scale_x, scale_y = cameras.image.shape[-1] / width, cameras.image.shape[-2] / height
    centers = 0.5 * (EDGES[1:] + EDGES[:-1])
    volume = torch.zeros(2, features.shape[2], *reversed(GRID), dtype=torch.float64)
    for b, (k, j, i) in itertools.product(range(2), itertools.product(*map(range, reversed(GRID)))):
        edge = (BOX[b, 1] - BOX[b, 0]) / torch.tensor(GRID)
        seen = []
        for v in range(3):
            hit = project(cameras, b, v, BOX[b, 0] + (torch.tensor([i, j, k]) + 0.5) * edge)
            if hit is None:
                continue
            column, row, z = hit
            corners = [
                (y, x, wy * wx)
                for y, wy in linear_weights((row + 0.5) / scale_y - 0.5, height)
                for x, wx in linear_weights((column + 0.5) / scale_x - 0.5, width)
            ]
            value = sum(w * features[b, v, :, y, x] for y, x, w in corners)
            if probability is not None:
                upper = min(max(int((centers < z).sum()), 1), len(centers) - 1)
                part = min(max(float((z - centers[upper - 1]) / (centers[upper] - centers[upper - 1])), 0.0), 1.0)
                chance = sum(
                    w * ((1 - part) * probability[b, v, upper - 1, y, x] + part * probability[b, v, upper, y, x])
                    for y, x, w in corners
                )
                value = value * chance * bool(EDGES[0] <= z <= EDGES[-1])
            seen.append(value)
        if seen:
            volume[b, :, k, j, i] = sum(seen) / len(seen)
    return volume


def splatted_by_hand(features: Tensor, probability: Tensor, cameras: CameraBatch) -> Tensor:
    """The loop over pixels and bins that ``SplattingLifting`` stands for."""
    height, width = features.shape[-2:]
    scale_x, scale_y = cameras.image.shape[-1] / width, cameras.image.shape[-2] / height
    volume = torch.zeros(2, features.shape[2], *reversed(GRID), dtype=torch.float64)
    for b, v, y, x in itertools.product(range(2), range(3), range(height), range(width)):
        column, row = (x + 0.5) * scale_x - 0.5, (y + 0.5) * scale_y - 0.5
        if row >= cameras.size_px[b, v, 0] - 0.5 or column >= cameras.size_px[b, v, 1] - 0.5:
            continue
        ray = torch.linalg.inv(cameras.intrinsic[b, v]) @ torch.tensor([column, row, 1.0]).double()
        for d, z in enumerate((0.5 * (EDGES[1:] + EDGES[:-1])).tolist()):
            rotation, translation = cameras.extrinsic[b, v, :3, :3], cameras.extrinsic[b, v, :3, 3]
            position = rotation.T @ (ray * z - translation)
            cell = ((position - BOX[b, 0]) / (BOX[b, 1] - BOX[b, 0]) * torch.tensor(GRID)).floor().long().tolist()
            if all(0 <= c < n for c, n in zip(cell, GRID, strict=True)):
                volume[b, :, cell[2], cell[1], cell[0]] += probability[b, v, d, y, x] * features[b, v, :, y, x]
    return volume


@pytest.mark.parametrize("with_depth", [True, False])
def test_projection_equals_its_twin(with_depth: bool) -> None:
    cameras, (features, probability) = ring_of_cameras(), maps()
    features.requires_grad_()
    probability.requires_grad_()
    depth = DepthDistribution(probability, EDGES) if with_depth else None
    volume = ProjectionLifting(chunk_size=97)(features, depth, cameras, BOX, GRID)
    expected = projected_by_hand(features, probability if with_depth else None, cameras)
    torch.testing.assert_close(volume.features, expected)
    assert 0 < int(volume.occupied.sum()) < volume.occupied.numel()
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    inputs = (features, probability) if with_depth else (features,)
    actual_gradients = torch.autograd.grad((volume.features * weight).sum(), inputs)
    for actual, wanted in zip(actual_gradients, torch.autograd.grad((expected * weight).sum(), inputs), strict=True):
        torch.testing.assert_close(actual, wanted)


def test_splatting_equals_its_twin() -> None:
    cameras, (features, probability) = ring_of_cameras(), maps()
    features.requires_grad_()
    probability.requires_grad_()
    lifting = SplattingLifting(chunk_size=97)
    volume = lifting(features, DepthDistribution(probability, EDGES), cameras, BOX, GRID)
    expected = splatted_by_hand(features, probability, cameras)
    torch.testing.assert_close(volume.features, expected)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    inputs = (features, probability)
    actual_gradients = torch.autograd.grad((volume.features * weight).sum(), inputs)
    for actual, wanted in zip(actual_gradients, torch.autograd.grad((expected * weight).sum(), inputs), strict=True):
        torch.testing.assert_close(actual, wanted)


LIFTINGS = [ProjectionLifting(), SplattingLifting(), SplattingLifting(normalize=True)]


@pytest.mark.parametrize("lifting", LIFTINGS, ids=["projection", "splatting", "splatting-mean"])
def test_gradients_are_those_of_finite_differences(lifting) -> None:
    cameras, (features, probability) = ring_of_cameras(), maps(channels=1, height=3, width=4)

    def lift(features: Tensor, probability: Tensor) -> Tensor:
        return lifting(features, DepthDistribution(probability, EDGES), cameras, BOX, GRID).features

    assert torch.autograd.gradcheck(lift, (features.requires_grad_(), probability.requires_grad_()))


@pytest.mark.parametrize("lifting", LIFTINGS, ids=["projection", "splatting", "splatting-mean"])
def test_the_order_of_the_views_does_not_matter(lifting) -> None:
    cameras, (features, probability) = ring_of_cameras(), maps()
    order = torch.tensor([2, 0, 1])
    fields = {
        name: getattr(cameras, name)[:, order] for name in ("image", "depth", "intrinsic", "extrinsic", "size_px")
    }
    first = lifting(features, DepthDistribution(probability, EDGES), cameras, BOX, GRID)
    second = lifting(
        features[:, order], DepthDistribution(probability[:, order], EDGES), CameraBatch(**fields), BOX, GRID
    )
    torch.testing.assert_close(first.features, second.features)
    assert torch.equal(first.occupied, second.occupied)


@pytest.mark.parametrize("lifting", LIFTINGS, ids=["projection", "splatting", "splatting-mean"])
def test_moving_world_and_cameras_together_changes_nothing(lifting) -> None:
    cameras, (features, probability) = ring_of_cameras(), maps()
    shift = torch.tensor([3.0, -2.0, 0.5], dtype=torch.float64)
    old_from_new = torch.eye(4, dtype=torch.float64)
    old_from_new[:3, 3] = -shift
    moved = cameras.replace(extrinsic=cameras.extrinsic @ old_from_new)
    depth = DepthDistribution(probability, EDGES)
    torch.testing.assert_close(
        lifting(features, depth, moved, BOX + shift, GRID).features,
        lifting(features, depth, cameras, BOX, GRID).features,
    )


@pytest.mark.parametrize("lifting", LIFTINGS, ids=["projection", "splatting", "splatting-mean"])
def test_views_that_see_nothing_of_the_box_give_an_empty_volume(lifting) -> None:
    cameras, (features, probability) = ring_of_cameras(), maps()
    volume = lifting(features, DepthDistribution(probability, EDGES), cameras, BOX + 100, GRID)
    assert not volume.occupied.any()
    assert torch.equal(volume.features, torch.zeros_like(volume.features))


def test_one_hot_pixels_land_where_their_depth_says() -> None:
    """A wall at x = 0.6 seen by one camera: each pixel is a channel of its own, its depth known exactly."""
    height, width, bins = 6, 8, DepthBins(0.2, 4.0, 76)
    extrinsic = look_at(torch.tensor([-2.0, 0.0, 0.5]).double(), torch.tensor([1.0, 0.0, 0.5]).double())
    intrinsic = torch.tensor([[14.0, 0.0, 3.5], [0.0, 14.0, 2.5], [0.0, 0.0, 1.0]]).double()
    depth = torch.full((1, 1, height, width), 2.6, dtype=torch.float64)  # of every point of the plane x = 0.6
    cameras = CameraBatch(
        image=torch.zeros(1, 1, 3, height, width, dtype=torch.float64),
        depth=depth,
        intrinsic=intrinsic[None, None],
        extrinsic=extrinsic[None, None],
        size_px=torch.tensor([[[height, width]]]),
    )
    box, grid = torch.tensor([[[-1.0, -1.0, -0.5], [1.0, 1.0, 1.5]]], dtype=torch.float64), (20, 20, 20)
    features = torch.eye(height * width, dtype=torch.float64).view(1, 1, height * width, height, width)
    index = torch.searchsorted(bins.edges.double(), depth, right=True) - 1
    probability = torch.nn.functional.one_hot(index, 76).permute(0, 1, 4, 2, 3).double()
    volume = SplattingLifting()(features, DepthDistribution(probability, bins.edges.double()), cameras, box, grid)
    for y, x in itertools.product(range(height), range(width)):
        expected = torch.tensor([0.6, -(x - 3.5) / 14 * 2.6, 0.5 - (y - 2.5) / 14 * 2.6]).double()  # left is +y
        where = torch.nonzero(volume.features[0, y * width + x])
        assert len(where) == 1
        center = box[0, 0] + (where[0].flip(0) + 0.5) * 0.1
        assert float((center - expected).abs().max()) <= 0.1  # one voxel


class LargestIndex(TorchDispatchMode):
    """Remembers the number of elements of the largest integer or boolean tensor that is made inside the block."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        made = result if isinstance(result, tuple | list) else (result,)
        indices = (one for one in made if isinstance(one, Tensor) and not one.is_floating_point())
        self.size = max(self.size, *(one.numel() for one in indices), 0)
        return result


@pytest.mark.parametrize("scheme", [ProjectionLifting, SplattingLifting])
def test_chunks_bound_the_memory_of_finding_what_is_seen(scheme) -> None:
    """Few of many voxels are seen, so that only what is looked at to find them can be large."""
    cameras, (features, probability) = ring_of_cameras(), maps(channels=1)
    probability = probability.repeat(1, 1, 60, 1, 1) / 60
    depth = DepthDistribution(probability, torch.linspace(0.3, 4.0, 361, dtype=torch.float64))
    box = BOX + torch.tensor([0.0, 0.0, 3.0])
    grid = (40, 40, 10)
    sizes, volumes = [], []
    for chunk_size in (2**22, 2000):
        with LargestIndex() as largest:
            volumes.append(scheme(chunk_size=chunk_size)(features, depth, cameras, box, grid).features)
        sizes.append(largest.size)
    torch.testing.assert_close(volumes[1], volumes[0])
    num_voxels = 2 * 40 * 40 * 10
    assert sizes[0] >= 3 * num_voxels and sizes[1] <= num_voxels


def test_splatting_without_depth_says_what_to_do() -> None:
    cameras, (features, _) = ring_of_cameras(), maps()
    with pytest.raises(ValueError, match="needs a depth distribution: got None"):
        SplattingLifting()(features, None, cameras, BOX, GRID)


def test_maps_of_other_views_are_refused() -> None:
    cameras, (features, _) = ring_of_cameras(), maps()
    with pytest.raises(ValueError, match=r"must belong to the cameras' views: got \(2, 2\)"):
        ProjectionLifting()(features[:, :2], None, cameras, BOX, GRID)
