"""The behaviour shared by every batched container: moving, pinning and replacing fields."""

import dataclasses
from typing import TypeVar

import torch
from torch import Tensor

Self = TypeVar("Self", bound="TensorStruct")


class TensorStruct:
    """Mix-in for frozen dataclasses whose fields are tensors, containers of this kind, or plain values."""

    def replace(self: Self, **changes) -> Self:
        """A copy with some fields changed; sizes are checked again."""
        return dataclasses.replace(self, **changes)

    def to(self: Self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """A copy on ``device``; plain values are kept."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self: Self) -> Self:
        """A copy in page-locked memory, from which copies to CUDA do not block."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self: Self, function) -> Self:
        changes = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changes[field.name] = function(value)
            elif isinstance(value, TensorStruct):
                changes[field.name] = value._map(function)
        return dataclasses.replace(self, **changes)


def require(condition: bool, message: str) -> None:
    """Raise ``ValueError`` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ValueError(message)
