"""Pictures of what the transfer tasks predict, beside what they should."""

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from pointcept.datasets.labels import SCANNET20_NAMES, scannet20_colors
from pointcept.engines.hooks.panels import PanelWriter
from pointcept.registry import HOOKS
from pointcept.structures import CameraBatch, SceneBatch
from pointcept.visualization.colormaps import (
    MISSING_COLOR,
    depth_to_color,
    enlarge,
    image_to_color,
    normal_to_color,
    value_to_color,
)
from pointcept.visualization.panels import MIN_TILE_WIDTH, depth_range, scale_tile, tile_grid
from ponder2d.transfer.dense import task_views
from ponder2d.transfer.normals import plane_normals
from ponder2d.transfer.occupancy import occupancy_labels

Panel = tuple[str, UInt8[np.ndarray, "_H _W 3"]]
_WORST_REL = 0.5
_SLICES = (0.2, 0.5, 0.8)


@HOOKS.register()
class TaskPanelWriter(PanelWriter):
    """Saves pictures of the first views of an evaluation: input, target, prediction and error.

    They are those of the task whose predictions the model gives. Of occupancy there is one picture per scene,
    horizontal slices of the volume: white is free, grey unknown.

    Args:
        every: evaluations between two sets of pictures; the last evaluation always has one.
        num_views: pictures in a set.
        num_classes: of the classes of a segmentation or occupancy; known label sets have their own colours.
    """

    def __init__(self, every: int = 1, num_views: int = 4, num_classes: int = len(SCANNET20_NAMES)) -> None:
        super().__init__(every, num_views)
        self._num_classes = num_classes

    def paint(self, output: dict[str, Tensor], batch: SceneBatch) -> list[Panel]:
        """Names and pictures of one batch.

        Raises:
            ValueError: the output is of no known task.
        """
        return task_panels(output, batch, self._num_classes)


