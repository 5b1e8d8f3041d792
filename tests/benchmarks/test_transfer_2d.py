from pathlib import Path

import pytest

from benchmarks.transfer_2d import (
    FIGURES,
    LABELS,
    PRESETS,
    TASKS,
    plot,
    pretraining_overrides,
    summary,
    table,
    tuning_overrides,
)
from pointcept.config import load_config, validate_config


def make_results():
    figures = {"scratch": [0.1, 0.3], "pre-trained": [0.4, 0.4]}
    runs = [
        {"network": "net", "task": task, "labels": "10 %", "start": start, "seed": seed, **dict.fromkeys(names, value)}
        for task, names in FIGURES.items()
        for start, values in figures.items()
        for seed, value in enumerate(values)
    ]
    return {"pretraining": {}, "runs": runs}


def test_means_spreads_and_gains_by_hand():
    depth, scaled, segmentation, accuracy = summary(make_results())
    assert (depth["figure"], scaled["figure"], accuracy["figure"]) == ("abs_rel", "abs_rel_scaled", "allAcc")
    assert (depth["task"], segmentation["task"]) == ("depth", "segmentation") and depth["seeds"] == 2
    assert depth["scratch"] == pytest.approx((0.2, 0.02**0.5)) and depth["pre-trained"] == pytest.approx((0.4, 0.0))
    assert depth["gain"] == pytest.approx(-0.2)  # a larger error is a loss
    assert segmentation["gain"] == pytest.approx(0.2)


def test_the_table_says_what_it_was_measured_on():
    text = table(summary(make_results()), PRESETS["small"])
    assert text.startswith("A small comparison: 100 synthetic rooms with images of 64 x 96 pixels, 1000 steps")
    assert "| net | segmentation, mIoU up | 10 % | 0.200 ± 0.141 | 0.400 ± 0.000 | +0.200 |" in text


def test_a_plot_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    plot(summary(make_results()), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_both_presets_make_whole_configs_with_equal_steps_for_all_labels(preset):
    rooms = Path("rooms")
    for network in preset.networks:
        options = pretraining_overrides(preset, network, rooms)
        settings = validate_config(load_config("demo/pretrain-ponder2d-convnext", options))
        assert settings.epoch == preset.pretraining_passes
        for task, config in TASKS.items():
            counts = set()
            for labels in LABELS:
                options = tuning_overrides(preset, network, rooms, task, labels, Path("run.pth"))
                settings = validate_config(load_config(config, options))
                train = settings.data["train"]
                counts.add(round(train["num_train"] * train["fraction"]) * train["loop"])
                assert settings.weight == "run.pth"
            assert counts == {preset.num_rooms}
