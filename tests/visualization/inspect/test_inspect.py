"""What the inspection measures, and the folder and command around it."""

import base64
import gzip
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pointcept.engines.checkpoint import save_checkpoint
from pointcept.rendering.rays import make_rays
from pointcept.structures import CameraBatch
from pointcept.visualization.inspect import find_checkpoints, inspect_experiment, open_experiment
from pointcept.visualization.inspect.__main__ import main
from pointcept.visualization.inspect.figures import FeatureColors, normal_error, view_figures
from pointcept.visualization.inspect.measure import (
    ViewPictures,
    measured_views,
    observe,
    ray_pixels,
    target_features,
    thumbnails,
)
from pointcept.visualization.inspect.page import length_unit_m, pack, write_page

KINDS = {"uint8": np.uint8, "int8": np.int8, "uint16": np.uint16, "int16": np.int16, "int32": np.int32}


def arrays_in(page: str, block: dict) -> dict[str, np.ndarray]:
    """The arrays of a block, read as the page's script reads them."""
    text = re.search(f'id="{block["id"]}">([^<]*)<', page)[1]
    content = gzip.decompress(base64.b64decode(text))
    kinds = {**KINDS, "float32": np.float32}
    return {
        entry["name"]: np.frombuffer(
            content, kinds[entry["dtype"]], int(np.prod(entry["shape"])), entry["offset"]
        ).reshape(entry["shape"])
        for entry in block["arrays"]
    }


def facts_of(page: str) -> dict:
    return json.loads(re.search(r'id="facts">(.*?)</script>', page, re.DOTALL)[1])


def constant_view(color=0.5, depth=2.0, normal=(0.0, 0, -1), feature=None) -> ViewPictures:
    feature = None if feature is None else np.broadcast_to(np.float32(feature), (4, 6, len(feature)))
    return ViewPictures(
        color=np.full((4, 6, 3), color, np.float32),
        depth=np.full((4, 6), depth, np.float32),
        normal=np.broadcast_to(np.float32(normal), (4, 6, 3)),
        opacity=np.ones((4, 6), np.float32),
        feature=feature,
    )


def test_thumbnails_keep_every_point_at_its_place():
    generator = torch.Generator().manual_seed(0)
    cameras = CameraBatch(
        image=torch.rand(1, 1, 3, 9, 14, generator=generator),
        depth=torch.rand(1, 1, 9, 14, generator=generator),
        intrinsic=torch.tensor([[[[20.0, 0, 6.2], [0, 21, 4.1], [0, 0, 1]]]]),
        extrinsic=torch.eye(4)[None, None],
        size_px=torch.tensor([[[9, 14]]]),
    )
    small = thumbnails(cameras, 5)  # a third: 3 x 4
    assert small.size_px.tolist() == [[[3, 4]]] and tuple(small.image.shape) == (1, 1, 3, 3, 4)
    torch.testing.assert_close(small.image[0, 0, :, 1, 2], cameras.image[0, 0, :, 3:6, 6:9].mean(dim=(1, 2)))
    assert small.depth[0, 0, 1, 2] == cameras.depth[0, 0, 4, 7]  # the middle one of its block
    point = torch.tensor([0.3, -0.1, 2.0])
    pixel = [(k[0, 0] @ point / point[2])[:2] for k in (cameras.intrinsic, small.intrinsic)]
    torch.testing.assert_close(pixel[1], (pixel[0] - 1) / 3)  # pixel 1 of 0, 1, 2 is the middle of the first block
    assert thumbnails(cameras, 14) is cameras


def test_rays_lie_on_a_regular_grid_inside_the_view():
    np.testing.assert_array_equal(ray_pixels(4, 6, 6), [[1, 1], [3, 1], [5, 1], [1, 3], [3, 3], [5, 3]])
    assert len(ray_pixels(3, 5, 1000)) == 15  # never more than there are pixels
    pixels = ray_pixels(120, 160, 600)
    assert 550 <= len(pixels) <= 650 and pixels.min() >= 0 and (pixels < (160, 120)).all()


