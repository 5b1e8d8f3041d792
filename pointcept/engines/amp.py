"""The number format that a model computes in."""

import contextlib
import dataclasses
from typing import Literal

import torch


@dataclasses.dataclass(frozen=True)
class Precision:
    """Full precision, or automatic mixed precision in one of two formats.

    Attributes:
        name: ``float32`` switches mixed precision off; ``float16`` scales the loss, ``bfloat16`` need not.
        device_type: ``cpu`` or ``cuda``.
    """

    name: Literal["float32", "float16", "bfloat16"] = "float32"
    device_type: str = "cpu"

    def autocast(self) -> contextlib.AbstractContextManager:
        """The context in which the model and its losses are computed."""
        if self.name == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device_type, dtype=getattr(torch, self.name))

    def scaler(self) -> torch.amp.GradScaler:
        """A gradient scaler, which does nothing except in ``float16``."""
        return torch.amp.GradScaler(self.device_type, enabled=self.name == "float16")