def task_panels(output: dict[str, Tensor], batch: SceneBatch, num_classes: int) -> list[Panel]:
    """One picture per view, or per scene for occupancy, of the task that an output is of.

    Args:
        output: Of ``ImageSegmentor``, ``DepthEstimator``, ``NormalEstimator`` or ``OccupancyPredictor``.
        batch: The scenes with what is to be predicted.
        num_classes: Of a segmentation or occupancy.

    Raises:
        ValueError: the output is of no known task.
    """
    if "occupancy" in output:
        return _occupancy_panels(output, batch, num_classes)
    cameras = task_views(batch)
    columns = _columns(output, cameras, num_classes)
    panels = []
    for scene, sizes in enumerate(cameras.size_px.tolist()):
        for view, (height, width) in enumerate(sizes):
            if height and width:
                tiles = [(caption, draw(scene, view)[:height, :width]) for caption, draw in columns]
                factor = -(-MIN_TILE_WIDTH // width)
                tiles = [(caption, enlarge(picture, factor)) for caption, picture in tiles]
                if "depth" in output:
                    near, far = depth_range(_measured(cameras, scene, view))
                    tiles.append(("depth scale", scale_tile(*tiles[0][1].shape[:2], near, far)))
                panels.append((f"{batch.name[scene]}-view{view}", tile_grid([tiles])))
    return panels


def class_colors(segment: Int[np.ndarray, "*shape"], num_classes: int) -> UInt8[np.ndarray, "*shape 3"]:
    """Colour of each class; -1 is black for known label sets and grey for others."""
    if num_classes == len(SCANNET20_NAMES):
        return scannet20_colors(segment)
    return value_to_color(np.where(segment >= 0, segment, np.nan).astype(np.float64), 0.0, float(num_classes - 1))


def _columns(output: dict[str, Tensor], cameras: CameraBatch, num_classes: int) -> list:
    """Captions and functions (scene, view) -> picture."""
    columns = [("input", lambda s, v: image_to_color(_array(cameras.image[s, v].movedim(0, -1))))]
    if "logits" in output:
        pred, target = output["logits"].argmax(dim=2), cameras.segment

        def wrong(s: int, v: int) -> np.ndarray:
            is_wrong = ((pred[s, v] != target[s, v]) & (target[s, v] >= 0)).cpu().numpy()
            return np.where(is_wrong[..., None], np.uint8((236, 82, 18)), np.uint8(MISSING_COLOR))

        columns += [("prediction", lambda s, v: class_colors(pred[s, v].cpu().numpy(), num_classes))]
        if target is not None:
            columns.insert(1, ("labels", lambda s, v: class_colors(target[s, v].cpu().numpy(), num_classes)))
            columns += [("wrong (red)", wrong)]
        return columns
    if "depth" in output:

        def error(s: int, v: int) -> np.ndarray:
            target, pred = cameras.depth[s, v], output["depth"][s, v]
            relative = torch.where(target > 0, (pred - target).abs() / target.clamp(min=1e-3), torch.nan)
            return value_to_color(_array(relative), 0.0, _WORST_REL)

        def depth(values: Tensor) -> object:
            return lambda s, v: depth_to_color(_array(values[s, v]), *depth_range(_measured(cameras, s, v)))

        return [
            *columns,
            ("measured depth", depth(cameras.depth)),
            ("predicted depth", depth(output["depth"])),
            (f"relative error, 0 to {_WORST_REL:g}", error),
        ]
    if "normal" in output:
        target = plane_normals(cameras)

        def angle(s: int, v: int) -> np.ndarray:
            cosine = (output["normal"][s, v] * target[s, v]).sum(dim=0).clamp(-1, 1)
            told = (target[s, v] != 0).any(dim=0)
            return value_to_color(_array(torch.where(told, torch.rad2deg(cosine.acos()), torch.nan)), 0.0, 60.0)

        return [
            *columns,
            ("measured normals", lambda s, v: normal_to_color(_array(target[s, v].movedim(0, -1)))),
            ("predicted normals", lambda s, v: normal_to_color(_array(output["normal"][s, v].movedim(0, -1)))),
            ("angle, 0 to 60 degrees", angle),
        ]
    raise ValueError(
        f"Pictures need the output of a task, with 'logits', 'depth', 'normal' or 'occupancy': got {sorted(output)}. "
        "Remove the TaskPanelWriter, or use PanelWriter for renderings."
    )


def _occupancy_panels(output: dict[str, Tensor], batch: SceneBatch, num_classes: int) -> list[Panel]:
    pred = output["occupancy"]
    shape = (pred.shape[3], pred.shape[2], pred.shape[1])
    target = occupancy_labels(batch, output["box"], shape, num_classes)
    levels = [min(int(part * pred.shape[1]), pred.shape[1] - 1) for part in _SLICES]
    heights = output["box"][:, 0, 2, None] + (output["box"][:, 1, 2] - output["box"][:, 0, 2])[:, None] * (
        (torch.tensor(levels, device=pred.device) + 0.5) / pred.shape[1]
    )
    panels = []
    for scene, name in enumerate(batch.name):
        rows = []
        for what, grid in (("labels", target), ("prediction", pred)):
            row = []
            for level, height in zip(levels, heights[scene].tolist()):
                cells = grid[scene, level].flip(0).cpu().numpy()  # y up
                colors = class_colors(np.where(cells == num_classes, -1, cells), num_classes)
                colors[cells == num_classes] = 255
                colors[cells == -1] = MISSING_COLOR
                factor = -(-MIN_TILE_WIDTH // cells.shape[1])
                row.append((f"{what}, z = {height:.2f} m", enlarge(colors, factor)))
            rows.append(row)
        panels.append((name, tile_grid(rows)))
    return panels


def _measured(cameras: CameraBatch, scene: int, view: int) -> np.ndarray:
    depth = _array(cameras.depth[scene, view])
    return depth[depth > 0]


def _array(value: Tensor) -> np.ndarray:
    return value.detach().to("cpu", torch.float32).numpy()
