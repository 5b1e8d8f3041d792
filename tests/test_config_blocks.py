"""The blocks that configs share: what each argument changes, against pipelines written out."""

from pointcept.config.blocks import scaled_variants, scene_transforms, sweep_transforms, turned_variants, usual_hooks

LABELLED = ("coord", "grid_coord", "segment", "name", "condition")


def types(transforms: list[dict]) -> list[str]:
    return [transform["type"] for transform in transforms]


def test_scene_transforms_written_out() -> None:
    transforms = scene_transforms(0.05, ("color",), crops=[dict(sample_rate=0.6), dict(point_max=9)], elastic=True)
    chromatic = ["ChromaticAutoContrast", "ChromaticTranslation", "ChromaticJitter"]
    ready = ["CenterShift", "NormalizeColor", "ShufflePoint", "Collect"]
    assert types(transforms["train"]) == [
        *["CenterShift", "RandomDropout", "RandomRotate", "RandomRotate", "RandomRotate", "RandomScale", "RandomFlip"],
        *["RandomJitter", "ElasticDistortion", *chromatic, "GridSample", "SphereCrop", "SphereCrop", *ready],
    ]
    assert [step["axis"] for step in transforms["train"][2:5]] == ["z", "x", "y"]
    assert transforms["train"][12:15] == [
        dict(type="GridSample", grid_size=0.05),
        dict(type="SphereCrop", mode="random", sample_rate=0.6),
        dict(type="SphereCrop", mode="random", point_max=9),
    ]
    assert transforms["val"] == [
        dict(type="CenterShift", apply_z=True),
        dict(type="GridSample", grid_size=0.05, return_inverse=True),
        dict(type="CenterShift", apply_z=False),
        dict(type="NormalizeColor"),
        dict(type="Collect", feat_keys=("color",), keys=LABELLED),
    ]
    # What the final evaluation does before and after it cuts a scene into fragments adds up to the validation.
    assert types(transforms["test"] + transforms["fragment"]) == [
        "CenterShift",
        "NormalizeColor",
        "CenterShift",
        "Collect",
    ]
    assert "segment" not in transforms["fragment"][-1]["keys"]


def test_tilt_distortion_and_crops_are_left_out_alone() -> None:
    full = scene_transforms(0.05, ("color",), crops=[dict(point_max=9)], elastic=True)
    plain = scene_transforms(0.05, ("color",), tilt=False)
    tilts = full["train"][3:5]
    left_out = [step for step in full["train"] if step["type"] in ("ElasticDistortion", "SphereCrop") or step in tilts]
    assert len(left_out) == 4
    assert plain["train"] == [step for step in full["train"] if step not in left_out]
    assert {**plain, "train": None} == {**full, "train": None}


def test_sweeps_are_clipped_wherever_they_are_read() -> None:
    box = (-35.2, -35.2, -4, 35.2, 35.2, 2)
    clipped, free = (
        sweep_transforms(0.05, ("coord", "strength"), clip_range=box_or_none) for box_or_none in (box, None)
    )
    clip = dict(type="PointClip", point_cloud_range=box)
    assert [clipped[key].index(clip) for key in ("train", "val", "test")] == [1, 0, 0]
    assert {key: [step for step in steps if step != clip] for key, steps in clipped.items()} == free
    assert types(free["train"]) == [
        "RandomRotate",
        "RandomScale",
        "RandomFlip",
        "RandomJitter",
        "GridSample",
        "Collect",
    ]


def test_variants_of_the_final_evaluation() -> None:
    turned, scaled = turned_variants(), scaled_variants()
    assert [(v[0]["angle"][0], v[1]["scale"][0]) for v in turned[:5]] == [
        *[(0, 1.0), (0.5, 1.0), (1, 1.0), (1.5, 1.0)],
        (0, 0.95),
    ]
    assert len(turned) == 13 and turned[-1] == [dict(type="RandomFlip", p=1.0)]
    assert [v[0]["scale"] for v in scaled] == [(s, s) for s in (0.9, 0.95, 1.0, 1.05, 1.1)] * 2
    assert [len(v) for v in scaled] == [1] * 5 + [2] * 5


def test_hooks_evaluate_before_they_draw_and_save_last() -> None:
    evaluator, panels = dict(type="DepthEvaluator"), dict(type="TaskPanelWriter", num_views=8)
    hooks = usual_hooks(evaluator, panels, save_every_minutes=5.0)
    assert types(hooks[:4]) == ["CheckpointLoader", "IterationTimer", "InformationWriter", "TensorBoardWriter"]
    assert hooks[4:] == [
        dict(type="EvaluationHook", evaluator=evaluator),
        panels,
        dict(type="CheckpointSaver", save_every_minutes=5.0),
    ]