def test_figures_of_views_worked_by_hand():
    exact = view_figures(constant_view(), constant_view())
    assert exact == pytest.approx({"psnr": 100, "abs_rel": 0, "rmse": 0, "delta1": 1, "normal_deg": 0}, abs=1e-4)
    off = view_figures(
        constant_view(color=0.6, depth=2.5, normal=(0, -1.0, 0), feature=(1, 1)),
        constant_view(feature=(3, 0)),
    )
    assert off["psnr"] == pytest.approx(20, abs=1e-4) and off["abs_rel"] == pytest.approx(0.25)
    assert off["normal_deg"] == pytest.approx(90) and off["feature_cosine"] == pytest.approx(0.5**0.5)
    assert set(view_figures(constant_view(), constant_view(depth=0.0, normal=(0, 0, 0)))) == {"psnr"}
    assert np.isnan(normal_error(constant_view(), constant_view(normal=(0, 0, 0)))).all()


def test_features_are_coloured_by_their_principal_components():
    generator = np.random.default_rng(0)
    axes = np.linalg.qr(generator.normal(size=(8, 8)))[0]
    weights = generator.uniform(-1, 1, size=(20, 30, 3)) * (0.4, 0.2, 0.1)
    feature = (axes[:, 3] * 3 + weights @ axes[:, :3].T).astype(np.float32)
    feature[0, 0] = 0
    colors = FeatureColors([feature])(feature)
    np.testing.assert_array_equal(colors[0, 0], 0)
    for channel in range(3):
        correlation = np.corrcoef(colors[1:, :, channel].ravel(), weights[1:, :, channel].ravel())[0, 1]
        assert abs(correlation) > 0.97
    assert colors.min() == 0 and colors.max() == 1
    np.testing.assert_allclose(FeatureColors([5 * feature])(7 * feature), colors, atol=1e-5)  # lengths do not matter
    assert FeatureColors([feature[..., :2]])(feature[..., :2]).shape == (20, 30, 3)
    with pytest.raises(ValueError, match="need at least one that is not zero"):
        FeatureColors([np.zeros((2, 2, 4))])


def test_blocks_hold_the_arrays_and_the_page_needs_nothing_else():
    arrays = {"a": np.arange(5, dtype=np.uint8), "b": np.array([[1, -2], [3, 40000]], np.int32)}
    block = pack("x", arrays)
    page = write_page('<b> & "title"', {"name": "</script><b>"}, [block])
    found = arrays_in(page, block.reference)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    assert facts_of(page)["name"] == "</script><b>"
    assert "{{" not in page and "<title>&lt;b&gt; &amp; &quot;title&quot;</title>" in page
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"|https?://|@import|url\(', page) == []


def test_the_unit_of_lengths_grows_where_millimetres_would_not_fit():
    assert length_unit_m(60.0) == 0.001 and length_unit_m(100.0) == 0.002 and length_unit_m(250.0) == 0.004


@pytest.fixture(scope="module", params=["experiment_folder", "image_experiment_folder"])
def observed(request):
    folder = request.getfixturevalue(request.param)
    experiment = open_experiment(folder)
    experiment.load(find_checkpoints(folder)[-1])
    batch = experiment.batch(experiment.scene_names[0])
    return experiment, batch, observe(experiment.model, batch)


