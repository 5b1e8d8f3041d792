"""Predicting every point of a cloud by overlapping fragments and test-time augmentation, in bounded memory."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from pointcept.datasets.collate import collate
from pointcept.datasets.fragments import VoxelFragments, tiles
from pointcept.datasets.transforms.compose import Number, Transform, apply_transforms
from pointcept.engines.amp import Precision
from pointcept.registry import TESTERS
from pointcept.structures import PointSample
from pointcept.utils.seeding import derive_seed

_ROWS_AT_A_TIME = 65536


@dataclasses.dataclass(frozen=True)
class TilePrediction:
    """What is known of some points.

    Attributes:
        rows: The points, rows of the cloud.
        probability: (N, K) mean of the softmax over all fragments and variants that saw the point.
    """

    rows: Int64[np.ndarray, "_N"]
    probability: Tensor


@TESTERS.register()
class FragmentInference:
    """Sums the softmax of each point over the fragments and augmented variants of a cloud.

    A cloud with more than ``tile_points`` points is predicted tile by tile, so that memory grows with the tile and not
    with the cloud. A cloud of one tile gives what Pointcept's tester does.

    Args:
        grid_size: Voxel edge of the network's input, metres.
        post_transform: Makes the network's input of one fragment; may neither remove nor reorder points.
        aug_transform: One list of transforms for each variant; by default one variant, the cloud as it is.
        max_fragments: Largest number of fragments of a variant; None takes as many as the fullest voxel has points.
        batch_points: Fragments are computed together up to this number of points.
        tile_points: Points that are predicted at a time.
        tile_overlap_m: Surroundings of a tile that the network sees, metres.

    Raises:
        ValueError: a size is not positive.
    """

    def __init__(
        self,
        grid_size: Number,
        post_transform: Sequence[Transform],
        aug_transform: Sequence[Sequence[Transform]] = ((),),
        max_fragments: int | None = None,
        batch_points: int = 200_000,
        tile_points: int = 600_000,
        tile_overlap_m: Number = 1.0,
    ) -> None:
        sizes = {"grid_size": grid_size, "batch_points": batch_points, "tile_points": tile_points}
        sizes |= {"aug_transform": len(aug_transform), "max_fragments": 1 if max_fragments is None else max_fragments}
        for name, size in sizes.items():
            if size <= 0:
                raise ValueError(f"{name} must be positive, or not empty: got {size}. Correct it, or leave it out.")
        self.grid_size = grid_size
        self.post_transform = list(post_transform)
        self.aug_transform = [list(transforms) for transforms in aug_transform]
        self.max_fragments = max_fragments
        self.batch_points = batch_points
        self.tile_points = tile_points
        self.tile_overlap_m = tile_overlap_m

    def predict(
        self, model: nn.Module, sample: PointSample, device: torch.device, precision: Precision
    ) -> Int64[np.ndarray, "N"]:
        """The most probable class of every point of a cloud."""
        classes = np.full(sample.num_points, -1, dtype=np.int64)
        for tile in self.tiles(model, sample, device, precision):
            classes[tile.rows] = tile.probability.argmax(dim=1).cpu().numpy()
        return classes

    def tiles(
        self, model: nn.Module, sample: PointSample, device: torch.device, precision: Precision
    ) -> Iterator[TilePrediction]:
        """Class probabilities of every point, some points at a time; each point comes once.

        Args:
            model: In evaluation mode; gives ``logits`` (N, K) for the points of a batch.
            sample: The cloud, as the data set gives it; what ``GridSample`` may have noted of its origin is not used.
            device: Where to compute and to sum.
            precision: Number format of the network.

        Raises:
            ValueError: the transforms change which points there are.
        """
        scene = {key: value for key, value in sample.scene.items() if key not in ("inverse", "origin_segment")}
        sample = dataclasses.replace(sample, scene=scene)
        for tile in tiles(sample.coord, self.tile_points, self.tile_overlap_m):
            part = sample if len(tile.context) == sample.num_points else sample.select(tile.context)
            place = torch.full((len(tile.context),), -1, dtype=torch.long)
            place[torch.from_numpy(tile.core_in_context)] = torch.arange(len(tile.core))
            total: Tensor | None = None
            for batch in self._batches(part):
                logits = self._logits(model, [fragment for fragment, _, _ in batch], device, precision)
                if total is None:
                    total = torch.zeros(len(tile.core), logits.shape[1], device=device)
                start = 0
                for fragment, points, voxels in batch:
                    rows = place[torch.from_numpy(points)]
                    inside = rows >= 0
                    index = (torch.from_numpy(voxels) + start)[inside]
                    _add_softmax(total, rows[inside].to(device), logits, index.to(device))
                    start += fragment.num_points
                del logits
            yield TilePrediction(tile.core, total.div_(total.sum(dim=1, keepdim=True)))
            del total

    @torch.no_grad()
    def _logits(
        self, model: nn.Module, fragments: list[PointSample], device: torch.device, precision: Precision
    ) -> Tensor:
        batch = collate(fragments).to(device)
        with precision.autocast():
            return model(batch)["logits"]

    def _batches(self, sample: PointSample) -> Iterator[list[tuple[PointSample, np.ndarray, np.ndarray]]]:
        """Fragments with the points that their voxels count for, as many as are computed together."""
        batch, num_points = [], 0
        for entry in self._fragments(sample):
            if batch and num_points + entry[0].num_points > self.batch_points:
                yield batch
                batch, num_points = [], 0
            batch.append(entry)
            num_points += entry[0].num_points
        if batch:
            yield batch

    def _fragments(self, sample: PointSample) -> Iterator[tuple[PointSample, np.ndarray, np.ndarray]]:
        for variant, transforms in enumerate(self.aug_transform):
            rng = np.random.default_rng(derive_seed(sample.seed, variant))
            augmented = apply_transforms(sample, transforms, rng)
            _require_same_points(augmented, sample.num_points, f"aug_transform[{variant}]")
            fragments = VoxelFragments(augmented.coord, self.grid_size, self.max_fragments)
            for index in range(len(fragments)):
                rows = fragments.rows(index)
                part = augmented.select(rows).with_point(grid_coord=fragments.grid_coord)
                fragment = apply_transforms(part, self.post_transform, rng)
                _require_same_points(fragment, len(rows), "post_transform")
                points, voxels = fragments.left_over(index)
                yield fragment, np.concatenate([rows, points]), np.concatenate([np.arange(len(rows)), voxels])


def _add_softmax(total: Tensor, rows: Tensor, logits: Tensor, index: Tensor) -> None:
    """Adds the softmax of ``logits[index]`` to ``total[rows]``, some rows at a time: classes may be hundreds."""
    for start in range(0, len(rows), _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        total.index_add_(0, rows[part], logits.index_select(0, index[part]).float().softmax(dim=1))


def _require_same_points(sample: PointSample, num_points: int, name: str) -> None:
    if sample.num_points != num_points:
        raise ValueError(
            f"{name} must keep every point: {num_points} went in and {sample.num_points} came out for scene "
            f"{sample.name!r}. Take out what drops, crops or samples points."
        )
