"""The small networks that turn a feature read from the volume into signed distance, colour or features."""

import dataclasses

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

SHARPNESS = 100.0
"""Of the softplus: how fast it bends, per unit of its input."""


class FieldDecoder(nn.Module):
    """A small MLP that sees its input again before every layer (as in Convolutional Occupancy Networks, 2003.04618).

    With h_0 = I_0 v + P p and h_l = a(L_l h_(l-1)) + I_l v the output is H h_n. No non-linearity stands between I_l and
    the layer that follows, so their product, made once per call, is applied instead of both: half of the work.

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

    def forward(
        self, value: Float[Tensor, "M _C"], position: Float[Tensor, "M 3"] | None, *, num_outputs: int | None = None
    ) -> Float[Tensor, "M _O"]:
        """Decoded values, or the first ``num_outputs`` of them.

        Args:
            value: The input.
            position: Relative to the box, 0..1; only read where ``position_factor`` is not 0.
            num_outputs: How many of the outputs are wanted; None gives all.
        """
        return self.trunk(value, position).output(num_outputs)

    def trunk(self, value: Float[Tensor, "M _C"], position: Float[Tensor, "M 3"] | None) -> "Trunk":
        """Everything up to the last non-linearity."""
        folded = self.folded()
        activated, slopes = None, []
        for index, layer in enumerate(self.layers):
            result = torch.addmm(folded.biases[index], value, folded.weights[index].T)
            if index == 0 and folded.position is not None:
                result = torch.addmm(result, position, folded.position.T)
            if activated is not None:
                result = torch.addmm(result, activated, layer.weight.T)
            if self.softplus:
                activated, slope = _Softplus.apply(result)
            else:
                activated, slope = F.relu(result), (result > 0).to(result.dtype)
            slopes.append(slope)
        return Trunk(self, folded, value, position, activated, slopes)

    def folded(self) -> "FoldedWeights":
        """Each input projection times the layer that follows it, and the same for the position."""
        following = (*self.layers, self.head)
        weights = [after.weight @ before.weight for before, after in zip(self.inputs, following, strict=True)]
        biases = [after.weight @ before.bias + after.bias for before, after in zip(self.inputs, following, strict=True)]
        if self.position is None:
            return FoldedWeights(weights, biases, None)
        first = following[0].weight * self.position_factor
        biases[0] = biases[0] + first @ self.position.bias
        return FoldedWeights(weights, biases, first @ self.position.weight)

    def hidden(self, value: Float[Tensor, "M _C"], position: Float[Tensor, "M 3"] | None) -> Float[Tensor, "M _H"]:
        """What ``decode_hidden`` maps, linearly, to the output: for a linear decoder its own input."""
        if not self.layers:
            return value if self.position is None else torch.cat((value, position), dim=-1)
        projection = self.inputs[-1]
        return torch.addmm(self.trunk(value, position).activated, value, projection.weight.T) + projection.bias

    def decode_hidden(
        self, hidden: Float[Tensor, "*batch _H"], opacity: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch _O"]:
        """Output of a weighted sum of hidden values whose weights sum to ``opacity``: the bias counts that often."""
        if self.layers:
            weight, bias = self.head.weight, self.head.bias
        else:
            folded = self.folded()
            weight, bias = folded.weights[0], folded.biases[0]
            if folded.position is not None:
                weight = torch.cat((weight, folded.position), dim=-1)
        return F.linear(hidden, weight) + bias * opacity[..., None]


@dataclasses.dataclass(frozen=True)
class FoldedWeights:
    """Weights of a decoder after folding.

    Attributes:
        weights: For each layer and the head: what is applied to the decoder's input there.
        biases: For each layer and the head.
        position: What the first of them applies to the position; None without a position.
    """

    weights: list[Float[Tensor, "_O _C"]]
    biases: list[Float[Tensor, "_O"]]
    position: Float[Tensor, "_O 3"] | None


@dataclasses.dataclass(frozen=True)
class Trunk:
    """A decoder evaluated up to its last non-linearity.

    Attributes:
        decoder: The decoder.
        folded: Its folded weights.
        value: Its input.
        position: The position, relative to the box; or None.
        activated: What the last non-linearity gave; None for a linear decoder.
        slopes: Derivative of each non-linearity.
    """

    decoder: FieldDecoder
    folded: FoldedWeights
    value: Float[Tensor, "M _C"]
    position: Float[Tensor, "M 3"] | None
    activated: Float[Tensor, "M _H"] | None
    slopes: list[Float[Tensor, "M _H"]]

    def output(self, num_outputs: int | None = None) -> Float[Tensor, "M _O"]:
        """The decoded values, or the first ``num_outputs`` of them."""
        rows = slice(num_outputs)
        result = torch.addmm(self.folded.biases[-1][rows], self.value, self.folded.weights[-1][rows].T)
        if self.activated is not None:
            return torch.addmm(result, self.activated, self.decoder.head.weight[rows].T)
        if self.folded.position is not None:
            result = torch.addmm(result, self.position, self.folded.position[rows].T)
        return result

    def gradient(self) -> tuple[Float[Tensor, "M _C"], Float[Tensor, "M 3"] | None]:
        """Gradient of the first decoded value with respect to the input and to the position.

        The chain rule is written out, so that training needs no second pass through autograd.
        """
        layers, weights = self.decoder.layers, self.folded.weights
        by_value = weights[-1][0]
        by_position = None if self.folded.position is None else self.folded.position[0].expand_as(self.position)
        by_hidden = self.decoder.head.weight[0]
        for index in reversed(range(len(layers))):
            slope = self.slopes[index]
            # The head's gradient is one for all samples: it multiplies the weights rather than every slope.
            scale = by_hidden[:, None] if index == len(layers) - 1 else 1
            by_layer = slope if index == len(layers) - 1 else by_hidden * slope
            by_value = torch.addmm(by_value, by_layer, weights[index] * scale)
            if index:
                by_hidden = by_layer @ (layers[index].weight * scale)
            elif by_position is not None:
                by_position = by_layer @ (self.folded.position * scale)
        return by_value.expand_as(self.value), by_position


class _Softplus(torch.autograd.Function):
    """``log(1 + exp(100 x)) / 100`` and its derivative, of which the latter is all that it keeps."""

    @staticmethod
    def forward(ctx, value: Tensor) -> tuple[Tensor, Tensor]:
        slope = torch.sigmoid(value * SHARPNESS)
        ctx.save_for_backward(slope)
        # log(1 + exp(y)) = y - log(sigmoid(y)); where the sigmoid underflows the result would be below 0 and is 0.
        logarithm = slope.clamp(min=1e-37).log_().mul_(-1 / SHARPNESS)
        return logarithm.add_(value).clamp_(min=0), slope

    @staticmethod
    def backward(ctx, value_grad: Tensor, slope_grad: Tensor) -> Tensor:
        (slope,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            return slope * (value_grad + (slope_grad * SHARPNESS) * (1 - slope))
        return (1 - slope).mul_(slope_grad).mul_(SHARPNESS).add_(value_grad).mul_(slope)  # the same, in place
