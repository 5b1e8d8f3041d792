import json
import logging

import numpy as np
import pytest

from pointcept.datasets.frames import HOLDOUT_EVERY, SceneFrames, held_out, read_skip_list


def make_scene(folder, numbers, bad_poses=()):
    """A scene of empty image files: listing and drawing frames must not open them."""
    for part, suffix in (("color", ".jpg"), ("depth", ".png"), ("pose", ".txt")):
        (folder / part).mkdir(parents=True)
        for number in numbers:
            (folder / part / f"{number}{suffix}").touch()
    for number in numbers:
        pose = np.eye(4)
        pose[0, 3] = float(number)
        if number in bad_poses:
            pose[0, 0] = -np.inf
        np.savetxt(folder / "pose" / f"{number}.txt", pose)
    return folder


def names(frames):
    return [name for name, _ in frames]


def draw_all(frames, seed=0):
    return names(frames.draw(10**6, np.random.default_rng(seed)))


def test_the_last_of_every_k_frames_is_held_out():
    assert HOLDOUT_EVERY == 8
    assert np.flatnonzero(held_out(20)).tolist() == [7, 15]
    assert np.flatnonzero(held_out(7, 3)).tolist() == [2, 5]
    assert not held_out(7).any()
    with pytest.raises(ValueError, match=r"holdout_every must be at least 2.*got 1. The default is 8"):
        held_out(5, 1)


def test_numbers_are_keys_sorted_by_value_never_list_positions(tmp_path):
    numbers = ["7", "100", "20", "1305031102.5", "3"]
    folder = make_scene(tmp_path / "room", numbers)
    frames = SceneFrames(folder, view_split="all")
    assert names(frames.spread(10)) == ["3", "7", "20", "100", "1305031102.5"]
    for name, pose in frames.draw(3, np.random.default_rng(0)):
        assert pose[0, 3] == float(name)


def test_splits_are_disjoint_and_complete(tmp_path):
    folder = make_scene(tmp_path / "room", range(5, 205, 10))  # 20 frames: 5, 15, ..., 195
    train, heldout, both = (SceneFrames(folder, view_split=split) for split in ("train", "heldout", "all"))
    assert names(heldout.spread(99)) == ["75", "155"]  # ranks 7 and 15
    assert set(draw_all(train)) == set(draw_all(both)) - {"75", "155"}
    assert len(draw_all(train)) == 18


def test_the_interval_counts_within_the_split(tmp_path):
    folder = make_scene(tmp_path / "room", range(32))
    heldout = SceneFrames(folder, view_split="heldout", frame_interval=2)
    assert names(heldout.spread(99)) == ["7", "23"]
    train = SceneFrames(folder, view_split="train", frame_interval=10)
    assert sorted(map(int, draw_all(train))) == [0, 11, 22]  # 28 frames, every 10th: ranks 0, 10, 20 of the split


def test_a_lost_file_does_not_move_the_held_out_frames(tmp_path):
    folder = make_scene(tmp_path / "room", range(16))
    (folder / "color" / "3.jpg").unlink()
    (folder / "depth" / "5.png").unlink()
    assert names(SceneFrames(folder, view_split="heldout").spread(9)) == ["7", "15"]


def test_frames_are_drawn_without_replacement_by_the_generator_alone(tmp_path):
    frames = SceneFrames(make_scene(tmp_path / "room", range(40)), view_split="train")
    draws = [names(frames.draw(5, np.random.default_rng(seed))) for seed in range(30)]
    assert all(len(set(draw)) == 5 for draw in draws)
    assert draws[3] == names(frames.draw(5, np.random.default_rng(3)))
    assert len({tuple(draw) for draw in draws}) == 30
    assert len(draw_all(frames)) == 35  # fewer than asked for: all of them, once


def test_spread_frames_lie_in_the_middle_of_equal_parts(tmp_path):
    frames = SceneFrames(make_scene(tmp_path / "room", range(12)), view_split="all")
    assert names(frames.spread(1)) == ["6"]
    assert names(frames.spread(3)) == ["2", "6", "10"]
    assert names(frames.spread(12)) == names(frames.spread(50)) == [str(i) for i in range(12)]


def test_unusable_frames_are_skipped_with_one_warning_and_a_count(tmp_path, caplog):
    folder = make_scene(tmp_path / "room", range(20), bad_poses=(2, 4, 6))
    (folder / "color" / "0.jpg").unlink()
    (folder / "depth" / "1.png").unlink()
    (folder / "pose" / "3.txt").unlink()
    with caplog.at_level(logging.WARNING, logger="pointcept"):
        frames = SceneFrames(folder, view_split="all")
        for seed in range(10):
            assert not {"0", "1", "2", "3", "4", "6"} & set(draw_all(frames, seed))
        frames.spread(3)
    assert [record.getMessage() for record in caplog.records] == [
        "Scene 'room': 6 of 20 frames (view_split 'all') are skipped: 1 without colour, 1 without depth, 1 "
        "without pose, 3 with a pose that is not a finite, rigid 4x4 matrix."
    ]


