"""The field: signed distance, colour and features at points of a feature volume."""

import dataclasses

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pointcept.ops import trilinear
from pointcept.registry import MODELS
from pointcept.structures import FeatureVolume

_SOFTPLUS_BETA = 100.0


@dataclasses.dataclass(frozen=True)
class FieldSamples:
    """The field at M points of each of B scenes.

    Attributes:
        sdf: Signed distance to the nearest surface, metres, positive in free space.
        gradient: Its gradient in space, unit length where the SDF is a distance.
        color: RGB, 0..1.
        feature: Hidden feature whose image under ``SDFField.decode_feature`` is the feature there; or None.
    """

    sdf: Float[Tensor, "B M"]
    gradient: Float[Tensor, "B M 3"]
    color: Float[Tensor, "B M 3"]
    feature: Float[Tensor, "B M _H"] | None


class FieldDecoder(nn.Module):
    """A small MLP that sees its input again before every layer (as in Convolutional Occupancy Networks, 2003.04618).

    Args:
        in_channels: Width of the input.
        out_channels: Width of the output.
        hidden_channels: Width in between.
        num_blocks: Non-linear layers; with 0 the decoder is linear.
        position_factor: Scale of the position input (0..1 within the box); 0 leaves the position out.
        softplus: Softplus with beta 100 between layers (smooth, for signed distances); ReLU otherwise.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int,
        num_blocks: int,
        position_factor: float,
        softplus: bool = False,
    ) -> None:
        super().__init__()
        self.position_factor = position_factor
        self.softplus = softplus
        self.inputs = nn.ModuleList(nn.Linear(in_channels, hidden_channels) for _ in range(num_blocks + 1))
        self.layers = nn.ModuleList(nn.Linear(hidden_channels, hidden_channels) for _ in range(num_blocks))
        self.head = nn.Linear(hidden_channels, out_channels)
        self.position = nn.Linear(3, hidden_channels) if position_factor else None

    def forward(self, value: Float[Tensor, "M _C"], position: Float[Tensor, "M 3"]) -> Float[Tensor, "M _O"]:
        """Decoded values; ``position`` is relative to the box, 0..1."""
        return self.head(self.hidden(value, position))

    def hidden(self, value: Float[Tensor, "M _C"], position: Float[Tensor, "M 3"]) -> Float[Tensor, "M _H"]:
        """What the last, linear layer receives."""
        return self._hidden(value, position)[0]

    def forward_with_gradient(
        self, value: Float[Tensor, "M _C"], position: Float[Tensor, "M 3"]
    ) -> tuple[Float[Tensor, "M _O"], Float[Tensor, "M _C"], Float[Tensor, "M 3"] | None]:
        """Decoded values, and the gradient of the first of them with respect to both inputs.

        The chain rule is written out, so that training needs no second pass through autograd.
        """
        hidden, pre_activations = self._hidden(value, position)
        gradient = self.head.weight[0].expand_as(hidden)
        value_gradient = (self.head.weight[0] @ self.inputs[-1].weight).expand_as(value)
        for index in reversed(range(len(self.layers))):
            gradient = (gradient * self._slope(pre_activations[index])) @ self.layers[index].weight
            value_gradient = value_gradient + gradient @ self.inputs[index].weight
        position_gradient = None
        if self.position is not None:
            position_gradient = gradient @ self.position.weight * self.position_factor
        return self.head(hidden), value_gradient, position_gradient

    def _hidden(self, value: Tensor, position: Tensor) -> tuple[Tensor, list[Tensor]]:
        hidden = self.inputs[0](value)
        if self.position is not None:
            hidden = hidden + self.position(position) * self.position_factor
        pre_activations = []
        for layer, following_input in zip(self.layers, list(self.inputs)[1:], strict=True):
            pre_activation = layer(hidden)
            pre_activations.append(pre_activation)
            hidden = self._activate(pre_activation) + following_input(value)
        return hidden, pre_activations

    def _activate(self, value: Tensor) -> Tensor:
        return F.softplus(value, beta=_SOFTPLUS_BETA) if self.softplus else F.relu(value)

    def _slope(self, value: Tensor) -> Tensor:
        return torch.sigmoid(_SOFTPLUS_BETA * value) if self.softplus else (value > 0).to(value.dtype)


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
        initial_sharpness: Slope of the logistic function that turns the SDF into opacity at the start, 1/metre. It is
            learned (NeuS, arXiv 2106.10689, eq. 10).
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
        initial_sharpness: float = 20.0,
    ) -> None:
        super().__init__()
        if in_channels % 2 and not share_volume:
            raise ValueError(
                f"in_channels must be even to be split between the SDF and the colour: got {in_channels}. "
                "Use share_volume=True or an even number."
            )
        self.in_channels = in_channels
        self.share_volume = share_volume
        branch = in_channels if share_volume else in_channels // 2
        options = {"hidden_channels": hidden_channels, "position_factor": position_factor}
        self.sdf_decoder = FieldDecoder(branch, 1 + geometry_channels, num_blocks=sdf_blocks, softplus=True, **options)
        appearance = 3 + branch + geometry_channels
        self.color_decoder = FieldDecoder(appearance + 3, 3, num_blocks=color_blocks, **options)
        self.feature_decoder = None
        if feature_channels:
            self.feature_decoder = FieldDecoder(appearance, feature_channels, num_blocks=feature_blocks, **options)
        self.log_sharpness = nn.Parameter(torch.tensor(initial_sharpness).log() / 10)

    @property
    def sharpness(self) -> Float[Tensor, ""]:
        """Slope of the logistic function that turns the SDF into opacity, 1/metre."""
        return torch.exp(10 * self.log_sharpness).clamp(1e-6, 1e6)

    def branches(self, volume: FeatureVolume) -> tuple[Float[Tensor, "V _G"], Float[Tensor, "V _A"]]:
        """Rows of the volume for the SDF and for the appearance.

        Raises:
            ValueError: the volume has another number of channels.
        """
        if volume.num_channels != self.in_channels:
            raise ValueError(
                f"The volume must have the field's {self.in_channels} channels: got {volume.num_channels}. "
                "Set the encoder's out_channels and the field's in_channels to one number."
            )
        rows = volume.rows()
        if self.share_volume:
            return rows, rows
        half = self.in_channels // 2
        return rows[:, :half].contiguous(), rows[:, half:].contiguous()

    def query_sdf(
        self, volume: FeatureVolume, geometry_rows: Float[Tensor, "V _G"], positions: Float[Tensor, "B M 3"]
    ) -> Float[Tensor, "B M"]:
        """Only the signed distance (metres) at ``positions`` (metres, world frame)."""
        corners = trilinear.find_corners(volume, positions)
        geometry = trilinear.read(geometry_rows, corners, corners.weight)
        decoded = self.sdf_decoder(geometry, _relative(volume, positions).reshape(-1, 3))
        return decoded[:, 0].reshape(positions.shape[:2])

    def forward(
        self,
        volume: FeatureVolume,
        rows: tuple[Float[Tensor, "V _G"], Float[Tensor, "V _A"]],
        positions: Float[Tensor, "B M 3"],
        directions: Float[Tensor, "B M 3"],
    ) -> FieldSamples:
        """The field at ``positions`` (metres, world frame), seen along ``directions`` (unit, world frame).

        Args:
            volume: Where the features come from.
            rows: What ``branches`` gives for the volume; shared by all calls of a step.
            positions: Where the field is evaluated.
            directions: From where it is seen; only the colour depends on it.
        """
        shape = positions.shape[:2]
        geometry_rows, appearance_rows = rows
        corners = trilinear.find_corners(volume, positions)
        relative = _relative(volume, positions).reshape(-1, 3)
        geometry = trilinear.read(geometry_rows, corners, corners.weight)
        decoded, feature_gradient, position_gradient = self.sdf_decoder.forward_with_gradient(geometry, relative)
        gradient = trilinear.spatial_gradient(geometry_rows, corners, feature_gradient)
        if position_gradient is not None:
            extent = (volume.box[:, 1] - volume.box[:, 0])[:, None].expand(*shape, 3).reshape(-1, 3)
            gradient = gradient + position_gradient / extent
        appearance = geometry if self.share_volume else trilinear.read(appearance_rows, corners, corners.weight)
        appearance = torch.cat((gradient, appearance, decoded[:, 1:]), dim=-1)
        colored = torch.cat((appearance, directions.reshape(-1, 3)), dim=-1)
        color = torch.sigmoid(self.color_decoder(colored, relative))
        feature = None
        if self.feature_decoder is not None:
            feature = self.feature_decoder.hidden(appearance, relative).reshape(*shape, -1)
        return FieldSamples(
            sdf=decoded[:, 0].reshape(shape),
            gradient=gradient.reshape(*shape, 3),
            color=color.reshape(*shape, 3),
            feature=feature,
        )

    def decode_feature(self, hidden: Float[Tensor, "B R _H"], opacity: Float[Tensor, "B R"]) -> Float[Tensor, "B R _F"]:
        """Rendered features from rendered hidden features.

        The last layer is linear, so it commutes with the weighted sum along a ray; its bias counts ``opacity`` times.
        """
        head = self.feature_decoder.head
        return F.linear(hidden, head.weight) + head.bias * opacity[..., None]


def _relative(volume: FeatureVolume, positions: Tensor) -> Tensor:
    minimum, maximum = volume.box[:, None, 0], volume.box[:, None, 1]
    return (positions - minimum) / (maximum - minimum)
