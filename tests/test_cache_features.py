import numpy as np
import pytest
import safetensors
import torch

from pointcept.cache_features import cache_features, main
from pointcept.datasets import SyntheticRoomDataset, collate
from pointcept.datasets.transforms import CenterShift, Collect, GridSample, LoadFeatureMaps, NormalizeColor
from pointcept.models.pretraining import TimmTeacher

ROOMS = dict(num_train=2, num_val=1, frame_size=(24, 32), num_frames=8)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("rooms") / "new"
    SyntheticRoomDataset(split="train", data_root=root, **ROOMS)
    return root


def make_teacher(out_index: int = 1) -> TimmTeacher:
    return TimmTeacher("resnet10t", (32, 32), random_weights=True, out_index=out_index)


def test_training_on_the_cache_sees_what_the_teacher_would_say(root, tmp_path):
    teacher = make_teacher()
    plain = SyntheticRoomDataset(split="train", data_root=root, **ROOMS)
    assert cache_features(teacher, plain, tmp_path, device=torch.device("cpu"), batch_size=3) == (2, 0)
    transform = [CenterShift(), GridSample(0.05), NormalizeColor(), LoadFeatureMaps(tmp_path), Collect()]
    cached = SyntheticRoomDataset(split="train", data_root=root, num_views=3, transform=transform, **ROOMS)
    cameras = collate([cached[0], cached[1]]).cameras
    assert cameras.feature.shape == (2, 3, 64, 8, 8)
    torch.testing.assert_close(cameras.feature, teacher(cameras.replace(feature=None)), atol=2e-3, rtol=2e-3)
    with safetensors.safe_open(next(iter(sorted(tmp_path.glob("*.safetensors")))), "np") as file:
        assert set(file.keys()) == {str(i) for i in range(7)}, "all frames but the held-out one"
        assert file.get_tensor("3").dtype == np.float16


def test_scenes_that_are_there_are_kept_and_another_teachers_are_refused(root, tmp_path):
    data = SyntheticRoomDataset(split="train", data_root=root, **ROOMS)
    cpu = torch.device("cpu")
    cache_features(make_teacher(), data, tmp_path, device=cpu)
    first, second = sorted(tmp_path.glob("*.safetensors"))
    second.unlink()
    before = first.stat().st_mtime_ns
    assert cache_features(make_teacher(), data, tmp_path, device=cpu) == (1, 1)
    assert first.stat().st_mtime_ns == before and second.is_file()
    with pytest.raises(ValueError, match=r"of the same teacher: it is of 'resnet10t, map 1 .* map 2 .* is wanted"):
        cache_features(make_teacher(2), data, tmp_path, device=cpu)


def test_the_command_writes_what_a_config_names(root, tmp_path, capsys):
    options = [f"data.train.{name}={value!r}" for name, value in {"data_root": str(root), **ROOMS}.items()]
    teacher = {"type": "TimmTeacher", "name": "resnet10t", "image_size": (32, 32), "random_weights": True}
    options.append(f"model.teacher={teacher!r}")
    config = ["-c", "demo/pretrain-ponder-spunet", "-f", str(tmp_path / "cache")]
    main([*config, "--options", *options])
    assert "2 scenes written" in capsys.readouterr().out and len(list((tmp_path / "cache").iterdir())) == 2
    with pytest.raises(SystemExit, match=r"model.teacher of demo/pretrain-ponder-spunet is not set"):
        main(config)
    with pytest.raises(SystemExit, match=r"split must be one of .*: got 'test'"):
        main([*config, "--split", "test", "--options", *options])
