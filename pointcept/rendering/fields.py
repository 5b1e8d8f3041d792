"""The field: signed distance, colour and features at points of a feature volume."""

import dataclasses
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from pointcept.ops import trilinear
from pointcept.registry import MODELS
from pointcept.rendering.decoders import FieldDecoder, FoldedWeights, Trunk
from pointcept.rendering.linear_heads import LinearHeads
from pointcept.structures import FeatureVolume

GradientMode = Literal["analytic", "finite_difference", "none"]

# Corners of a tetrahedron: four reads give the gradient without a bias along any axis.
_TETRAHEDRON = ((1.0, -1.0, -1.0), (-1.0, -1.0, 1.0), (-1.0, 1.0, -1.0), (1.0, 1.0, 1.0))


@dataclasses.dataclass(frozen=True)
class FieldPoints:
    """Where M positions lie in their volumes: all that the field needs of them besides the volume's rows.

    Attributes:
        geometry: Rows of the SDF's branch around the positions and, behind those, around the neighbours for finite
            differences.
        appearance: Rows of the other branch around the positions; None if both branches are one.
        relative: The positions and neighbours relative to their box, 0..1; None if the field does not look at them.
        extent: Edges of each position's box, metres; None likewise.
        step: Distance of the neighbours along each axis, metres; None without finite differences.
        count: M, without the neighbours.
        num_scenes: B; each scene has M / B positions.
    """

    geometry: trilinear.Corners
    appearance: trilinear.Corners | None
    relative: Float[Tensor, "_P 3"] | None
    extent: Float[Tensor, "_M 3"] | None
    step: Float[Tensor, "_M 3"] | None
    count: int
    num_scenes: int

    def compact(self) -> tuple[list[Int[Tensor, "_T"]], "FieldPoints"]:
        """The rows that each branch touches, and the same positions within those (see ``Corners.compact``)."""
        touched, corners = self.geometry.compact()
        if self.appearance is None:
            return [touched], dataclasses.replace(self, geometry=corners)
        appearance = corners if self.step is None else corners[: self.count]
        return [touched, touched + 1], dataclasses.replace(self, geometry=corners, appearance=appearance)