def test_samples_of_rays_add_up_to_the_rendering(observed):
    experiment, batch, state = observed
    with torch.no_grad():
        output = experiment.model(batch)
    rays, view = state.rays[0], state.views[0]
    assert rays.weight.shape[1] in (12, 18) and len(rays.pixel) > 500
    column, row = rays.pixel[rays.valid].T
    np.testing.assert_allclose(view.color, output["color"][0, 0].permute(1, 2, 0).numpy(), atol=1e-6)
    color = (rays.weight[..., None] * rays.color).sum(axis=1)[rays.valid]
    np.testing.assert_allclose(color.clip(0, 1), view.color[row, column], atol=2e-4)
    np.testing.assert_allclose(rays.weight.sum(axis=1)[rays.valid], view.opacity[row, column], atol=1e-4)
    assert (np.diff(rays.distance, axis=1) >= 0).all()
    # Rendered and measured distance are those of the depths, longer by one over the cosine to the optical axis.
    target = measured_views(batch.cameras)[0].depth[row, column]
    seen = target > 0
    ratio = rays.measured[rays.valid][seen] / target[seen]
    assert (ratio >= 1 - 1e-5).all()
    np.testing.assert_allclose(rays.rendered[rays.valid][seen], view.depth[row, column][seen] * ratio, rtol=1e-4)


def test_signed_distances_surface_and_samples_agree(observed):
    _, batch, state = observed
    assert len(state.surface.vertices) > 50
    slack = 0.1 * np.abs(state.sdf).max()  # the surface was cut from a coarser grid
    low, high = corner_values(state, state.surface.vertices)
    assert ((low <= slack) & (high >= -slack)).all()
    rays, cameras = state.rays[0], batch.cameras
    pixel = torch.from_numpy(rays.pixel)[None, None]
    lines, _, _ = make_rays(cameras, torch.from_numpy(state.box)[None], pixel)
    place = lines.origins[0, :, None] + lines.directions[0, :, None] * torch.from_numpy(rays.distance)[..., None]
    chosen = rays.valid[:, None] & np.ones_like(rays.sdf, bool)
    low, high, inside = corner_values(state, place.numpy()[chosen], with_mask=True)
    sdf = rays.sdf[chosen][inside]
    assert inside.sum() > 1000 and ((low - slack <= sdf) & (sdf <= high + slack)).all()


def corner_values(state, positions, with_mask=False):
    """Smallest and largest grid value around each position inside the grid."""
    index = (positions - state.sdf_origin) / state.sdf_spacing_m
    size = np.array(state.sdf.shape[::-1])
    inside = ((index >= 0) & (index <= size - 1)).all(axis=1)
    low = np.floor(index[inside]).astype(int).clip(0, size - 2)
    offsets = itertools.product((0, 1), repeat=3)
    corners = np.stack([state.sdf[low[:, 2] + k, low[:, 1] + j, low[:, 0] + i] for i, j, k in offsets])
    found = corners.min(axis=0), corners.max(axis=0)
    return (*found, inside) if with_mask else found


