import numpy as np
import pytest

from pointcept.datasets import ConcatDataset, SceneDataset


@pytest.fixture
def parts(tmp_path):
    """Two data sets, of two scenes and one: each scene has as many points as its number."""
    for number, name in ((1, "a/s1"), (2, "a/s2"), (3, "b/s3")):
        (tmp_path / name).mkdir(parents=True)
        np.save(tmp_path / name / "coord.npy", np.zeros((number, 3), np.float32))
    return [
        SceneDataset(split="a", data_root=tmp_path, condition="A"),
        SceneDataset(split="b", data_root=tmp_path, condition="B", loop=2),
    ]


def test_items_follow_one_another_and_keep_their_seed(parts):
    dataset = ConcatDataset(parts)
    assert len(dataset) == 4 and [scene.name for scene in dataset.scenes] == ["s1", "s2", "s3"]
    samples = [dataset[index, 100 + index] for index in range(4)]
    assert [(sample.num_points, sample.scene["condition"], sample.seed) for sample in samples] == [
        (1, "A", 100), (2, "A", 101), (3, "B", 102), (3, "B", 103),
    ]  # fmt: skip
    assert dataset[2].seed == 2
    with pytest.raises(IndexError, match=r"must lie in 0..3: got 4"):
        dataset[4]


def test_loop_repeats_all_of_them(parts):
    dataset = ConcatDataset(parts, loop=2)
    assert len(dataset) == 8 and dataset[5].name == "s2" and dataset[7].name == "s3"


def test_nothing_to_join_is_refused(parts):
    with pytest.raises(ValueError, match="needs a data set, and loop >= 1: got 0 and 1"):
        ConcatDataset([])
    with pytest.raises(ValueError, match="got 2 and 0"):
        ConcatDataset(parts, loop=0)
