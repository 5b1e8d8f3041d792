"""A cloud with a class for every point: its colours, its files and its picture."""

import colorsys
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int64, UInt8
from PIL import Image, ImageDraw, ImageFont

from pointcept.datasets.labels import SCANNET20_NAMES, SCANNET20_PALETTE
from pointcept.utils.files import atomic_write
from pointcept.visualization.ply import write_ply
from pointcept.visualization.point_cloud import overview, render_point_cloud

_LEGEND_PX, _LINE_PX, _FONT_SIZE = 170, 18, 12
_HIDDEN_IN_PICTURES = ("ceiling",)  # seen from above it would hide the room
_GOLDEN_RATIO = 0.618033988749895


@dataclasses.dataclass(frozen=True)
class LabelledCloud:
    """The classes that a model gives the points of a cloud.

    Attributes:
        coord: Position, metres, as it was given.
        label: Class of each point.
        probability: Of that class, 0..1.
        class_names: Name of each class.
    """

    coord: Float[np.ndarray, "_N 3"]
    label: Int64[np.ndarray, "_N"]
    probability: Float32[np.ndarray, "_N"]
    class_names: tuple[str, ...]

    @property
    def color(self) -> UInt8[np.ndarray, "_N 3"]:
        """RGB of each point's class."""
        return class_palette(self.class_names)[self.label]

    def write(self, path: str | Path) -> None:
        """Writes coordinates, class colours, ``label`` and ``probability``, as PLY or as ``.npz``.

        Raises:
            ValueError: the suffix is neither.
        """
        path = Path(path)
        require_suffix(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npz":
            arrays = {"coord": self.coord, "color": self.color, "label": self.label, "probability": self.probability}
            with atomic_write(path) as file:
                np.savez_compressed(file, **arrays, class_names=np.array(self.class_names))
            return
        kinds = {**dict.fromkeys("xyz", self.coord.dtype), **dict.fromkeys(("red", "green", "blue"), np.uint8)}
        vertices = np.empty(len(self.coord), dtype=[*kinds.items(), ("label", np.int32), ("probability", np.float32)])
        for axis, (position, channel) in enumerate(zip("xyz", ("red", "green", "blue"))):
            vertices[position], vertices[channel] = self.coord[:, axis], self.color[:, axis]
        vertices["label"], vertices["probability"] = self.label, self.probability
        write_ply(path, {"vertex": vertices})

    def picture(self, max_points: int = 500_000) -> UInt8[np.ndarray, "_H _W 3"]:
        """The cloud in the colours of its classes, seen from above at an angle, and what each colour means.

        Points of a ceiling are left out where there are others.

        Args:
            max_points: Of a larger cloud a random part is drawn.
        """
        hidden = [index for index, name in enumerate(self.class_names) if name in _HIDDEN_IN_PICTURES]
        rows = np.flatnonzero(~np.isin(self.label, hidden))
        rows = rows if len(rows) else np.arange(len(self.label))
        if len(rows) > max_points:
            rows = np.random.default_rng(0).choice(rows, max_points, replace=False)
        coord = self.coord[rows] - self.coord[rows].mean(axis=0)
        extent = np.ptp(coord, axis=0).astype(np.float64)
        spacing = float(np.sqrt((extent[0] * extent[1] + extent[2] * (extent[0] + extent[1]) * 2) / len(rows)))
        viewpoint = overview(coord, elevation_deg=55.0)
        picture = render_point_cloud(coord, self.color[rows], viewpoint, radius=0.75 * max(spacing, 1e-3))
        return np.concatenate([picture, self._legend(picture.shape[0])], axis=1)

    def _legend(self, height: int) -> UInt8[np.ndarray, "_H _W 3"]:
        classes, counts = np.unique(self.label, return_counts=True)
        order = np.argsort(-counts, kind="stable")[: height // _LINE_PX]
        strip = Image.new("RGB", (_LEGEND_PX, height), (255, 255, 255))
        draw, font = ImageDraw.Draw(strip), ImageFont.load_default(_FONT_SIZE)
        palette = class_palette(self.class_names)
        for line, (number, count) in enumerate(zip(classes[order].tolist(), counts[order].tolist())):
            y = line * _LINE_PX
            draw.rectangle((6, y + 4, 18, y + 16), fill=tuple(palette[number].tolist()))
            text = f"{self.class_names[number]}: {100 * count / len(self.label):.1f} %"
            draw.text((24, y + 10), text, (20, 20, 20), font, anchor="lm")
        return np.asarray(strip)


def class_palette(class_names: Sequence[str]) -> UInt8[np.ndarray, "K 3"]:
    """RGB of each class: those of the ScanNet benchmark for its classes, far apart from each other for others."""
    if tuple(class_names) == SCANNET20_NAMES:
        return np.array(SCANNET20_PALETTE, dtype=np.uint8)
    colors = [
        colorsys.hsv_to_rgb((index * _GOLDEN_RATIO) % 1, (0.9, 0.6, 0.75)[index % 3], (0.95, 0.8, 0.6)[index // 3 % 3])
        for index in range(len(class_names))
    ]
    return np.round(255 * np.array(colors).reshape(-1, 3)).astype(np.uint8)


def require_suffix(path: Path) -> None:
    """Checks that a labelled cloud can be written to a file of that name.

    Raises:
        ValueError: it is neither ``.ply`` nor ``.npz``.
    """
    if path.suffix not in (".ply", ".npz"):
        raise ValueError(f"A labelled cloud must be written as .ply or .npz: got {path}. Choose such a name.")
