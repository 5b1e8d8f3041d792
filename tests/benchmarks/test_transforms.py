"""The benchmark of the training pipeline compares two pipelines that do the same work."""

import numpy as np

from benchmarks.transforms import as_sample, measure, pipeline, room, run


def test_both_pipelines_do_the_same_work():
    rows, figures = measure(3000, 1, always=True)
    assert len(rows) == len(pipeline(True)) and all(seconds >= 0 for _, *pair in rows for seconds in pair)
    assert figures["points"] == 3000 and 2000 < figures["points_out"] <= 2400
    assert figures["pipeline_speedup"] == figures["plain_pipeline_ms"] / figures["pipeline_ms"]


def test_the_steps_without_chance_give_the_same_numbers():
    arrays = room(2000)
    steps = [step for step in pipeline(True) if step[0] in ("CenterShift", "CenterShift xy")]
    _, ours = run([step for _, step, _ in steps], as_sample(arrays), 0)
    _, plain = run([step for _, _, step in steps], {key: value.copy() for key, value in arrays.items()}, 0)
    np.testing.assert_allclose(ours.coord, plain["coord"], atol=1e-5)
    assert abs(ours.coord[:, 2].min()) < 1e-6
