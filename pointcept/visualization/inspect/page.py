"""The page: arrays packed as text, and one HTML file that holds all of them and everything that draws them."""

import base64
import dataclasses
import gzip
import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np

from pointcept.visualization.colormaps import normal_to_color, value_to_color
from pointcept.visualization.inspect.figures import FeatureColors, bytes_of, feature_cosine, normal_error
from pointcept.visualization.inspect.measure import RaySamples, SceneState, ViewPictures

SDF_LIMIT_M = 0.5
_SCRIPTS = ("data.js", "paint.js", "views.js", "rays.js", "slices.js", "space.js", "training.js", "main.js")
_ALIGNMENT = 4  # bytes: typed arrays must begin at a multiple of their element
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


@dataclasses.dataclass(frozen=True)
class Block:
    """Arrays of the page that are decoded together.

    Attributes:
        id: Of the element that holds them.
        arrays: Name, type, shape and place of each.
        text: All of them, one after the other, compressed (gzip) and written in base64.
    """

    id: str
    arrays: list[dict[str, Any]]
    text: str

    @property
    def reference(self) -> dict[str, Any]:
        """What the page's facts say of it."""
        return {"id": self.id, "arrays": self.arrays}


def pack(block_id: str, arrays: Mapping[str, np.ndarray]) -> Block:
    """Arrays (8 to 32 bits per value) as one block."""
    entries, parts, offset = [], [], 0
    for name, array in arrays.items():
        data = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
        data += bytes(-len(data) % _ALIGNMENT)
        entries.append({"name": name, "dtype": array.dtype.name, "shape": list(array.shape), "offset": offset})
        parts.append(data)
        offset += len(data)
    packed = gzip.compress(b"".join(parts), compresslevel=6, mtime=0)
    return Block(block_id, entries, base64.b64encode(packed).decode("ascii"))


def measured_arrays(
    views: Sequence[ViewPictures], cloud: np.ndarray, features: FeatureColors | None, unit_m: float
) -> dict[str, np.ndarray]:
    """What a scene's measured side needs: pictures of its views, and points of its cloud (metres).

    Depths become whole numbers of ``unit_m``, see ``length_unit_m``.
    """
    arrays = {"cloud": cloud.astype(np.float32)}
    for index, view in enumerate(views):
        arrays |= {f"view{index}_{part}": value for part, value in _pictures(view, features, unit_m).items()}
    return arrays


def rendered_arrays(
    state: SceneState, measured: Sequence[ViewPictures], features: FeatureColors | None, unit_m: float
) -> dict[str, np.ndarray]:
    """What one step of a scene needs: pictures, rays, signed distances and the surface; ``unit_m`` as above."""
    extent = state.box[1] - state.box[0]
    vertices = (state.surface.vertices - state.box[0]) / extent
    faces = np.diff(state.surface.faces.reshape(-1).astype(np.int32), prepend=np.int32(0))
    arrays = {
        "sdf": _companded(state.sdf),
        "surface_vertices": np.round(vertices.clip(0, 1) * 65535).astype(np.uint16),
        "surface_color": state.surface_color,
        "surface_faces": faces.astype(np.int32),
    }
    for index, (view, target, rays) in enumerate(zip(state.views, measured, state.rays, strict=True)):
        angle = normal_error(view, target)
        parts = _pictures(view, features, unit_m)
        parts["opacity"] = bytes_of(view.opacity)
        parts["angle"] = np.where(np.isnan(angle), 255, np.round(angle)).astype(np.uint8)
        cosine = feature_cosine(view, target)
        if cosine is not None:
            parts["cosine"] = np.where(np.isnan(cosine), 255, np.round((1 - cosine) * 127).clip(0, 254)).astype(
                np.uint8
            )
        parts |= {f"ray_{part}": value for part, value in _rays(rays, unit_m).items()}
        arrays |= {f"view{index}_{part}": value for part, value in parts.items()}
    return arrays


def length_unit_m(longest_m: float) -> float:
    """The length that depths and distances are whole numbers of: a millimetre, or more where 16 bits would not do."""
    unit = 0.001
    while longest_m / unit > 65535:
        unit *= 2
    return unit


def write_page(title: str, facts: Mapping[str, Any], blocks: Sequence[Block]) -> str:
    """The whole page as HTML that needs no other file and no network.

    Args:
        title: Of the page.
        facts: What the scripts read; see ``data.js`` and ``main.js``.
        blocks: All arrays that the facts refer to.
    """
    folder = resources.files("pointcept.visualization.inspect") / "page"
    colors = value_to_color(np.arange(256) / 255, 0.0, 1.0)
    facts = {**facts, "color_map": base64.b64encode(colors.tobytes()).decode("ascii")}
    # A "<" would end the block if "/script>" followed it; JSON may write it as an escape.
    facts_text = json.dumps(facts, allow_nan=False).replace("<", "\\u003c")
    elements = [f'<script type="application/json" id="facts">{facts_text}</script>']
    elements += [f'<script type="text/plain" id="{block.id}">{block.text}</script>' for block in blocks]
    parts = {
        "title": html.escape(title),
        "heading": html.escape(title),
        "style": (folder / "page.css").read_text(encoding="utf-8"),
        "script": "\n".join((folder / name).read_text(encoding="utf-8") for name in _SCRIPTS),
        "blocks": "\n".join(elements),
    }
    template = (folder / "page.html").read_text(encoding="utf-8")
    return _PLACEHOLDER.sub(lambda found: parts[found[1]], template)


def _pictures(view: ViewPictures, features: FeatureColors | None, unit_m: float) -> dict[str, np.ndarray]:
    parts = {
        "color": bytes_of(view.color),
        "depth": _whole(view.depth, unit_m),
        "normal": normal_to_color(view.normal),
    }
    if view.feature is not None and features is not None:
        parts["feature"] = bytes_of(features(view.feature))
    return parts


def _rays(rays: RaySamples, unit_m: float) -> dict[str, np.ndarray]:
    return {
        "pixel": rays.pixel.astype(np.uint16),
        "valid": rays.valid.astype(np.uint8),
        "measured": _whole(rays.measured, unit_m),
        "rendered": _whole(rays.rendered, unit_m),
        "distance": _whole(rays.distance, unit_m),
        "weight": np.round(rays.weight.clip(0, 1) * 65535).astype(np.uint16),
        "sdf": np.round(np.nan_to_num(rays.sdf) / unit_m).clip(-32767, 32767).astype(np.int16),
        "color": bytes_of(rays.color),
    }


def _companded(sdf: np.ndarray) -> np.ndarray:
    """Signed distances in 8 bits, finest at the zero level: the signed root of their share of ``SDF_LIMIT_M``."""
    share = np.clip(sdf / SDF_LIMIT_M, -1, 1)
    return np.round(np.sign(share) * np.sqrt(np.abs(share)) * 127).astype(np.int8)


def _whole(value: np.ndarray, unit_m: float) -> np.ndarray:
    return np.round(np.nan_to_num(value) / unit_m).clip(0, 65535).astype(np.uint16)
