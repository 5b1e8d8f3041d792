"""Differentiable rendering: a feature volume and rays become colour, depth, normals and features."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pointcept.ops.trilinear import Corners, find_corners
from pointcept.registry import MODELS
from pointcept.rendering.fields import FieldPoints, SDFField
from pointcept.rendering.guided_samplers import grow, look_up
from pointcept.rendering.linear_heads import RayPiece, query_linear, render_linear
from pointcept.rendering.recompute import LocatedPiece, Piece, evaluate_pieces
from pointcept.rendering.samplers import RayProbe, Sampler
from pointcept.rendering.weights import NeuSWeighting, Weighting
from pointcept.structures import FeatureVolume, RayBatch
from pointcept.structures.base import TensorStruct


@dataclasses.dataclass(frozen=True)
class Rendering(TensorStruct):
    """What R rays of each of B scenes see, and the S samples per ray that it was made of.

    Attributes:
        color: RGB, 0..1; where nothing was hit that of the background, or black.
        distance: Expected distance along the ray, metres.
        opacity: Sum of the weights, 0..1.
        sample_distance: Distance along the ray at which the field was evaluated, metres.
        sdf: Signed distance there, metres.
        weight: Weight of each sample.
        normal: Weighted mean of the unit normals, world frame; shorter than 1 where they disagree. None in training if
            the field makes no gradient.
        gradient: Gradient of the SDF in space at the samples, or None likewise.
        feature: Rendered feature, or None.
    """

    color: Float[Tensor, "B R 3"]
    distance: Float[Tensor, "B R"]
    opacity: Float[Tensor, "B R"]
    sample_distance: Float[Tensor, "B R S"]
    sdf: Float[Tensor, "B R S"]
    weight: Float[Tensor, "B R S"]
    normal: Float[Tensor, "B R 3"] | None = None
    gradient: Float[Tensor, "B R S 3"] | None = None
    feature: Float[Tensor, "B R _F"] | None = None


def composite(values: Float[Tensor, "B R S _D"], weight: Float[Tensor, "B R S"]) -> Float[Tensor, "B R _D"]:
    """Weighted sum along each ray; colour, normals and features all use it."""
    return torch.einsum("brsd,brs->brd", values, weight)


@MODELS.register()
class VolumeRenderer(nn.Module):
    """Renders a field along rays, in float32 whatever the surrounding precision.

    NeuS, VolSDF, UniSurf and plain density differ in their weighting, and in which sampler suits them.

    On a CPU the samples are evaluated piece by piece, and again in the backward pass: that needs a fraction of the
    memory, and less time than keeping everything, as a piece stays in the cache. Elsewhere all are evaluated at once.

    Args:
        field: Signed distance, colour and features of the volume.
        sampler: Where along the rays the field is evaluated.
        weighting: How much each sample counts.
        sample_position: Evaluate at the middle of each interval, or at its start as PonderV2 does.
        piece_size: Samples evaluated at a time on a CPU; None evaluates all at once and keeps what backward needs.
        background: Gives the colour (..., 3) seen behind the box from directions (..., 3), such as a ``SkyColor``; a
            ray sees as much of it as its opacity lacks to 1. None is black, for boxes that hold all there is to see.
    """

    def __init__(
        self,
        field: SDFField,
        sampler: Sampler,
        weighting: Weighting,
        sample_position: Literal["middle", "start"] = "middle",
        piece_size: int | None = 8192,
        background: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if sample_position not in ("middle", "start"):
            raise ValueError(f"sample_position must be 'middle' or 'start': got {sample_position!r}.")
        if piece_size is not None and piece_size < 1:
            raise ValueError(f"piece_size must be at least 1, or None: got {piece_size}.")
        self.field = field
        self.sampler = sampler
        self.weighting = weighting
        self.sample_position = sample_position
        self.piece_size = piece_size
        self.background = background

    def forward(
        self,
        volume: FeatureVolume,
        rays: RayBatch,
        seed: Int[Tensor, "B"] | None,
        measured: Float[Tensor, "B _R"] | None = None,
    ) -> Rendering:
        """Render the rays.

        Args:
            volume: Where the field reads.
            rays: The rays. What is rendered for invalid ones is finite and means nothing.
            seed: Jitters the samples (training); None places them evenly.
            measured: Measured distance along each ray, metres, 0 = none, for samplers that make use of it; None in
                evaluation.

        Raises:
            ValueError: rays, volume, seed and measured differ in device, number of scenes or number of rays, or (seen
                on a CPU only, elsewhere the check would wait for the device) a valid ray is not finite, has no
                direction, or has near >= far.
        """
        _check_scenes(volume, rays, seed, measured)
        with torch.autocast(device_type=volume.box.device.type, enabled=False):
            volume = _prepare(volume)
            return self._render(volume, repair(rays), seed, measured, with_normal=not torch.is_grad_enabled())

    def render_chunks(self, volume: FeatureVolume, rays: RayBatch, *, chunk_size: int) -> list[Rendering]:
        """Render many rays without gradients, ``chunk_size`` rays of each scene at a time, samples placed evenly."""
        _check_scenes(volume, rays)
        with torch.no_grad(), torch.autocast(device_type=volume.box.device.type, enabled=False):
            volume = _prepare(volume)
            rays = repair(rays)
            starts = range(0, rays.near.shape[1], chunk_size)
            chunks = (_part(rays, slice(start, start + chunk_size)) for start in starts)
            return [self._render(volume, chunk, None, None, with_normal=True) for chunk in chunks]

    def _render(
        self, volume: FeatureVolume, rays: RayBatch, seed: Tensor | None, measured: Tensor | None, *, with_normal: bool
    ) -> Rendering:
        rows = self.field.rows(volume)
        samples = self.sampler(rays, self._probe(volume, rays, measured), seed)
        distance = samples.middles if self.sample_position == "middle" else samples.starts
        pieces = [
            _Piece(self, volume, _part(rays, part), distance[:, part], samples.lengths[:, part], part, with_normal)
            for part in self._parts(distance)
        ]
        results = dict(zip(pieces[0].names, self._evaluate(pieces, rows, rays), strict=True))
        if self.field.feature_decoder is not None:
            # After the sums, as its last layer is linear.
            results["feature"] = self.field.decode_feature(results.pop("hidden"), results["opacity"])
        if self.background is not None:
            open_part = (1 - results["opacity"]).clamp(min=0)[..., None]
            results["color"] = results["color"] + open_part * self.background(rays.directions)
        return Rendering(sample_distance=distance, **results)

    @property
    def _is_written_out(self) -> bool:
        field = self.field
        return field.is_linear and field.gradient == "analytic" and len(field.sdf_decoder.layers) == 1

    def _evaluate(self, pieces: "list[_Piece]", rows: Tensor, rays: RayBatch) -> Sequence[Tensor]:
        field = self.field
        if len(pieces) > 1 and not (rays.origins.requires_grad or rays.directions.requires_grad):
            if self._is_written_out:
                return render_linear(
                    pieces,
                    rows.view(-1, field.in_channels),
                    field.linear_heads(),
                    rays.directions,
                    list(self.weighting.parameters()),
                    with_sums=field.feature_decoder is not None,
                )
            if torch.is_grad_enabled():
                parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
                return evaluate_pieces(pieces, rows, len(field.branches(rows)), parameters)
        parts = (piece.locate().evaluate(field.branches(rows)) for piece in pieces)
        return [torch.cat(results, dim=1) for results in zip(*parts, strict=True)]

    def _parts(self, distance: Float[Tensor, "B R S"]) -> list[slice]:
        batch, num_rays, num_samples = distance.shape
        size = num_rays
        if self.piece_size is not None and distance.device.type == "cpu":
            size = max(1, self.piece_size // (batch * num_samples))
        return [slice(start, start + size) for start in range(0, max(1, num_rays), max(1, size))]

    def _probe(self, volume: FeatureVolume, rays: RayBatch, measured: Tensor | None) -> RayProbe:
        @torch.no_grad()
        def query_sdf(distance: Float[Tensor, "B R S"]) -> Float[Tensor, "B R S"]:
            parts = self._parts(distance)
            positions = [_along(_part(rays, part), distance[:, part]).flatten(1, 2) for part in parts]
            if self._is_written_out:
                corners = (find_corners(volume, some, with_slope=False) for some in positions)
                size = max(some.shape[0] * some.shape[1] for some in positions)
                sdf = query_linear(corners, volume.rows(), self.field.linear_heads(), max_size=size)
            else:
                sdf = [self.field.query_sdf(volume, some) for some in positions]
            scenes, _, samples = distance.shape
            return torch.cat([some.view(scenes, -1, samples) for some in sdf], dim=1)

        is_occupied = None
        if volume.occupied is not None:

            def is_occupied(distance: Float[Tensor, "B R S"]) -> Bool[Tensor, "B R S"]:
                positions = _along(rays, distance).flatten(1, 2)
                return look_up(volume, grow(volume.occupied), positions).view(distance.shape)

        return RayProbe(query_sdf=query_sdf, weighting=self.weighting, measured=measured, is_occupied=is_occupied)


@MODELS.register("NeuSModel")
class NeuSRenderer(VolumeRenderer):
    """Renders a signed distance field by NeuS (arXiv 2106.10689): ``VolumeRenderer`` with ``NeuSWeighting``.

    Args:
        field: Signed distance, colour and features of the volume.
        sampler: Where along the rays the field is evaluated.
        sample_position: Evaluate at the middle of each interval, or at its start as PonderV2 does.
        initial_sharpness: Slope of the logistic function that turns the SDF into opacity at the start, 1/metre.
        piece_size: Samples evaluated at a time on a CPU; None evaluates all at once and keeps what backward needs.
        background: As of ``VolumeRenderer``.
    """

    def __init__(
        self,
        field: SDFField,
        sampler: Sampler,
        sample_position: Literal["middle", "start"] = "middle",
        initial_sharpness: float = 20.0,
        piece_size: int | None = 8192,
        background: nn.Module | None = None,
    ) -> None:
        super().__init__(field, sampler, NeuSWeighting(initial_sharpness), sample_position, piece_size, background)


@dataclasses.dataclass(frozen=True)
class _Piece(Piece, RayPiece):
    """Some rays of each scene with their samples."""

    renderer: VolumeRenderer
    volume: FeatureVolume
    rays: RayBatch
    distance: Float[Tensor, "B R S"]
    length: Float[Tensor, "B R S"]
    part: slice
    with_normal: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """Scenes, rays and samples per ray."""
        return tuple(self.distance.shape)

    @property
    def names(self) -> list[str]:
        """Names of the results, in their order."""
        has_gradient = self.renderer.field.gradient != "none" or self.with_normal
        names = ["sdf", "gradient"] if has_gradient else ["sdf"]
        names += ["weight", "color", "distance", "opacity"]
        names += ["normal"] if has_gradient else []
        return names if self.renderer.field.feature_decoder is None else [*names, "hidden"]

    def locate(self) -> "_Located":
        return _Located(self, self.renderer.field.locate(self.volume, self._positions()))

    def find_corners(self) -> Corners:
        return find_corners(self.volume, self._positions())

    def composite(self, sdf: Tensor, gradient: Tensor | None, color: Tensor) -> tuple[Tensor, ...]:
        """Weights of the samples, colour, distance, opacity and, with a gradient, normals."""
        rays = self.rays
        slope = None if gradient is None else (gradient * rays.directions[:, :, None]).sum(dim=-1)
        weight = self.renderer.weighting(sdf, self.length, slope)
        opacity = weight.sum(dim=-1)
        expected = (weight * self.distance).sum(dim=-1) / (opacity + 1e-10)
        expected = expected.clamp(min=rays.near, max=rays.far)
        results = (weight, composite(color, weight), expected, opacity)
        return results if gradient is None else (*results, composite(F.normalize(gradient, dim=-1), weight))

    def _positions(self) -> Float[Tensor, "B _M 3"]:
        return _along(self.rays, self.distance).flatten(1, 2)


@dataclasses.dataclass(frozen=True)
class _Located(LocatedPiece):
    """A piece of which it is known where in the volume it reads."""

    piece: _Piece
    points: FieldPoints

    def compact(self) -> tuple[list[Int[Tensor, "_T"]], "_Located"]:
        touched, points = self.points.compact()
        return touched, _Located(self.piece, points)

    def evaluate(self, branches: tuple[Float[Tensor, "_V _C"], ...]) -> tuple[Tensor, ...]:
        piece = self.piece
        directions = piece.rays.directions[:, :, None].expand(*piece.shape, 3).reshape(-1, 3)
        field = piece.renderer.field.evaluate(branches, self.points, directions, with_normal=piece.with_normal)
        field = field.reshape(*piece.shape)
        results = piece.composite(field.sdf, field.gradient, field.color)
        found = (field.sdf, *results) if field.gradient is None else (field.sdf, field.gradient, *results)
        if field.feature is None:
            return found
        return *found, torch.cat([composite(part, results[0]) for part in field.feature], dim=-1)


def repair(rays: RayBatch) -> RayBatch:
    """The same rays, with a harmless one in place of each that cannot be followed (it becomes invalid).

    Raises:
        ValueError: such a ray is said to be valid (seen on a CPU only).
    """
    ends = torch.stack((rays.near, rays.far), dim=-1)
    values = torch.cat((rays.origins, rays.directions, ends), dim=-1)
    good = torch.isfinite(values).all(dim=-1) & (rays.directions != 0).any(dim=-1) & (rays.far > rays.near)
    if rays.near.device.type == "cpu" and bool((rays.valid & ~good).any()):
        scene, ray = (rays.valid & ~good).nonzero()[0].tolist()
        raise ValueError(
            "Valid rays must be finite, have a direction, and near < far: got origin "
            f"{rays.origins[scene, ray].tolist()}, direction {rays.directions[scene, ray].tolist()}, near "
            f"{float(rays.near[scene, ray])} and far {float(rays.far[scene, ray])} for ray {ray} of scene {scene}. "
            "Mark such rays as not valid."
        )
    up = torch.zeros_like(rays.directions)
    up[..., 2] = 1
    return RayBatch(
        origins=torch.where(good[..., None], rays.origins, torch.zeros_like(rays.origins)),
        directions=torch.where(good[..., None], rays.directions, up),
        near=torch.where(good, rays.near, torch.zeros_like(rays.near)),
        far=torch.where(good, rays.far, torch.ones_like(rays.far)),
        valid=rays.valid & good,
    )


def _check_scenes(
    volume: FeatureVolume, rays: RayBatch, seed: Tensor | None = None, measured: Tensor | None = None
) -> None:
    if rays.origins.shape[0] != volume.batch_size:
        raise ValueError(
            f"Rays and volume must hold the same scenes: got {rays.origins.shape[0]} and {volume.batch_size}."
        )
    if rays.origins.device != volume.box.device:
        raise ValueError(
            f"Rays and volume must be on one device: got {rays.origins.device} and {volume.box.device}. "
            "Move one of them with .to(device)."
        )
    shape = tuple(rays.near.shape)
    if measured is not None and (tuple(measured.shape) != shape or measured.device != rays.near.device):
        raise ValueError(
            f"measured must hold one distance per ray, {shape} on {rays.near.device}: got {tuple(measured.shape)} on "
            f"{measured.device}. Give the distances of these rays."
        )
    if seed is not None and (tuple(seed.shape) != shape[:1] or seed.device != rays.near.device):
        raise ValueError(
            f"seed must hold one number per scene, {shape[:1]} on {rays.near.device}: got {tuple(seed.shape)} on "
            f"{seed.device}. Use the batch's own seeds."
        )


def _prepare(volume: FeatureVolume) -> FeatureVolume:
    """The volume in the precision and memory order in which its rows are read without a copy."""
    features = volume.features.to(dtype=volume.box.dtype, memory_format=torch.channels_last_3d)
    return volume.replace(features=features)


def _part(rays: RayBatch, part: slice) -> RayBatch:
    return RayBatch(**{name: value[:, part] for name, value in vars(rays).items()})


def _along(rays: RayBatch, distance: Float[Tensor, "B R S"]) -> Float[Tensor, "B R S 3"]:
    return rays.origins[:, :, None] + rays.directions[:, :, None] * distance[..., None]