@dataclasses.dataclass(frozen=True)
class FieldSamples:
    """The field at a set of points.

    Attributes:
        sdf: Signed distance to the nearest surface, metres, positive in free space.
        gradient: Its gradient in space, unit length where the SDF is a distance; None if the field makes none.
        color: RGB, 0..1.
        feature: Parts of the hidden feature, of which ``SDFField.decode_feature`` makes the feature; or None.
    """

    sdf: Float[Tensor, "*points"]
    gradient: Float[Tensor, "*points 3"] | None
    color: Float[Tensor, "*points 3"]
    feature: tuple[Tensor, ...] | None

    def reshape(self, *shape: int) -> "FieldSamples":
        """The same samples, arranged otherwise."""

        def arrange(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.reshape(*shape, *value.shape[1:])

        return FieldSamples(
            sdf=arrange(self.sdf),
            gradient=arrange(self.gradient),
            color=arrange(self.color),
            feature=None if self.feature is None else tuple(arrange(part) for part in self.feature),
        )


@MODELS.register()
class SDFField(nn.Module):
    """Signed distance, colour and features read from a feature volume (PonderV2, section 3.3).

    Args:
        in_channels: Channels of the volume.
        hidden_channels: Width of the decoders.
        geometry_channels: Width of the geometry feature that the SDF decoder hands to the colour decoder.
        sdf_blocks: Non-linear layers of the SDF decoder.
        color_blocks: Non-linear layers of the colour decoder.
        feature_channels: Width of the rendered feature (class embedding, teacher feature); 0 for none.
        feature_blocks: Non-linear layers of the feature decoder.
        share_volume: Give all channels to both branches; otherwise the first half is for the SDF, the second for the
            colour and the feature.
        position_factor: Scale of the position that the decoders see besides the volume; 0 for none.
        gradient: How the SDF's gradient is made. "analytic": by the chain rule, exact. "finite_difference": from four
            neighbours, which smooths and reaches into the next voxel (Neuralangelo, arXiv 2306.03092), for four more
            reads. "none": the decoders see no gradient, and training makes none; weights then come from neighbouring
            samples, and normals are made in evaluation only.
        difference_step: Distance of the neighbours along each axis, voxels.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        hidden_channels: int = 128,
        geometry_channels: int = 64,
        sdf_blocks: int = 1,
        color_blocks: int = 0,
        feature_channels: int = 0,
        feature_blocks: int = 0,
        share_volume: bool = False,
        position_factor: float = 0.0,
        gradient: GradientMode = "analytic",
        difference_step: float = 0.5,
    ) -> None:
        super().__init__()
        if in_channels % 2 and not share_volume:
            raise ValueError(
                f"in_channels must be even to be split between the SDF and the colour: got {in_channels}. "
                "Use share_volume=True or an even number."
            )
        if gradient not in ("analytic", "finite_difference", "none"):
            raise ValueError(f"gradient must be 'analytic', 'finite_difference' or 'none': got {gradient!r}.")
        if not difference_step > 0:
            raise ValueError(f"difference_step must be positive (voxels): got {difference_step}.")
        self.in_channels = in_channels
        self.share_volume = share_volume
        self.position_factor = position_factor
        self.gradient = gradient
        self.difference_step = difference_step
        self.geometry_width = in_channels if share_volume else in_channels // 2
        self.geometry_channels = geometry_channels
        options = {"hidden_channels": hidden_channels, "position_factor": position_factor}
        self.sdf_decoder = FieldDecoder(
            self.geometry_width, 1 + geometry_channels, num_blocks=sdf_blocks, softplus=True, **options
        )
        appearance = self.geometry_width + geometry_channels + (3 if gradient != "none" else 0)
        self.color_decoder = FieldDecoder(appearance + 3, 3, num_blocks=color_blocks, **options)
        self.feature_decoder = None
        if feature_channels:
            self.feature_decoder = FieldDecoder(appearance, feature_channels, num_blocks=feature_blocks, **options)
        # The published indoor setting: colour and features without non-linear layers, no position.
        self.is_linear = sdf_blocks > 0 and not (color_blocks or feature_blocks or position_factor)

    def rows(self, volume: FeatureVolume) -> Float[Tensor, "_V _C"]:
        """Rows of the volume as the branches read them, without a copy: rows 2 i and 2 i + 1 are the halves of voxel i.

        With ``share_volume`` row i is voxel i.

        Raises:
            ValueError: the volume has another number of channels.
        """
        if volume.num_channels != self.in_channels:
            raise ValueError(
                f"The volume must have the field's {self.in_channels} channels: got {volume.num_channels}. "
                "Set the encoder's out_channels and the field's in_channels to one number."
            )
        return volume.rows().view(-1, self.geometry_width)

    def branches(self, rows: Float[Tensor, "_V _C"]) -> tuple[Float[Tensor, "_V _C"], ...]:
        """What ``evaluate`` takes: the rows that each branch reads."""
        return (rows,) if self.share_volume else (rows, rows)

    def query_sdf(self, volume: FeatureVolume, positions: Float[Tensor, "B M 3"]) -> Float[Tensor, "B M"]:
        """Only the signed distance (metres) at ``positions`` (metres, world frame); no other head is computed."""
        rows = self.rows(volume)
        corners = trilinear.find_corners(volume, positions, with_slope=False)
        if not self.share_volume:
            corners = corners.half_rows(0)
        geometry = trilinear.read(rows, corners, corners.weight)
        relative = _relative(volume, positions) if self.position_factor else None
        return self.sdf_decoder(geometry, relative, num_outputs=1).reshape(positions.shape[:2])

    def forward(
        self, volume: FeatureVolume, positions: Float[Tensor, "B M 3"], directions: Float[Tensor, "B M 3"]
    ) -> FieldSamples:
        """The field at ``positions`` (metres, world frame), seen along ``directions`` (unit, world frame).

        Args:
            volume: Where the features come from.
            positions: Where the field is evaluated.
            directions: From where it is seen; only the colour depends on it.
        """
        points = self.locate(volume, positions)
        samples = self.evaluate(self.branches(self.rows(volume)), points, directions.reshape(-1, 3), with_normal=True)
        return samples.reshape(*positions.shape[:2])

    def locate(self, volume: FeatureVolume, positions: Float[Tensor, "B M 3"]) -> FieldPoints:
        """Where ``positions`` (metres, world frame) lie in the volumes, all scenes one after the other."""
        corners = trilinear.find_corners(volume, positions, with_slope=self.gradient != "finite_difference")
        relative = extent = step = None
        if self.position_factor:
            relative = _relative(volume, positions)
            extent = _per_point(volume.box[:, 1] - volume.box[:, 0], positions)
        if self.gradient == "finite_difference":
            steps = volume.voxel_size * self.difference_step
            offsets = steps[:, None] * positions.new_tensor(_TETRAHEDRON)
            neighbors = (positions[:, None] + offsets[:, :, None]).flatten(1, 2)
            around = trilinear.find_corners(volume, neighbors, with_slope=False)
            corners = trilinear.Corners(
                index=torch.cat((corners.index, around.index)),
                weight=torch.cat((corners.weight, around.weight)),
                slope=None,
                num_rows=corners.num_rows,
            )
            step = _per_point(steps, positions)
            if relative is not None:
                relative = torch.cat((relative, _relative(volume, neighbors)))
        appearance = None
        if not self.share_volume:
            count = positions.shape[0] * positions.shape[1]
            corners, appearance = corners.half_rows(0), corners[:count].half_rows(1)
        return FieldPoints(
            geometry=corners,
            appearance=appearance,
            relative=relative,
            extent=extent,
            step=step,
            count=positions.shape[0] * positions.shape[1],
            num_scenes=positions.shape[0],
        )

    def evaluate(
        self,
        branches: tuple[Float[Tensor, "_V _C"], ...],
        points: FieldPoints,
        directions: Float[Tensor, "M 3"],
        *,
        with_normal: bool = False,
    ) -> FieldSamples:
        """The field at points that ``locate`` found.

        Args:
            branches: The rows that each branch reads: all of them, or those that the points touch.
            points: The points.
            directions: From where they are seen, unit, world frame.
            with_normal: Make the SDF's gradient also where ``gradient`` is "none".
        """
        here = points.geometry if points.step is None else points.geometry[: points.count]
        relative = None if points.relative is None else points.relative[: points.count]
        geometry = appearance = trilinear.read(branches[0], here, here.weight)
        if points.appearance is not None:
            appearance = trilinear.read(branches[1], points.appearance, points.appearance.weight)
        trunk = self.sdf_decoder.trunk(geometry, relative)
        gradient = None
        if self.gradient == "analytic" or (self.gradient == "none" and with_normal):
            feature_gradient, position_gradient = trunk.gradient()
            gradient = trilinear.spatial_gradient(branches[0], here, feature_gradient)
            if position_gradient is not None:
                gradient = gradient + position_gradient / points.extent
        elif self.gradient == "finite_difference":
            gradient = self._differences(branches[0], points)
        seen = () if self.gradient == "none" else (gradient,)
        decode = self._decode_linear if self.is_linear else self._decode
        sdf, color, feature = decode(trunk, appearance, seen, directions)
        return FieldSamples(sdf=sdf, gradient=gradient, color=color, feature=feature)

    def _decode(
        self, trunk: Trunk, appearance: Tensor, gradient: tuple[Tensor, ...], directions: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...] | None]:
        """Signed distance, colour and hidden feature."""
        decoded = trunk.output()
        inputs = torch.cat((*gradient, appearance, decoded[:, 1:], directions), dim=-1)
        color = torch.sigmoid(self.color_decoder(inputs, trunk.position))
        feature = None
        if self.feature_decoder is not None:
            # The direction is for the colour alone.
            feature = (self.feature_decoder.hidden(inputs[:, :-3], trunk.position),)
        return decoded[:, 0], color, feature

    def _decode_linear(
        self, trunk: Trunk, appearance: Tensor, gradient: tuple[Tensor, ...], directions: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...] | None]:
        """The same where all after the SDF decoder's last non-linearity is linear: its geometry feature is never made.

        The heads' weights are multiplied with those that would make it, and are applied to the gradient, the activation
        and what was read. These are also the hidden feature.
        """
        inputs = (*gradient, trunk.activated, trunk.value)
        if not self.share_volume:
            inputs = (*inputs, appearance)
        heads = self.linear_heads(trunk.folded)
        result = heads.heads_bias
        weights = heads.heads.split([part.shape[1] for part in inputs], dim=-1)
        for part, weight in zip(inputs, weights, strict=True):
            result = torch.addmm(result, part, weight.T)
        sdf, logits = result.split((1, 3), dim=-1)
        color = torch.sigmoid(torch.addmm(logits, directions, heads.by_direction.T))
        return sdf[:, 0], color, None if self.feature_decoder is None else inputs

    def linear_heads(self, folded: FoldedWeights | None = None) -> LinearHeads:
        """Weights of the SDF and the colour logits where ``is_linear``; ``folded`` are the SDF decoder's, if known."""
        folded = self.sdf_decoder.folded() if folded is None else folded
        colors = self.color_decoder.folded()
        weight, bias = self._without_geometry(folded, colors.weights[0][:, :-3])
        by_read = folded.weights[-1][:1]
        if not self.share_volume:
            by_read = F.pad(by_read, (0, self.geometry_width))  # the appearance is no part of it
        by_sdf = torch.cat((self.sdf_decoder.head.weight[:1], by_read), dim=-1)
        by_sdf = F.pad(by_sdf, (weight.shape[1] - by_sdf.shape[1], 0))  # nor is the gradient
        return LinearHeads(
            layer=folded.weights[0],
            layer_bias=folded.biases[0],
            heads=torch.cat((by_sdf, weight)),
            heads_bias=torch.cat((folded.biases[-1][:1], colors.biases[0] + bias)),
            by_direction=colors.weights[0][:, -3:],
        )

    def _without_geometry(self, folded: FoldedWeights, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of (gradient, appearance, geometry feature) as those of (gradient, activation, read), and a bias."""
        widths = (weight.shape[1] - self.geometry_width - self.geometry_channels, self.geometry_width)
        by_gradient, by_appearance, by_geometry = weight.split((*widths, self.geometry_channels), dim=-1)
        by_read = by_geometry @ folded.weights[-1][1:]
        by_read = by_read + by_appearance if self.share_volume else torch.cat((by_read, by_appearance), dim=-1)
        by_activated = by_geometry @ self.sdf_decoder.head.weight[1:]
        return torch.cat((by_gradient, by_activated, by_read), dim=-1), by_geometry @ folded.biases[-1][1:]

    def decode_feature(
        self, hidden: Float[Tensor, "*batch _H"], opacity: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch _F"]:
        """Rendered features from rendered hidden features.

        The last layer is linear, so it commutes with the weighted sum along a ray; its bias counts ``opacity`` times.
        """
        if not self.is_linear:
            return self.feature_decoder.decode_hidden(hidden, opacity)
        folded = self.feature_decoder.folded()
        weight, bias = self._without_geometry(self.sdf_decoder.folded(), folded.weights[0])
        return F.linear(hidden, weight) + (bias + folded.biases[0]) * opacity[..., None]

    def _differences(self, rows: Tensor, points: FieldPoints) -> Float[Tensor, "M 3"]:
        around = points.geometry[points.count :]
        geometry = trilinear.read(rows, around, around.weight)
        relative = None if points.relative is None else points.relative[points.count :]
        sdf = self.sdf_decoder(geometry, relative, num_outputs=1)
        sdf = sdf.view(points.num_scenes, 4, -1).transpose(1, 2).reshape(-1, 4)
        return sdf @ sdf.new_tensor(_TETRAHEDRON) / (4 * points.step)


def _relative(volume: FeatureVolume, positions: Tensor) -> Tensor:
    minimum, maximum = volume.box[:, None, 0], volume.box[:, None, 1]
    return ((positions - minimum) / (maximum - minimum)).reshape(-1, 3)


def _per_point(value: Float[Tensor, "B 3"], positions: Float[Tensor, "B M 3"]) -> Float[Tensor, "_P 3"]:
    return value[:, None].expand(positions.shape).reshape(-1, 3)
