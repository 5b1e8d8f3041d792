"""Predicting whole clouds: the sum over fragments and variants is that of a slow twin, tile by tile too."""

import numpy as np
import pytest
import torch
from torch import nn

from pointcept.datasets.transforms import CenterShift, Collect, RandomFlip
from pointcept.engines.amp import Precision
from pointcept.engines.inference import FragmentInference
from pointcept.structures import PointSample

GRID_SIZE = 0.4
CPU = torch.device("cpu")


class Pointwise(nn.Module):
    """Logits that depend on a point's own features, plus how many points of the batch's cloud there are."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 4)
        self.sizes = []

    def forward(self, batch):
        self.sizes.append(batch.points.counts.tolist())
        return {"logits": self.layer(batch.points.feat)}


def sample(num_points: int = 150, seed: int = 0) -> PointSample:
    rng = np.random.default_rng(seed)
    coord = (rng.normal(size=(num_points, 3)) * np.array([3, 1, 0.5])).astype(np.float32)
    color = rng.uniform(size=(num_points, 3)).astype(np.float32)
    return PointSample(coord=coord, point={"color": color}, scene={"name": "room"})


def inference(**changes) -> FragmentInference:
    settings = {"grid_size": GRID_SIZE, "post_transform": [Collect(feat_keys=("coord", "color"))]}
    return FragmentInference(**{**settings, **changes})


def model() -> Pointwise:
    torch.manual_seed(0)
    return Pointwise().eval()


def probabilities(network: nn.Module, scene: PointSample, **changes) -> torch.Tensor:
    found = list(inference(**changes).tiles(network, scene, CPU, Precision()))
    rows = torch.from_numpy(np.concatenate([tile.rows for tile in found]))
    assert torch.equal(rows.sort().values, torch.arange(scene.num_points))
    result = torch.zeros(scene.num_points, 4)
    result[rows] = torch.cat([tile.probability for tile in found])
    return result


def slow_twin(network: Pointwise, scene: PointSample, variants: list[np.ndarray]) -> np.ndarray:
    """Pointcept's test loop: part i of a variant has point i mod n of each voxel; softmax is summed per point."""
    total = np.zeros((scene.num_points, 4))
    for factor in variants:
        coord = scene.coord * factor
        voxels: dict[tuple, list[int]] = {}
        for row, voxel in enumerate(np.floor(coord.astype(np.float64) / GRID_SIZE).astype(int).tolist()):
            voxels.setdefault(tuple(voxel), []).append(row)
        for index in range(max(map(len, voxels.values()))):
            rows = [members[index % len(members)] for members in voxels.values()]
            feat = np.concatenate([coord[rows], scene.point["color"][rows]], axis=1)
            total[rows] += network.layer(torch.from_numpy(feat).float()).softmax(1).detach().numpy()
    return total / total.sum(axis=1, keepdims=True)


def test_the_sum_over_fragments_and_variants_is_the_slow_twins():
    network, scene = model(), sample()
    flipped = np.array([-1, -1, 1], np.float32)
    expected = slow_twin(network, scene, [np.ones(3, np.float32), flipped])
    result = probabilities(network, scene, aug_transform=[[], [RandomFlip(p=1.0)]])
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch_points", [1, 200, 10**6])
def test_how_fragments_are_batched_changes_nothing(batch_points):
    network, scene = model(), sample()
    expected = probabilities(network, scene)
    network.sizes.clear()
    torch.testing.assert_close(probabilities(network, scene, batch_points=batch_points), expected)
    assert all(len(counts) == 1 or sum(counts) <= batch_points for counts in network.sizes)
    assert len(network.sizes) == 1 if batch_points == 10**6 else len(network.sizes) > 1


@pytest.mark.parametrize("tile_points", [1, 40, 149])
def test_tiles_bound_what_is_summed_and_cover_every_point(tile_points):
    network, scene = model(), sample()
    found = list(inference(tile_points=tile_points).tiles(network, scene, CPU, Precision()))
    assert all(len(tile.rows) <= tile_points for tile in found) and len(found) > 1
    result = probabilities(network, scene, tile_points=tile_points, tile_overlap_m=1.0)
    torch.testing.assert_close(result.sum(dim=1), torch.ones(150))
    alone = network.layer(torch.from_numpy(np.concatenate([scene.coord, scene.point["color"]], axis=1))).softmax(1)
    one = probabilities(network, scene, grid_size=1e-4, tile_points=tile_points)  # every point is a voxel
    torch.testing.assert_close(one, alone.detach())


def test_few_fragments_still_predict_every_point():
    network, scene = model(), sample()
    classes = inference(max_fragments=1).predict(network, scene, CPU, Precision())
    voxel = np.floor(scene.coord.astype(np.float64) / GRID_SIZE).astype(int)
    _, group = np.unique(voxel, axis=0, return_inverse=True)
    assert classes.min() >= 0 and len(network.sizes) == 1
    assert all(len(set(classes[group.reshape(-1) == number])) == 1 for number in range(group.max() + 1))


def test_what_a_reader_noted_of_an_earlier_sampling_is_left_alone():
    network, scene = model(), sample()
    noted = PointSample(
        coord=scene.coord, point=scene.point, scene={"name": "room", "inverse": np.zeros(900, np.int64)}
    )
    np.testing.assert_array_equal(
        inference().predict(network, noted, CPU, Precision()), inference().predict(network, scene, CPU, Precision())
    )


def test_impossible_settings_and_transforms_are_refused():
    class Half:
        def __call__(self, sample, rng):
            return sample.select(np.arange(sample.num_points // 2))

    with pytest.raises(ValueError, match=r"grid_size must be positive, or not empty: got 0"):
        inference(grid_size=0)
    with pytest.raises(ValueError, match=r"aug_transform must be positive, or not empty: got 0"):
        inference(aug_transform=[])
    with pytest.raises(ValueError, match=r"aug_transform\[0\] must keep every point: 150 went in and 75 came out"):
        inference(aug_transform=[[Half()]]).predict(model(), sample(), CPU, Precision())
    with pytest.raises(
        ValueError, match=r"post_transform must keep every point: \d+ went in and \d+ came out for scene 'room'"
    ):
        inference(post_transform=[CenterShift(), Half()]).predict(model(), sample(), CPU, Precision())
