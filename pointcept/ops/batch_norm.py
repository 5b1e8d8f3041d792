"""Batch normalisation over the samples of all processes, on any device and back end."""

import logging
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from pointcept.utils.distributed import all_reduce_sum, get_rank, get_world_size

_CONVERTED = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class SyncBatchNorm(_BatchNorm):
    """Batch norm whose training statistics cover all processes, as if their batches were one.

    Takes ``(N, C, ...)``. The processes may hold different numbers of rows, one of them none at all. In a single
    process, and in evaluation mode with running statistics, this is ordinary batch norm. Parameters, buffers and
    their names are those of ``nn.BatchNorm1d``. Gradients of weight and bias are this process's share, as
    ``DistributedDataParallel`` expects; second derivatives are not available.

    Source: the merging of means and variances is Chan, Golub and LeVeque, 1979, eq. 2.1.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"SyncBatchNorm takes (N, C, ...): got shape {tuple(input.shape)}. Add the channel axis.")

    def forward(self, input: Float[Tensor, "_N _C ..."]) -> Float[Tensor, "_N _C ..."]:
        """The normalised input, in its own dtype."""
        if not self.training or get_world_size() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        output, mean, variance, count = _Normalize.apply(input, self.weight, self.bias, self.eps)
        if self.track_running_stats:
            self._update_running_statistics(mean, variance, count)
        return output

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        self.num_batches_tracked.add_(1)
        momentum = self.momentum
        if momentum is None:  # a cumulative average; as a tensor, so that the device is not waited for
            momentum = 1.0 / self.num_batches_tracked.to(mean.dtype)
        unbiased = variance * count / (count - 1).clamp(min=1)
        self.running_mean.mul_(1 - momentum).add_(mean * momentum)
        self.running_var.mul_(1 - momentum).add_(unbiased * momentum)


def convert_sync_batch_norm(module: nn.Module) -> nn.Module:
    """Replaces every ``BatchNorm1d/2d/3d`` inside ``module`` by :class:`SyncBatchNorm`, keeping parameters and names.

    Subclasses of those may compute something else: they are kept, with a warning.

    Returns:
        ``module`` itself, changed in place, or its replacement where it is a batch norm.
    """
    if type(module) in _CONVERTED:
        return _converted(module)
    if isinstance(module, _CONVERTED):
        logging.getLogger("pointcept").warning(
            "%s is a subclass of a batch norm and stays unsynchronised over the processes.", type(module).__name__
        )
    for name, child in module.named_children():
        replacement = convert_sync_batch_norm(child)
        if replacement is not child:
            setattr(module, name, replacement)
    return module


def _converted(norm: _BatchNorm) -> SyncBatchNorm:
    sync = SyncBatchNorm(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats, device="meta"
    )
    sync._parameters.update(norm._parameters)
    sync._buffers.update(norm._buffers)
    return sync.train(norm.training)


class _Normalize(torch.autograd.Function):
    """Normalises by the statistics of all processes; one reduction forward, one backward."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        mean, variance, count = _statistics(x)
        inverse_std = torch.rsqrt(variance + eps)
        scale = inverse_std if weight is None else inverse_std * weight
        output = (x - _channels(mean, x)) * _channels(scale, x)
        if bias is not None:
            output = output + _channels(bias, x)
        ctx.save_for_backward(input, weight, mean, inverse_std, count)
        ctx.mark_non_differentiable(mean, variance, count)
        return output.to(input.dtype), mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, mean, inverse_std, count = ctx.saved_tensors
        grad = grad_output.to(mean.dtype)
        normalized = (input.to(mean.dtype) - _channels(mean, input)) * _channels(inverse_std, input)
        axes = _reduced_axes(input)
        grad_bias = grad.sum(axes)
        grad_weight = (grad * normalized).sum(axes)
        mean_grad, mean_grad_normalized = all_reduce_sum(torch.stack([grad_bias, grad_weight])) / count.clamp(min=1)
        scale = inverse_std if weight is None else inverse_std * weight
        grad_input = grad - _channels(mean_grad, input) - normalized * _channels(mean_grad_normalized, input)
        grad_input = (grad_input * _channels(scale, input)).to(input.dtype)
        affine = weight is not None
        return grad_input, grad_weight if affine else None, grad_bias if affine else None, None


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,), biased variance (C,) and number of values per channel () of all processes, in one reduction."""
    axes = _reduced_axes(x)
    local_count = x.numel() // x.shape[1]
    if local_count == 0:
        local_mean = local_variance = x.new_zeros(x.shape[1])
    else:
        local_variance, local_mean = torch.var_mean(x, axes, correction=0)
    table = x.new_zeros(get_world_size(), 2 * x.shape[1] + 1)  # one row per process
    table[get_rank()] = torch.cat([local_mean, local_variance, x.new_tensor([local_count])])
    means, variances, counts = all_reduce_sum(table).split([x.shape[1], x.shape[1], 1], dim=1)
    count = counts.sum()
    share = counts / count.clamp(min=1)
    mean = (share * means).sum(0)
    variance = (share * (variances + (means - mean) ** 2)).sum(0)
    return mean, variance, count


def _reduced_axes(x: Tensor) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _channels(values: Tensor, x: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (x.ndim - 2))
