"""Feature maps of views from a cache, which ``python -m pointcept.cache_features`` writes."""

import dataclasses
from pathlib import Path

import numpy as np
import safetensors

from pointcept.registry import TRANSFORMS
from pointcept.structures import PointSample


@TRANSFORMS.register()
class LoadFeatureMaps:
    """Gives views the maps that a frozen image network made of them beforehand, so that training need not run it.

    Args:
        folder: Holds one ``<scene>.safetensors`` per scene, with a tensor (C, h, w) for each frame's name.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()

    def __call__(self, sample: PointSample, rng: np.random.Generator) -> PointSample:
        """The sample with maps in its views.

        Raises:
            FileNotFoundError: the cache lacks the scene.
            ValueError: the sample has no views, the file is no cache, or it lacks a frame.
        """
        if sample.views is None:
            raise ValueError(f"LoadFeatureMaps needs views: scene {sample.name!r} has none. Set num_views.")
        path = self.folder / f"{sample.name}.safetensors"
        if not path.is_file():
            raise FileNotFoundError(
                f"The cache of feature maps must hold every scene: {path} does not exist. Write it with "
                "python -m pointcept.cache_features, or correct folder."
            )
        try:
            with safetensors.safe_open(path, "np") as file:
                known = set(file.keys())
                lacking = [name for name in sample.views.name if name not in known]
                maps = [] if lacking else [file.get_tensor(name) for name in sample.views.name]
        except safetensors.SafetensorError as error:
            raise ValueError(
                f"A cache of feature maps must be a whole safetensors file: {path} is not ({error})."
            ) from error
        if lacking:
            raise ValueError(
                f"The cache of feature maps must hold every frame: {path} lacks {', '.join(lacking)}. Write it again "
                "with the data set's frame_interval and view_split."
            )
        return dataclasses.replace(sample, views=dataclasses.replace(sample.views, feature=maps))