def test_bad_poses_are_found_when_drawn_and_change_no_later_draw(tmp_path, caplog):
    folder = make_scene(tmp_path / "room", range(30), bad_poses=range(0, 30, 3))
    expected = []
    for seed in range(5):  # each from a fresh list of frames, which knows nothing of the others
        expected.append(names(SceneFrames(folder, view_split="train").draw(4, np.random.default_rng(seed))))
    caplog.clear()
    frames = SceneFrames(folder, view_split="train")
    assert not caplog.records
    assert [names(frames.draw(4, np.random.default_rng(seed))) for seed in range(5)] == expected
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "text",
    [
        "1 0 0 0\n0 1 0 nan\n0 0 1 0\n0 0 0 1",
        "1 0 0 0\n0 1 0 0\n0 0 0 0\n0 0 0 1",
        "2 0 0 0\n0 2 0 0\n0 0 2 0\n0 0 0 1",
        "-1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1",
        "1 0 0 0\n0 1 0 0\n0 0 1",
        "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 1 1",
        "",
        "no pose",
    ],
    ids=["nan", "singular", "scaled", "mirrored", "truncated", "projective", "empty", "text"],
)
def test_a_bad_pose_is_skipped_and_a_scene_of_them_is_an_error(tmp_path, text):
    folder = make_scene(tmp_path / "room", range(3))
    (folder / "pose" / "1.txt").write_text(text)
    assert names(SceneFrames(folder, view_split="all").spread(9)) == ["0", "2"]
    for number in range(3):
        (folder / "pose" / f"{number}.txt").write_text(text)
    with pytest.raises(
        ValueError, match=r"Scene 'room' must have a usable frame of view_split 'all': got none of 3 \(3 with a pose"
    ):
        SceneFrames(folder, view_split="all").draw(1, np.random.default_rng(0))


def test_a_pose_gets_an_exact_rotation(tmp_path):
    folder = make_scene(tmp_path / "room", range(1))
    (folder / "pose" / "0.txt").write_text("0.6001 -0.8 0 1\n0.8 0.5999 0 2\n0 0 1.0002 3\n0 0 0 1")
    [(_, pose)] = SceneFrames(folder, view_split="all").spread(1)
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(pose[:3], [[0.6, -0.8, 0, 1], [0.8, 0.6, 0, 2], [0, 0, 1, 3]], atol=2e-4)


def test_too_few_frames_for_a_held_out_one_is_an_error(tmp_path):
    folder = make_scene(tmp_path / "room", range(5))
    with pytest.raises(ValueError, match=r"view_split 'heldout': got none of 0 \(nothing is listed\)"):
        SceneFrames(folder, view_split="heldout")


def test_names_that_are_no_number_and_doubled_files_are_errors(tmp_path):
    folder = make_scene(tmp_path / "room", range(3))
    (folder / "color" / "Thumbs.db").touch()  # no image: not a frame
    SceneFrames(folder, view_split="all")
    (folder / "color" / "2.png").touch()
    with pytest.raises(ValueError, match=r"A frame must have one file in .*color: found several for '2'"):
        SceneFrames(folder, view_split="all")
    (folder / "color" / "2.png").rename(folder / "color" / "frame-2.png")
    with pytest.raises(ValueError, match=r"Frames must be named by a number, such as 12.jpg: found 'frame-2'"):
        SceneFrames(folder, view_split="all")


def test_a_missing_folder_is_named(tmp_path):
    folder = make_scene(tmp_path / "room", range(3))
    for file in (folder / "pose").iterdir():
        file.unlink()
    (folder / "pose").rmdir()
    with pytest.raises(FileNotFoundError, match=r"needs the folders color, depth and pose: .*pose does not exist"):
        SceneFrames(folder, view_split="all")


def test_frames_fused_with_another_rule_are_refused(tmp_path):
    folder = make_scene(tmp_path / "room", range(12))
    (folder / "scene.json").write_text(json.dumps({"holdout_every": 5}))
    with pytest.raises(
        ValueError, match=r"held-out frames leak.*scene.json says 5, the data set 8. Set holdout_every=5"
    ):
        SceneFrames(folder, view_split="train")
    assert names(SceneFrames(folder, view_split="heldout", holdout_every=5).spread(9)) == ["4", "9"]
    (folder / "scene.json").write_text("{")
    with pytest.raises(ValueError, match=r"scene.json must hold a JSON object"):
        SceneFrames(folder, view_split="train")


def test_skip_list_leaves_frames_out_without_moving_ranks(tmp_path, caplog):
    path = tmp_path / "skip.lst"
    path.write_text("room 2\nroom 007\n\nother 1\n")
    skip = read_skip_list(path)
    assert skip == {"room": ["2", "007"], "other": ["1"]}
    assert read_skip_list(tmp_path / "none.lst") == {}
    folder = make_scene(tmp_path / "room", range(16))
    assert names(SceneFrames(folder, view_split="heldout", skip=skip["room"]).spread(9)) == ["15"]
    assert "2" not in draw_all(SceneFrames(folder, view_split="train", skip=skip["room"]))
    assert not caplog.records
    path.write_text("room 2\nroom\n")
    with pytest.raises(
        ValueError, match=r"Each line of .*skip.lst must be a scene and a frame number: line 2 is 'room'"
    ):
        read_skip_list(path)
