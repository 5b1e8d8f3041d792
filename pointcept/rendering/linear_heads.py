"""A field of one softplus layer with linear heads: its forward and backward pass written out, some rays at a time.

At a sample v is what the geometry branch reads of the volume, and r all that is read. With a the softplus of L v + b
and s its slope, the SDF is A a + B v + c, and its gradient in space g = J^T (L^T (A s) + B), where J = dv/dx. Colour
logits are linear in (g, a, r). So are features, which are therefore decoded once per ray, from weighted sums of these.
``SDFField`` evaluates the same by autograd, and is what this is tested against.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from pointcept.ops import trilinear
from pointcept.rendering.decoders import SHARPNESS


class LinearHeads(NamedTuple):
    """Weights of a field with one softplus layer and linear heads.

    Attributes:
        layer: The softplus layer, which sees the geometry branch.
        layer_bias: Its bias.
        heads: SDF and colour logits from the gradient (no columns if the field has none), the activation and the read.
        heads_bias: Their bias.
        by_direction: Colour logits from the direction of view.
    """

    layer: Float[Tensor, "H _C"]
    layer_bias: Float[Tensor, "H"]
    heads: Float[Tensor, "4 _K"]
    heads_bias: Float[Tensor, "4"]
    by_direction: Float[Tensor, "3 3"]


class RayPiece:
    """The samples of some rays of each scene.

    Attributes:
        part: Which rays.
        shape: Scenes, rays and samples per ray.
    """

    part: slice
    shape: tuple[int, int, int]

    def find_corners(self) -> trilinear.Corners:
        """Voxels around the samples, scene by scene, ray by ray."""
        raise NotImplementedError

    def composite(self, sdf: Tensor, gradient: Tensor, color: Tensor) -> tuple[Tensor, ...]:
        """Weights of the samples (first), and whatever else follows from these three along each ray."""
        raise NotImplementedError


def render_linear(
    pieces: Sequence[RayPiece],
    rows: Float[Tensor, "_V _R"],
    heads: LinearHeads,
    directions: Float[Tensor, "B _N 3"],
    parameters: Sequence[Tensor],
    *,
    with_sums: bool,
) -> tuple[Tensor, ...]:
    """SDF, gradient, what the pieces' ``composite`` gives, and the weighted sums of (gradient, activation, read).

    The backward pass evaluates each piece once more; all pieces share their memory. It can be differentiated once.
    Nothing is differentiated with respect to the rays.

    Args:
        pieces: All samples. Their results are joined along the rays.
        rows: One row per voxel; the geometry branch reads the first channels, as many as the layer has columns.
        heads: The weights.
        directions: Of the rays, unit, world frame.
        parameters: All leaves that ``composite`` depends on.
        with_sums: Whether the sums are wanted; without, the result has none.
    """
    by_ray = F.linear(directions, heads.by_direction)
    return _Pieces.apply(pieces, with_sums, rows, *heads[:4], by_ray, *parameters)


@torch.no_grad()
def query_linear(
    corners: Iterable[trilinear.Corners], rows: Float[Tensor, "_V _R"], heads: LinearHeads, *, max_size: int
) -> list[Float[Tensor, "_M"]]:
    """The signed distance at positions of which the corners are given, no more than ``max_size`` at a time."""
    field = _Field(rows, heads.layer, heads.layer_bias, heads.heads, max_size)
    return [field.evaluate_sdf(some, heads.heads_bias[0]) for some in corners]


@dataclasses.dataclass
class _Samples:
    """The field at the samples of a piece.

    Attributes:
        geometry: Corners in the rows of the geometry branch.
        read: r.
        softplus: a, times the softplus's sharpness.
        slope: s'.
        direction: L^T (A s') + B, the gradient of the SDF with respect to v.
    """

    geometry: trilinear.Corners
    read: Float[Tensor, "M _R"]
    softplus: Float[Tensor, "M H"]
    slope: Float[Tensor, "M H"]
    direction: Float[Tensor, "M _C"]


class _Field:
    """Weights in the form in which they are applied, and the memory that the pieces share."""

    def __init__(self, rows: Tensor, layer: Tensor, layer_bias: Tensor, heads: Tensor, size: int) -> None:
        hidden, width = layer.shape
        self.rows, self.geometry_rows = rows.detach(), rows.detach().view(-1, width)
        self.is_split = rows.shape[1] > width
        self.scaled = (layer * SHARPNESS).T
        self.scaled_bias = layer_bias * SHARPNESS
        by_gradient, by_softplus, by_read = heads.split((3, hidden, rows.shape[1]), dim=1)
        self.by_slope = by_softplus[0, :, None] * layer
        self.by_geometry = by_read[0, :width]
        self.parts = (by_gradient, by_softplus / SHARPNESS, by_read)
        self.softplus, self.slope, self.spare = rows.new_empty(3, size, hidden)
        self.direction = rows.new_empty(size, width)

    def evaluate(self, corners: trilinear.Corners) -> _Samples:
        read = _read(self.rows, corners, corners.weight)
        softplus, slope = self._activate(read[:, : len(self.by_geometry)])
        direction = torch.addmm(self.by_geometry, slope, self.by_slope, out=self.direction[: len(slope)])
        return _Samples(self._geometry(corners), read, softplus, slope, direction)

    def evaluate_sdf(self, corners: trilinear.Corners, bias: Tensor) -> Float[Tensor, "M"]:
        corners = self._geometry(corners)
        read = _read(self.geometry_rows, corners, corners.weight)
        softplus, _ = self._activate(read)
        return bias + read @ self.by_geometry + softplus @ self.parts[1][0]

    def space_gradient(self, samples: _Samples, slope: Float[Tensor, "M 8 3"]) -> Float[Tensor, "M 3"]:
        derivatives = (_read(self.geometry_rows, samples.geometry, weight.contiguous()) for weight in slope.unbind(-1))
        return torch.stack([value.mul_(samples.direction).sum(dim=-1) for value in derivatives], dim=-1)

    def _activate(self, read: Float[Tensor, "M _C"]) -> tuple[Float[Tensor, "M H"], Float[Tensor, "M H"]]:
        softplus, slope, spare = (buffer[: len(read)] for buffer in (self.softplus, self.slope, self.spare))
        torch.addmm(self.scaled_bias, read, self.scaled, out=softplus)
        torch.sigmoid(softplus, out=slope)
        # log(1 + exp(y)) = y - log(sigmoid(y)); where the sigmoid underflows the result would be below 0 and is 0.
        softplus.sub_(torch.clamp(slope, min=1e-37, out=spare).log_()).clamp_(min=0)
        return softplus, slope

    def _geometry(self, corners: trilinear.Corners) -> trilinear.Corners:
        return corners.half_rows(0) if self.is_split else corners


class _Pieces(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        pieces: Sequence[RayPiece],
        with_sums: bool,
        rows: Tensor,
        layer: Tensor,
        layer_bias: Tensor,
        heads: Tensor,
        heads_bias: Tensor,
        by_ray: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, ...]:
        field = _Field(rows, layer, layer_bias, heads, _largest(pieces))
        results = []
        for piece in pieces:
            corners = piece.find_corners()
            samples = field.evaluate(corners)
            gradient = field.space_gradient(samples, corners.slope)
            values = (gradient, samples.softplus, samples.read)
            output = heads_bias
            for value, weight in zip(values, field.parts, strict=True):
                output = torch.addmm(output, value, weight.T)
            output = output.view(*piece.shape, 4)
            sdf, logits = output[..., 0], output[..., 1:] + by_ray[:, piece.part, None]
            gradient = gradient.view(*piece.shape, 3)
            composited = piece.composite(sdf, gradient, torch.sigmoid(logits))
            sums = ()
            if with_sums:
                weight = composited[0].flatten(0, 1)[:, None]
                gradient_sum, softplus_sum, read_sum = (weight @ _by_ray(value, piece) for value in values)
                sums = torch.cat((gradient_sum, softplus_sum / SHARPNESS, read_sum), dim=-1)
                sums = (sums.view(*piece.shape[:2], -1),)
            results.append((logits, sdf, gradient, *composited, *sums))
        logits, sdf, gradient, *rest = (torch.cat(parts, dim=1) for parts in zip(*results, strict=True))
        ctx.pieces, ctx.with_sums = pieces, with_sums
        ctx.save_for_backward(rows, layer, layer_bias, heads, logits, sdf, gradient, *parameters)
        return sdf, gradient, *rest

    @staticmethod
    @once_differentiable
    def backward(ctx, sdf_grad: Tensor, gradient_grad: Tensor, *grads: Tensor):
        rows, layer, layer_bias, heads, logits, sdf, gradient, *parameters = ctx.saved_tensors
        field = _Field(rows, layer, layer_bias, heads, _largest(ctx.pieces))
        (hidden, width), num_read = layer.shape, rows.shape[1]
        composited_grads, sums_grad = (grads[:-1], grads[-1]) if ctx.with_sums else (grads, None)
        rows_grad = torch.zeros_like(rows) if ctx.needs_input_grad[2] else None
        layer_grad, layer_bias_grad = torch.zeros_like(layer), torch.zeros_like(layer_bias)
        heads_grad, heads_bias_grad = torch.zeros_like(heads), heads.new_zeros(4)
        slope_product = torch.zeros_like(layer)  # gradient with respect to _Field.by_slope
        by_ray_grad = torch.empty_like(logits[:, :, 0])
        wanted = [parameter for parameter in parameters if parameter.requires_grad]
        parameter_grads = [torch.zeros_like(parameter) for parameter in wanted]
        for piece in ctx.pieces:
            corners = piece.find_corners()
            samples = field.evaluate(corners)
            leaves = [value[:, piece.part].detach().contiguous() for value in (sdf, gradient, logits)]
            leaves = [leaf.requires_grad_() for leaf in leaves]
            with torch.enable_grad():
                composited = piece.composite(leaves[0], leaves[1], torch.sigmoid(leaves[2]))
            own_grads = [grad[:, piece.part] for grad in composited_grads]
            values = [
                _by_ray(value, piece) for value in (leaves[1].detach().view(-1, 3), samples.softplus, samples.read)
            ]
            factors = heads.expand(values[0].shape[0], -1, -1)
            if sums_grad is not None:
                sum_grads = sums_grad[:, piece.part].reshape(-1, 1, heads.shape[1])
                factors = torch.cat((factors, sum_grads), dim=1)
                scaled = sum_grads.split((3, hidden, num_read), dim=-1)
                scaled = (scaled[0], scaled[1] / SHARPNESS, scaled[2])
                by_weight = sum(value @ grad.transpose(1, 2) for value, grad in zip(values, scaled, strict=True))
                own_grads[0] = own_grads[0] + by_weight.view(piece.shape)
            found = torch.autograd.grad(composited, [*leaves, *wanted], own_grads, allow_unused=True)
            for total, grad in zip(parameter_grads, found[3:], strict=True):
                if grad is not None:
                    total += grad
            logits_grad = found[2]
            by_ray_grad[:, piece.part] = logits_grad.sum(dim=2)
            output_grad = torch.cat(((sdf_grad[:, piece.part] + found[0])[..., None], logits_grad), dim=-1).view(-1, 4)

            # The heads: one product per ray gives the gradients of its samples, from their outputs and from the sums.
            coefficients = _by_ray(output_grad, piece)
            if sums_grad is not None:
                coefficients = torch.cat((coefficients, composited[0].detach().flatten(0, 1)[..., None]), dim=-1)
            of_gradient, of_softplus, of_read = factors.split((3, hidden, num_read), dim=-1)
            space_grad = (gradient_grad[:, piece.part] + found[1]).reshape(-1, 3)
            space_grad = space_grad + (coefficients @ of_gradient).view(-1, 3)
            read_grad = (coefficients @ of_read).flatten(0, 1)
            products = [output_grad.T @ value.flatten(0, 1) for value in values]
            heads_grad += torch.cat((products[0], products[1] / SHARPNESS, products[2]), dim=1)
            heads_bias_grad += output_grad.sum(dim=0)

            # The layer, reached through the gradient in space (its slope) and through the activation.
            pull = torch.einsum("md,mcd->mc", space_grad, corners.slope)
            direction_grad = _read(field.geometry_rows, samples.geometry, pull)
            slope_product.addmm_(samples.slope.T, direction_grad)
            heads_grad[0, 3 + hidden : 3 + hidden + width] += direction_grad.sum(dim=0)
            through = field.spare[: direction_grad.shape[0]]
            torch.mm(direction_grad, field.by_slope.T, out=through)
            through.mul_(SHARPNESS).addcmul_(samples.slope, through, value=-1)
            _by_ray(through, piece).baddbmm_(coefficients, of_softplus)
            through.mul_(samples.slope)
            geometry = samples.read[:, :width]
            layer_grad.addmm_(through.T, geometry)
            layer_bias_grad += through.sum(dim=0)
            if rows_grad is not None:
                read_grad[:, :width].addmm_(through, layer)
                _add_to_rows(rows_grad, corners, read_grad, pull, samples.direction)
        layer_grad += heads[0, 3 : 3 + hidden, None] * slope_product
        heads_grad[0, 3 : 3 + hidden] += (layer * slope_product).sum(dim=1)
        found = iter(parameter_grads)
        own = [next(found) if parameter.requires_grad else None for parameter in parameters]
        return None, None, rows_grad, layer_grad, layer_bias_grad, heads_grad, heads_bias_grad, by_ray_grad, *own


def _largest(pieces: Sequence[RayPiece]) -> int:
    return max(scenes * rays * samples for scenes, rays, samples in (piece.shape for piece in pieces))


def _by_ray(value: Float[Tensor, "M _K"], piece: RayPiece) -> Float[Tensor, "_R _S _K"]:
    return value.view(-1, piece.shape[2], value.shape[1])


def _read(rows: Tensor, corners: trilinear.Corners, weight: Tensor) -> Tensor:
    return F.embedding_bag(corners.index, rows, per_sample_weights=weight, mode="sum")


def _add_to_rows(rows_grad: Tensor, corners: trilinear.Corners, read_grad: Tensor, pull: Tensor, direction: Tensor):
    """Adds what the samples say of the voxels that they read, and of those that their gradient depends on."""
    entries, starts, touched = corners.by_row
    samples = entries >> 3

    def sums(features: Tensor, weight: Tensor) -> Tensor:
        weight = weight.reshape(-1).index_select(0, entries)
        return F.embedding_bag(samples, features, starts, per_sample_weights=weight, mode="sum")

    found = sums(read_grad, corners.weight)
    found[:, : direction.shape[1]] += sums(direction, pull)
    rows_grad.index_add_(0, touched, found)
