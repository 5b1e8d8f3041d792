"""What a depth camera makes of a perfect image: noise, quantisation, and pixels without depth."""

import dataclasses

import numpy as np
from jaxtyping import Float, UInt8

from pointcept.datasets.synthetic.textures import noise

_MISSING_BLOB_PX = 24.0


@dataclasses.dataclass(frozen=True)
class Sensor:
    """A depth camera of the structured-light kind.

    Attributes:
        noise_m: Standard deviation of depth at z = 0, metres.
        noise_per_m2: Its growth with the square of the depth, 1/metre.
        step_per_m2: Quantisation step, which grows with the square of the depth, 1/metre.
        min_depth: Nothing nearer is measured, metres.
        max_depth: Nothing farther is measured, metres.
        min_cosine: Surfaces seen at a smaller cosine to their normal are mostly not measured.
        edge: Relative jump of depth from pixel to pixel at which both sides are mostly lost.
        dropout: Share of pixels that is lost anywhere.
        color_noise: Standard deviation of colour, of 255.
    """

    noise_m: float = 0.0005
    noise_per_m2: float = 0.0009
    step_per_m2: float = 0.0012
    min_depth: float = 0.3
    max_depth: float = 6.0
    min_cosine: float = 0.14
    edge: float = 0.05
    dropout: float = 0.008
    color_noise: float = 2.0

    def sigma(self, depth: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Standard deviation of the noise at each depth, metres."""
        return self.noise_m + self.noise_per_m2 * depth**2


def measure_depth(
    sensor: Sensor,
    depth: Float[np.ndarray, "H W"],
    cosine: Float[np.ndarray, "H W"],
    missing: Float[np.ndarray, "H W"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "H W"]:
    """The depth image that the sensor gives.

    Args:
        sensor: Its properties.
        depth: True z-depth, metres, infinite where there is nothing.
        cosine: Between the surface normal and the way to the camera.
        missing: Share of each pixel's material that the sensor does not see.
        rng: Source of the noise.

    Returns:
        z-depth in whole millimetres, metres; 0 = missing.
    """
    height, width = depth.shape
    step = np.maximum(sensor.step_per_m2 * depth**2, 0.001)
    with np.errstate(invalid="ignore"):  # infinite depth is lost below
        measured = depth + sensor.sigma(depth) * rng.standard_normal(depth.shape)
        measured = np.rint(np.rint(measured / step) * step * 1000) / 1000
    chance = rng.random(depth.shape)
    row, column = np.mgrid[:height, :width].reshape(2, -1)
    blobs = noise(np.stack([row, column], axis=1) + rng.uniform(0, 1000, 2), _MISSING_BLOB_PX).reshape(depth.shape)
    is_lost = (
        ~((depth > sensor.min_depth) & (depth < sensor.max_depth))
        | ((cosine < sensor.min_cosine) & (chance < 0.85))
        | (_is_edge(depth, sensor.edge) & (chance > 0.25))
        | (chance < sensor.dropout)
        | (blobs < missing)
        | (blobs > 0.995)
    )
    return np.where(is_lost, 0.0, measured)


def measure_color(
    sensor: Sensor, color: Float[np.ndarray, "H W 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "H W 3"]:
    """The colour image that the sensor gives of colours in 0..1."""
    noisy = color * 255.0 + sensor.color_noise * rng.standard_normal(color.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _is_edge(depth: Float[np.ndarray, "H W"], limit: float) -> np.ndarray:
    """Pixels where the surface breaks off: along a plane 1/z is linear in the pixels, so its second difference is 0."""
    inverse = 1.0 / depth
    bend = np.zeros_like(depth)
    bend[:, 1:-1] = np.abs(inverse[:, 2:] - 2 * inverse[:, 1:-1] + inverse[:, :-2])
    vertical = np.abs(inverse[2:] - 2 * inverse[1:-1] + inverse[:-2])
    bend[1:-1] = np.maximum(bend[1:-1], vertical)
    return bend > limit * inverse
