"""The k-nearest-neighbour probe: how well features tell classes apart, without training anything."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


class NearestNeighborClassifier:
    """Classifies features by the k labelled ones of largest cosine similarity.

    Each neighbour votes for its class with exp(similarity / temperature) (Wu et al., CVPR 2018, section 3.4). What is
    remembered is a uniform random sample of all labelled features that were added.

    Args:
        num_classes: Number of classes K.
        k: Neighbours that vote; all, where fewer are remembered.
        temperature: Of the votes.
        max_features: Features that are remembered at most.
        chunk_size: Similarities that are in memory at once.
        seed: Of the choice of what is remembered.

    Raises:
        ValueError: a number is not positive.
    """

    def __init__(
        self,
        num_classes: int,
        k: int = 20,
        temperature: float = 0.07,
        max_features: int = 50_000,
        chunk_size: int = 2**24,
        seed: int = 0,
    ) -> None:
        numbers = {"num_classes": num_classes, "k": k, "temperature": temperature}
        for name, value in (numbers | {"max_features": max_features, "chunk_size": chunk_size}).items():
            if value <= 0:
                raise ValueError(f"{name} must be positive: got {value}. Correct it, or leave it out.")
        self.num_classes = num_classes
        self.k = k
        self.temperature = temperature
        self.max_features = max_features
        self.chunk_size = chunk_size
        self.seed = seed
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._feat: Tensor | None = None
        self._generator = torch.Generator().manual_seed(self.seed)

    def add(self, feat: Float[Tensor, "N C"], target: Int[Tensor, "N"]) -> None:
        """Remember features by their classes; those of class -1 are left out.

        Raises:
            ValueError: a class is out of range, or the features have another width than before.
        """
        if target.numel() and not -1 <= int(target.min()) <= int(target.max()) < self.num_classes:
            raise ValueError(
                f"Classes must lie in -1..{self.num_classes - 1}: got {int(target.min())}..{int(target.max())}. Map "
                "the labels when reading, or correct num_classes."
            )
        if self._feat is not None and feat.shape[1] != self._feat.shape[1]:
            raise ValueError(
                f"All features must have one width: got {feat.shape[1]} after {self._feat.shape[1]}. Use one backbone."
            )
        # A random number for each; the smallest of all are kept, which is a uniform sample of all that was ever added.
        priority = torch.rand(target.shape[0], generator=self._generator).to(target.device)
        keep = torch.nonzero(target >= 0).squeeze(1)
        parts = (F.normalize(feat.index_select(0, keep).float(), dim=1), target[keep], priority[keep])
        if self._feat is not None:
            parts = tuple(torch.cat(pair) for pair in zip((self._feat, self._target, self._priority), parts))
        if parts[2].shape[0] > self.max_features:
            chosen = parts[2].topk(self.max_features, largest=False).indices.sort().values
            parts = tuple(part.index_select(0, chosen) for part in parts)
        self._feat, self._target, self._priority = parts

    @property
    def num_features(self) -> int:
        """Features that are remembered."""
        return 0 if self._feat is None else self._feat.shape[0]

    def votes(self, feat: Float[Tensor, "N C"]) -> Float[Tensor, "N K"]:
        """Share of the votes of the k nearest features that each class has.

        Raises:
            ValueError: nothing is remembered.
        """
        if self.num_features == 0:
            raise ValueError(
                "A nearest-neighbour probe needs labelled points: none was added. Check the split and segment_key of "
                "memory."
            )
        rows = max(1, self.chunk_size // self.num_features)
        return torch.cat([self._votes(chunk) for chunk in feat.split(rows)]) if feat.shape[0] else feat[:, :0]

    def _votes(self, feat: Float[Tensor, "M C"]) -> Float[Tensor, "M K"]:
        similarity = F.normalize(feat.float(), dim=1) @ self._feat.T
        nearest = similarity.topk(min(self.k, self.num_features), dim=1)
        weight = (nearest.values / self.temperature).softmax(dim=1)
        votes = weight.new_zeros(feat.shape[0], self.num_classes)
        return votes.scatter_add_(1, self._target[nearest.indices], weight)
