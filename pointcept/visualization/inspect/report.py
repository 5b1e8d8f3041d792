"""From an experiment to its page: every chosen scene at every chosen checkpoint."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pointcept.models.pretraining import Ponder
from pointcept.structures import CameraBatch, SceneBatch
from pointcept.utils.files import write_text
from pointcept.visualization.inspect.experiment import Checkpoint, Experiment
from pointcept.visualization.inspect.figures import FeatureColors, view_figures
from pointcept.visualization.inspect.measure import (
    PICTURE_EDGE_PX,
    SceneState,
    ViewPictures,
    feature_kind,
    measured_views,
    observe,
    target_features,
    thumbnails,
)
from pointcept.visualization.inspect.page import (
    SDF_LIMIT_M,
    Block,
    length_unit_m,
    measured_arrays,
    pack,
    rendered_arrays,
    write_page,
)
from pointcept.visualization.inspect.pictures import write_pictures
from pointcept.visualization.panels import depth_range

MAX_CLOUD_POINTS = 8000
_SLICE_START_M = 1.0  # above the floor: through tables and beds
_logger = logging.getLogger("pointcept")


def inspect_experiment(
    experiment: Experiment, checkpoints: Sequence[Checkpoint], scenes: Sequence[str], output: str | Path
) -> Path:
    """Writes ``index.html``, and pictures of every scene and checkpoint, into a folder.

    Args:
        experiment: What has been trained.
        checkpoints: Moments of the run, in their order.
        scenes: Names of the scenes to show.
        output: The folder; made as needed.

    Returns:
        Path of the page.

    Raises:
        ValueError: a scene or a checkpoint does not suit the experiment.
    """
    output = Path(output)
    batches, measured = {}, {}
    for scene in scenes:
        batch = experiment.batch(scene)
        batches[scene] = _prepared(batch)
        feature = _target_features(experiment.model, batch.cameras, batches[scene].cameras)
        measured[scene] = measured_views(batches[scene].cameras, feature)
    units = {scene: length_unit_m(_longest_m(batch)) for scene, batch in batches.items()}
    features: dict[str, FeatureColors | None] = {}
    entries: dict[str, list[dict[str, Any]]] = {scene: [] for scene in scenes}
    blocks: list[Block] = []
    with tqdm(total=len(checkpoints) * len(scenes), desc="Rendering", unit="scene", dynamic_ncols=True) as progress:
        # The last checkpoint first: its features choose the colours of all.
        for index, checkpoint in reversed(list(enumerate(checkpoints))):
            experiment.load(checkpoint)
            for number, scene in enumerate(scenes):
                state = observe(experiment.model, batches[scene])
                if scene not in features:
                    features[scene] = _feature_colors(state, measured[scene])
                figures = [view_figures(*pair) for pair in zip(state.views, measured[scene], strict=True)]
                arrays = rendered_arrays(state, measured[scene], features[scene], units[scene])
                block = pack(f"scene{number}-step{index}", arrays)
                entry = {"label": checkpoint.label, "step": checkpoint.step, "figures": figures}
                entries[scene].insert(0, {**entry, "block": block.reference, "state": _grid_facts(state)})
                blocks.append(block)
                folder = output / _file_name(scene) / _file_name(checkpoint.label)
                write_pictures(folder, state, measured[scene], figures, features[scene])
                progress.update()
    scene_facts = []
    for number, scene in enumerate(scenes):
        arrays = measured_arrays(measured[scene], _cloud(batches[scene]), features[scene], units[scene])
        block = pack(f"scene{number}-target", arrays)
        blocks.append(block)
        grid = entries[scene][-1]["state"]
        steps = [{key: value for key, value in entry.items() if key != "state"} for entry in entries[scene]]
        views = _view_facts(batches[scene], measured[scene])
        grid["unit_m"] = units[scene]
        scene_facts.append({"name": scene, "views": views, "steps": steps, "target": block.reference, **grid})
    page = output / "index.html"
    kind = feature_kind(experiment.model)
    facts = {"about": _about(experiment), "notes": _notes(experiment), "features": kind, "scenes": scene_facts}
    write_text(page, write_page(f"Inspection of {_title(experiment.folder)}", facts, blocks))
    _logger.info("Wrote %s (%.1f MB).", page, page.stat().st_size / 1e6)
    return page


def _prepared(batch: SceneBatch) -> SceneBatch:
    """The batch with views small enough for a page; an encoder of images still sees its input views as they are."""
    inputs = batch.cameras if batch.inputs is None else batch.inputs
    return batch.replace(cameras=thumbnails(batch.cameras), inputs=inputs)


def _target_features(model: Ponder, cameras: CameraBatch, shown: CameraBatch) -> np.ndarray | None:
    try:
        return target_features(model, cameras, shown)
    except FileNotFoundError as error:  # the rest of the page needs no teacher
        _logger.warning("Target features are left out: %s", error)
        return None


def _feature_colors(state: SceneState, measured: Sequence[ViewPictures]) -> FeatureColors | None:
    """Colours taken from the target features where there are any, otherwise from the rendered ones."""
    for views in (measured, state.views):
        features = [view.feature for view in views if view.feature is not None]
        if any(np.any(feature != 0) for feature in features):
            return FeatureColors(features)
    return None


def _grid_facts(state: SceneState) -> dict[str, Any]:
    floor = float(state.box[0, 2])
    top = float(state.sdf_origin[2]) + (state.sdf.shape[0] - 1) * state.sdf_spacing_m
    return {
        "box": state.box.reshape(-1).astype(float).round(4).tolist(),
        "sdf": {
            "origin": state.sdf_origin.astype(float).round(4).tolist(),
            "spacing_m": state.sdf_spacing_m,
            "limit_m": SDF_LIMIT_M,
            "start_m": min(floor + _SLICE_START_M, (floor + top) / 2),
        },
    }


def _view_facts(batch: SceneBatch, measured: Sequence[ViewPictures]) -> list[dict[str, Any]]:
    """Cameras of the rendered views, and then of the views that an encoder of images saw besides them."""
    facts = [{**fact, "is_input": False} for fact in _camera_facts(batch.cameras)]
    for fact, view in zip(facts, measured, strict=True):
        fact["depth_range"] = list(depth_range(view.depth[view.depth > 0]))
    if not _same_poses(batch.inputs, batch.cameras):
        facts += [{**fact, "is_input": True} for fact in _camera_facts(batch.inputs)]
    return facts


def _camera_facts(cameras: CameraBatch) -> list[dict[str, Any]]:
    return [
        {
            "height": height,
            "width": width,
            "intrinsic": cameras.intrinsic[0, view].flatten().double().tolist(),
            "extrinsic": cameras.extrinsic[0, view].flatten().double().tolist(),
        }
        for view, (height, width) in enumerate(cameras.size_px[0].tolist())
    ]


def _same_poses(one: CameraBatch, other: CameraBatch) -> bool:
    return one.extrinsic.shape == other.extrinsic.shape and bool((one.extrinsic == other.extrinsic).all())


def _cloud(batch: SceneBatch) -> np.ndarray:
    if batch.points is None:
        return np.zeros((0, 3), dtype=np.float32)
    coord = batch.points.coord.cpu().numpy()
    return coord[:: -(-len(coord) // MAX_CLOUD_POINTS) or 1]


def _longest_m(batch: SceneBatch) -> float:
    """A bound of what rays measure: twice the largest measured depth (corners are farther than the middle), or 60 m."""
    return max(60.0, 2 * float(batch.cameras.depth.max()))


def _about(experiment: Experiment) -> str:
    model = experiment.model
    backbone = getattr(model.encoder, "backbone", model.encoder)
    num_values = sum(value.numel() for value in model.parameters())
    losses = ", ".join(loss.name for loss in model.losses)
    return (
        f"{type(backbone).__name__} in a {type(model.encoder).__name__}, {num_values / 1e6:.2f} M parameters. "
        f"Trained with {losses}."
    )


def _notes(experiment: Experiment) -> str:
    return (
        f"Pictures have at most {PICTURE_EDGE_PX} pixels along an edge, and figures are of these pictures, so they can "
        "differ a little from the scores of the whole images. Surfaces are cut off where nothing was observed. "
        f"Signed distances are shown up to {SDF_LIMIT_M} m. Lengths are metres in the world frame of the sample, z up. "
        f"Written from {experiment.folder.name}."
    )


def _title(folder: Path) -> str:
    parts = folder.resolve().parts
    return "/".join(parts[-2:]) if len(parts) > 2 else folder.name


def _file_name(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text)
