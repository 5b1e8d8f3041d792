import dataclasses

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from pointcept.datasets import collate
from pointcept.datasets.transforms import LoadFeatureMaps
from pointcept.structures import PointSample, Views


def sample(scene: str, names: tuple[str, ...]) -> PointSample:
    count = len(names)
    views = Views(
        image=[np.zeros((4, 6, 3), np.uint8)] * count,
        depth=[np.ones((4, 6), np.float32)] * count,
        intrinsic=np.tile(np.array([[5.0, 0, 2], [0, 5, 2], [0, 0, 1]]), (count, 1, 1)),
        extrinsic=np.tile(np.eye(4), (count, 1, 1)),
        name=names,
    )
    return PointSample(coord=np.zeros((0, 3), np.float32), scene={"name": scene}, views=views)


def test_every_view_gets_the_map_of_its_frame_and_absent_views_zeros(tmp_path):
    maps = {name: np.full((3, 2, 2), float(name), np.float16) for name in ("10", "20", "30")}
    save_file(maps, tmp_path / "room.safetensors")
    load, rng = LoadFeatureMaps(tmp_path), np.random.default_rng(0)
    two, one = load(sample("room", ("30", "10")), rng), load(sample("room", ("20",)), rng)
    batch = collate([two, one])
    assert batch.cameras.feature.shape == (2, 2, 3, 2, 2) and batch.cameras.feature.dtype == torch.float32
    assert batch.cameras.feature[:, :, 0, 0, 0].tolist() == [[30, 10], [20, 0]]
    assert collate([sample("room", ("10",))]).cameras.feature is None


def test_what_the_cache_lacks_is_named(tmp_path):
    load, rng = LoadFeatureMaps(tmp_path), np.random.default_rng(0)
    with pytest.raises(FileNotFoundError, match=r"room.safetensors does not exist. Write it with python -m"):
        load(sample("room", ("10",)), rng)
    save_file({"10": np.zeros((3, 2, 2), np.float16)}, tmp_path / "room.safetensors")
    with pytest.raises(ValueError, match=r"room.safetensors lacks 20, 30\. Write it again"):
        load(sample("room", ("20", "10", "30")), rng)
    with pytest.raises(ValueError, match="needs views: scene 'room' has none"):
        load(dataclasses.replace(sample("room", ("10",)), views=None), rng)
    (tmp_path / "torn.safetensors").write_bytes(b"1234")
    with pytest.raises(ValueError, match=r"torn.safetensors is not"):
        load(sample("torn", ("10",)), rng)


def test_maps_of_a_batch_must_have_one_shape_and_all_be_there(tmp_path):
    save_file({"1": np.zeros((3, 2, 2), np.float16), "2": np.zeros((3, 2, 4), np.float16)}, tmp_path / "a.safetensors")
    load, rng = LoadFeatureMaps(tmp_path), np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"the shapes are \[\(3, 2, 2\), \(3, 2, 4\)\]"):
        collate([load(sample("a", ("1", "2")), rng)])
    with pytest.raises(ValueError, match=r"scenes \['b'\] have none"):
        collate([load(sample("a", ("1",)), rng), sample("b", ("1",))])