def test_target_features_are_the_teachers(experiment_folder):
    experiment = open_experiment(experiment_folder)
    batch = experiment.batch(experiment.scene_names[0])
    small = thumbnails(batch.cameras, 16)
    feature = target_features(experiment.model, batch.cameras, small)
    assert feature.shape == (1, 12, 16, 64)
    maps = experiment.model.feature_targets(batch.cameras)[0, 0]  # 2 x 3 cells
    expected = torch.nn.functional.interpolate(maps[None], size=(12, 16), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(feature[0], expected[0].permute(1, 2, 0).numpy(), atol=1e-5)


def test_target_features_of_labels_are_their_classes_embeddings(image_experiment_folder):
    experiment = open_experiment(image_experiment_folder)
    cameras = experiment.batch(experiment.scene_names[0]).cameras
    feature = target_features(experiment.model, cameras, cameras)
    segment = cameras.segment[0].numpy()
    assert (segment < 0).any() and (segment > 0).any()
    np.testing.assert_array_equal(feature.sum(axis=-1), segment >= 0)
    np.testing.assert_array_equal(feature.argmax(axis=-1)[segment >= 0], segment[segment >= 0])
    assert target_features(experiment.model, cameras, cameras.replace(segment=None)) is None


def test_a_field_without_features_has_none(experiment_folder):
    options = ["model.losses=[{'type': 'ColorLoss'}]", "model.teacher=None", "model.renderer.field.feature_channels=0"]
    experiment = open_experiment(experiment_folder, options=options)
    batch = experiment.batch(experiment.scene_names[0])
    assert observe(experiment.model, batch).views[0].feature is None
    assert target_features(experiment.model, batch.cameras, batch.cameras) is None


def test_a_teacher_that_cannot_be_had_costs_only_its_pictures(experiment_folder, tmp_path, caplog):
    options = [f"model.teacher.checkpoint={tmp_path / 'gone.pth'}", "model.teacher.random_weights=False"]
    experiment = open_experiment(experiment_folder, options=options)
    checkpoints = find_checkpoints(experiment_folder)[-1:]
    page = inspect_experiment(experiment, checkpoints, experiment.scene_names[:1], tmp_path / "out").read_text()
    assert "Target features are left out" in caplog.text and "gone.pth" in caplog.text
    (scene,) = facts_of(page)["scenes"]
    assert "view0_feature" not in arrays_in(page, scene["target"])
    assert "view0_feature" in arrays_in(page, scene["steps"][0]["block"])


def test_the_command_writes_a_page_and_pictures(experiment_folder, tmp_path, capsys):
    output = tmp_path / "out"
    main([str(experiment_folder), "--output", str(output), "--device", "cpu"])
    assert capsys.readouterr().out == f"{output / 'index.html'}\n"
    page = (output / "index.html").read_text()
    assert len(page) < 10e6
    facts = facts_of(page)
    (scene,) = facts["scenes"]
    assert [step["label"] for step in scene["steps"]] == ["step 0", "step 40", "step 120"]
    assert "SparseUNet in a PointVolumeEncoder" in facts["about"] and "color_loss" in facts["about"]

    experiment = open_experiment(experiment_folder)
    batch = experiment.batch(scene["name"])
    measured = measured_views(batch.cameras)
    target = arrays_in(page, scene["target"])
    np.testing.assert_array_equal(target["view0_color"], np.round(measured[0].color * 255))
    np.testing.assert_array_equal(target["view0_depth"], np.round(measured[0].depth * 1000))
    psnr = [step["figures"][0]["psnr"] for step in scene["steps"]]
    assert len(set(psnr)) == 3  # each step has its own weights
    experiment.load(find_checkpoints(experiment_folder)[1])
    state = observe(experiment.model, batch)
    arrays = arrays_in(page, scene["steps"][1]["block"])
    assert all(step["figures"][0]["feature_cosine"] < 1 for step in scene["steps"]) and facts["features"] == "teacher"
    assert psnr[1] == pytest.approx(view_figures(state.views[0], measured[0])["psnr"], abs=1e-3)
    np.testing.assert_allclose(arrays["view0_color"], state.views[0].color * 255, atol=0.51)
    np.testing.assert_allclose(arrays["view0_ray_weight"] / 65535, state.rays[0].weight, atol=1e-4)
    np.testing.assert_allclose(arrays["view0_ray_sdf"] / 1000, state.rays[0].sdf, atol=1e-3)
    limit = scene["sdf"]["limit_m"]
    np.testing.assert_allclose(arrays["sdf"] / 127 * limit, state.sdf.clip(-limit, limit), atol=0.0025)
    box = np.array(scene["box"]).reshape(2, 3)
    vertices = box[0] + arrays["surface_vertices"] / 65535 * (box[1] - box[0])
    np.testing.assert_allclose(vertices, state.surface.vertices, atol=1e-3)
    faces = np.cumsum(arrays["surface_faces"].astype(np.int64)).reshape(-1, 3)
    np.testing.assert_array_equal(faces, state.surface.faces)

    pictures = sorted(path.relative_to(output).as_posix() for path in output.rglob("*.png"))
    assert pictures == [
        f"{scene['name']}/step_{step}/{name}.png" for step in (0, 120, 40) for name in ("surface", "view0")
    ]
    panel = np.asarray(Image.open(output / scene["name"] / "step_120/view0.png"))
    assert panel.shape[1] > panel.shape[0] > 500


def test_an_image_backbone_is_shown_with_its_input_views(image_experiment_folder, tmp_path):
    experiment = open_experiment(image_experiment_folder)
    checkpoints = find_checkpoints(image_experiment_folder)
    page = inspect_experiment(experiment, checkpoints, experiment.scene_names, tmp_path).read_text()
    scenes = facts_of(page)["scenes"]
    assert [scene["name"] for scene in scenes] == list(experiment.scene_names) and len(scenes) == 2
    assert [view["is_input"] for view in scenes[0]["views"]] == [False, True, True]
    assert facts_of(page)["features"] == "class"
    assert "feature_cosine" in scenes[0]["steps"][0]["figures"][0]


def test_checkpoints_are_ordered_by_step_and_none_counts_twice(tmp_path):
    weights = {"state_dict": {"w": torch.zeros(1)}}
    (tmp_path / "model").mkdir()
    for name, step in (("epoch_2", 90), ("epoch_10", 450), ("model_last", 450), ("model_best", 90)):
        save_checkpoint(tmp_path / "model" / f"{name}.pth", {**weights, "step": step})
    assert [c.step for c in find_checkpoints(tmp_path)] == [90, 450]
    (tmp_path / "snapshots").mkdir()
    for step in range(0, 500, 50):
        save_checkpoint(tmp_path / "snapshots" / f"step_{step:06d}.pth", {**weights, "step": step})
    assert [c.step for c in find_checkpoints(tmp_path)] == [0, 100, 150, 200, 300, 400, 450]
    assert [c.path.parent.name for c in find_checkpoints(tmp_path, limit=20)] == ["snapshots"] * 10
    save_checkpoint(tmp_path / "other.pth", weights)
    given = find_checkpoints(tmp_path, ["model_best", "step_000050", tmp_path / "other.pth"], limit=1)
    assert [(c.step, c.label) for c in given] == [(50, "step 50"), (90, "step 90"), (None, "other")]
    with pytest.raises(FileNotFoundError, match=r"found no step_00005 in .*Did you mean 'step_0000[05]0'"):
        find_checkpoints(tmp_path, ["step_00005"])


def test_folders_that_cannot_be_inspected_are_explained(experiment_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"pointz does not exist. Did you mean '.*points'"):
        open_experiment(experiment_folder.parent / "pointz")
    with pytest.raises(FileNotFoundError, match=r"must hold its config.py: .*snapshots has none"):
        open_experiment(experiment_folder / "snapshots")
    with pytest.raises(ValueError, match=r"must be one of the config's data: got 'test'. It has \['train', 'val'"):
        open_experiment(experiment_folder, split="test")
    experiment = open_experiment(experiment_folder)
    name = experiment.scene_names[0]
    with pytest.raises(ValueError, match=f"got '{name}x'. Did you mean .*'{name}'"):
        experiment.batch(f"{name}x")
    without_views = open_experiment(experiment_folder, options=["data.val.num_views=0"])
    with pytest.raises(ValueError, match=r"comes without\. Set num_views"):
        without_views.batch(name)
    with pytest.raises(FileNotFoundError, match="neither snapshots/step_"):
        find_checkpoints(tmp_path)
    backbone = "model={'type': 'SpUNet-v1m1', 'in_channels': 6}"
    with pytest.raises(ValueError, match=r"\(model type Ponder\) can be inspected: .*points trained a SparseUNet"):
        open_experiment(experiment_folder, options=[backbone])


def test_the_command_ends_with_an_explanation(tmp_path):
    with pytest.raises(SystemExit, match=r"error: An experiment must"):
        main([str(tmp_path / "nowhere")])
    assert not Path(tmp_path / "nowhere").exists()
