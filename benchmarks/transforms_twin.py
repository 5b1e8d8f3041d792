"""The steps of Pointcept's ScanNet training pipeline, written plainly in NumPy and SciPy, to compare with."""

from collections.abc import Callable

import numpy as np
import scipy.ndimage
import torch
from scipy.interpolate import RegularGridInterpolator

Sample = dict[str, np.ndarray]
Step = Callable[[Sample, np.random.Generator], Sample]

POINT_KEYS = ("coord", "color", "normal", "segment", "instance", "grid_coord")


def center_shift(apply_z: bool) -> Step:
    """Centre of the bounding box to x = y = 0, and the floor to z = 0."""

    def step(sample: Sample, rng: np.random.Generator) -> Sample:
        low, high = sample["coord"].min(axis=0), sample["coord"].max(axis=0)
        shift = [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2] if apply_z else 0]
        sample["coord"] -= np.array(shift, dtype=np.float32)
        return sample

    return step


def _subset(sample: Sample, index: np.ndarray) -> Sample:
    return {key: value[index] if key in POINT_KEYS else value for key, value in sample.items()}


def random_dropout(ratio: float, probability: float) -> Step:
    """Keeps a random share of the points."""

    def step(sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() >= probability:
            return sample
        count = len(sample["coord"])
        return _subset(sample, rng.choice(count, int(count * (1 - ratio)), replace=False))

    return step


def random_rotate(angle: tuple[float, float], axis: int, center: list[float] | None, probability: float) -> Step:
    """Turns positions and normals about an axis."""

    def step(sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() >= probability:
            return sample
        turn = rng.uniform(*angle) * np.pi
        cosine, sine = np.cos(turn), np.sin(turn)
        first, second = [other for other in range(3) if other != axis]
        matrix = np.eye(3)
        matrix[first, first] = matrix[second, second] = cosine
        matrix[first, second], matrix[second, first] = -sine, sine
        fixed = (sample["coord"].min(axis=0) + sample["coord"].max(axis=0)) / 2 if center is None else np.array(center)
        sample["coord"] -= fixed.astype(np.float32)
        sample["coord"] = np.dot(sample["coord"], matrix.T)
        sample["coord"] += fixed
        sample["normal"] = np.dot(sample["normal"], matrix.T)
        return sample

    return step


def random_scale(scale: tuple[float, float]) -> Step:
    """Scales positions."""

    def step(sample: Sample, rng: np.random.Generator) -> Sample:
        sample["coord"] *= rng.uniform(*scale)
        return sample

    return step


def random_flip(probability: float) -> Step:
    """Mirrors along x and along y."""

    def step(sample: Sample, rng: np.random.Generator) -> Sample:
        for axis in (0, 1):
            if rng.random() < probability:
                sample["coord"][:, axis] = -sample["coord"][:, axis]
                sample["normal"][:, axis] = -sample["normal"][:, axis]
        return sample

    return step


def random_jitter(sigma: float, clip: float) -> Step:
    """Adds clipped noise to positions."""

    def step(sample: Sample, rng: np.random.Generator) -> Sample:
        sample["coord"] += np.clip(sigma * rng.standard_normal(sample["coord"].shape), -clip, clip)
        return sample

    return step


def elastic_distortion(params: tuple[tuple[float, float], ...], probability: float) -> Step:
    """Smooth noise on a lattice, read by SciPy's interpolator."""

    def step(sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() >= probability:
            return sample
        for granularity, magnitude in params:
            coord = sample["coord"]
            low = coord.min(axis=0)
            shape = ((coord - low).max(axis=0) // granularity).astype(int) + 3
            noise = rng.standard_normal((*shape, 3)).astype(np.float32)
            for _ in range(2):
                for kernel in ((3, 1, 1, 1), (1, 3, 1, 1), (1, 1, 3, 1)):
                    blur = np.ones(kernel, dtype=np.float32) / 3
                    noise = scipy.ndimage.convolve(noise, blur, mode="constant", cval=0)
            axes = [
                np.linspace(start, stop, count)
                for start, stop, count in zip(low - granularity, low + granularity * (shape - 2), shape)
            ]
            interpolator = RegularGridInterpolator(axes, noise, bounds_error=False, fill_value=0)
            sample["coord"] = coord + interpolator(coord) * magnitude
        return sample

    return step


def auto_contrast(probability: float) -> Step:
    """Stretches each channel to 0..255, and blends."""

    def step(sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() < probability:
            low = sample["color"].min(axis=0, keepdims=True)
            high = sample["color"].max(axis=0, keepdims=True)
            stretched = (sample["color"] - low) * (255 / (high - low))
            blend = rng.random()
            sample["color"] = (1 - blend) * sample["color"] + blend * stretched
        return sample

    return step


def color_translation(probability: float, ratio: float) -> Step:
    """One random colour for all points."""

    def step(sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() < probability:
            shift = (rng.random((1, 3)) - 0.5) * 255 * 2 * ratio
            sample["color"] = np.clip(shift + sample["color"], 0, 255)
        return sample

    return step


def color_jitter(probability: float, std: float) -> Step:
    """Noise for the colour of each point."""

    def step(sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() < probability:
            noise = rng.standard_normal((len(sample["color"]), 3)) * std * 255
            sample["color"] = np.clip(noise + sample["color"], 0, 255)
        return sample

    return step


def grid_sample(size: float) -> Step:
    """One point per voxel, which an FNV hash and ``np.unique`` tell apart."""

    def step(sample: Sample, rng: np.random.Generator) -> Sample:
        grid = np.floor(sample["coord"] / size).astype(int)
        grid -= grid.min(axis=0)
        values = grid.astype(np.uint64)
        key = np.full(len(values), 14695981039346656037, dtype=np.uint64)
        for axis in range(3):
            key *= np.uint64(1099511628211)
            key = np.bitwise_xor(key, values[:, axis])
        order = np.argsort(key)
        _, _, count = np.unique(key[order], return_inverse=True, return_counts=True)
        start = np.cumsum(np.insert(count, 0, 0)[:-1])
        chosen = order[start + rng.integers(0, count.max(), count.size) % count]
        sample = _subset(sample, chosen)
        sample["grid_coord"] = grid[chosen]
        return sample

    return step


def sphere_crop(point_max: int) -> Step:
    """The points nearest to a random one, by sorting all distances."""

    def step(sample: Sample, rng: np.random.Generator) -> Sample:
        coord = sample["coord"]
        if len(coord) <= point_max:
            return sample
        center = coord[rng.integers(len(coord))]
        return _subset(sample, np.argsort(np.sum(np.square(coord - center), axis=1))[:point_max])

    return step


def normalize_color(sample: Sample, rng: np.random.Generator) -> Sample:
    """Colour to 0..1."""
    sample["color"] = sample["color"] / 255
    return sample


def shuffle(sample: Sample, rng: np.random.Generator) -> Sample:
    """Random order."""
    return _subset(sample, rng.permutation(len(sample["coord"])))


def to_tensor(sample: Sample, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """Tensors of everything."""
    return {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in sample.items()}


def collect(sample: dict[str, torch.Tensor], rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """Features side by side; the offset is first counted row by row, as ``Collect`` there does before replacing it."""
    collected = {key: sample[key] for key in ("coord", "grid_coord", "segment", "instance")}
    collected["offset"] = torch.tensor([row.shape[0] for row in sample["coord"]])
    collected["offset"] = torch.tensor([sample["coord"].shape[0]])
    collected["feat"] = torch.cat([sample[key].float() for key in ("color", "normal")], dim=1)
    return collected
