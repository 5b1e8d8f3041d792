"""What rays see that leave the scene box without meeting a surface."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pointcept.registry import MODELS

_NUM_OCTAVES = 2


@MODELS.register()
class SkyColor(nn.Module):
    """A colour for every direction, the same for all scenes: the sky, and what lies beyond an outdoor box.

    A small network on the direction and its sines and cosines (Rematas et al., Urban Radiance Fields, CVPR 2022,
    section 4.2). Without it the field has to paint the sky onto surfaces inside the box.

    Args:
        hidden_channels: Width of the network.
    """

    def __init__(self, hidden_channels: int = 32) -> None:
        super().__init__()
        self.register_buffer("factors", torch.pi * 2.0 ** torch.arange(_NUM_OCTAVES), persistent=False)
        self.network = nn.Sequential(
            nn.Linear(3 + 6 * _NUM_OCTAVES, hidden_channels),
            nn.ReLU(),
            nn.Linear(hidden_channels, hidden_channels),
            nn.ReLU(),
            nn.Linear(hidden_channels, 3),
        )

    def forward(self, directions: Float[Tensor, "*rays 3"]) -> Float[Tensor, "*rays 3"]:
        """RGB, 0..1, of unit directions in the world frame (z up)."""
        angle = (directions[..., None, :] * self.factors[:, None]).flatten(-2)
        return torch.sigmoid(self.network(torch.cat((directions, angle.sin(), angle.cos()), dim=-1)))
