"""The small networks that turn a feature read from the volume into signed distance, colour or features."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_SHARPNESS = 100.0  # of the softplus


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
        return self._run(value, position, num_outputs)[0]

    def forward_with_gradient(
        self, value: Float[Tensor, "M _C"], position: Float[Tensor, "M 3"] | None
    ) -> tuple[Float[Tensor, "M _O"], Float[Tensor, "M _C"], Float[Tensor, "M 3"] | None]:
        """Decoded values, and the gradient of the first of them with respect to both inputs.

        The chain rule is written out, so that training needs no second pass through autograd.
        """
        output, slopes, weights, position_weight = self._run(value, position, None)
        value_gradient = weights[-1][0].expand_as(value)
        by_hidden = self.head.weight[0]
        for index in reversed(range(len(self.layers))):
            by_layer = by_hidden * slopes[index]
            value_gradient = torch.addmm(value_gradient, by_layer, weights[index])
            by_hidden = by_layer @ self.layers[index].weight if index else by_layer
        position_gradient = None
        if position_weight is not None:
            position_gradient = by_hidden @ position_weight if self.layers else position_weight[0].expand_as(position)
        return output, value_gradient, position_gradient

    def hidden(self, value: Float[Tensor, "M _C"], position: Float[Tensor, "M 3"] | None) -> Float[Tensor, "M _H"]:
        """What ``decode_hidden`` maps, linearly, to the output: for a linear decoder its own input."""
        if not self.layers:
            return value if self.position is None else torch.cat((value, position), dim=-1)
        activated, projection = self._run(value, position, 0)[0], self.inputs[-1]
        return torch.addmm(activated, value, projection.weight.T) + projection.bias

    def decode_hidden(
        self, hidden: Float[Tensor, "*batch _H"], opacity: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch _O"]:
        """Output of a weighted sum of hidden values whose weights sum to ``opacity``: the bias counts that often."""
        if self.layers:
            weight, bias = self.head.weight, self.head.bias
        else:
            weights, biases, position_weight = self._folded()
            weight, bias = weights[0], biases[0]
            if position_weight is not None:
                weight = torch.cat((weight, position_weight), dim=-1)
        return F.linear(hidden, weight) + bias * opacity[..., None]

    def _folded(self) -> tuple[list[Tensor], list[Tensor], Tensor | None]:
        """Each input projection times the layer that follows it, and the same for the position."""
        following = (*self.layers, self.head)
        weights = [after.weight @ before.weight for before, after in zip(self.inputs, following, strict=True)]
        biases = [after.weight @ before.bias + after.bias for before, after in zip(self.inputs, following, strict=True)]
        if self.position is None:
            return weights, biases, None
        first = following[0].weight * self.position_factor
        biases[0] = biases[0] + first @ self.position.bias
        return weights, biases, first @ self.position.weight

    def _run(
        self, value: Tensor, position: Tensor | None, num_outputs: int | None
    ) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor | None]:
        """Output (with 0 outputs: the last activation), slopes of the activations, and the folded weights."""
        weights, biases, position_weight = self._folded()
        slopes = []
        activated = None
        for index, layer in enumerate((*self.layers, self.head)):
            is_last = index == len(self.layers)
            if is_last and num_outputs == 0:
                return activated, slopes, weights, position_weight
            rows = slice(num_outputs if is_last else None)
            result = torch.addmm(biases[index][rows], value, weights[index][rows].T)
            if index == 0 and position_weight is not None:
                result = torch.addmm(result, position, position_weight[rows].T)
            if activated is not None:
                result = torch.addmm(result, activated, layer.weight[rows].T)
            if is_last:
                return result, slopes, weights, position_weight
            if self.softplus:
                activated, slope = _Softplus.apply(result)
            else:
                activated, slope = F.relu(result), (result > 0).to(result.dtype)
            slopes.append(slope)
        raise AssertionError("the head is the last layer")


class _Softplus(torch.autograd.Function):
    """``log(1 + exp(100 x)) / 100`` and its derivative, of which the latter is all that it keeps."""

    @staticmethod
    def forward(ctx, value: Tensor) -> tuple[Tensor, Tensor]:
        slope = torch.sigmoid(value * _SHARPNESS)
        ctx.save_for_backward(slope)
        # log(1 + exp(-|y|)) = -log(sigmoid(|y|)), and sigmoid(|y|) is the larger of sigmoid(y) and 1 - sigmoid(y).
        rest = torch.maximum(slope, 1 - slope).log_().mul_(-1 / _SHARPNESS)
        return rest.add_(value.clamp(min=0)), slope

    @staticmethod
    def backward(ctx, value_grad: Tensor, slope_grad: Tensor) -> Tensor:
        (slope,) = ctx.saved_tensors
        return slope * (value_grad + (slope_grad * _SHARPNESS) * (1 - slope))
