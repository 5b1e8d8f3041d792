"""A frozen image network whose dense features are a target of rendering."""

import logging
from collections.abc import Sequence

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pointcept.models.hub import transport_errors
from pointcept.models.weights import load_weights
from pointcept.registry import MODELS, near_matches
from pointcept.rendering.feature_maps import resize_views
from pointcept.structures import CameraBatch

_logger = logging.getLogger("pointcept")


@MODELS.register()
class TimmTeacher:
    """Feature maps of views by a frozen timm model, a DINOv2-style transformer for example.

    It is no part of the model that it teaches: no module, hence neither trained nor saved nor counted. Its weights are
    read when the first map is wanted, so that scoring or transferring a model needs no teacher; views that carry maps
    from a cache (``CameraBatch.feature``) never need it. Views of any size are resized to one, low, resolution. Images
    are normalised as timm says the weights expect it.

    Args:
        name: As in ``timm.list_models()``.
        image_size: Height and width at which the teacher sees a view, pixels; multiples of the map's stride, which is
            the patch size of a transformer (14 for DINOv2).
        checkpoint: Weights in a file; None takes timm's own, which are downloaded once.
        random_weights: Take neither: a network that has seen nothing, as a control.
        out_index: Which of the model's maps: its stage or block, negative ones counted from the last. Several are
            joined, in this order: coarser ones resized to the finest, and each pixel's feature in each map scaled to
            unit length, so that all have the same share of a cosine.

    Attributes:
        channels: Width of the features.
        map_size: Height and width of a map, those of the finest that is used.

    Raises:
        ValueError: timm has no such model, it has no such map, or ``image_size`` does not suit it.
    """

    def __init__(
        self,
        name: str,
        image_size: tuple[int, int],
        checkpoint: str | None = None,
        random_weights: bool = False,
        out_index: int | Sequence[int] = -1,
    ) -> None:
        if checkpoint is not None and random_weights:
            raise ValueError(f"A teacher has one source of weights: got checkpoint={checkpoint!r} and random_weights.")
        if not timm.is_model(name):
            raise ValueError(
                f"name must be a model of timm {timm.__version__}: got {name!r}. "
                f"{near_matches(name, timm.list_models())}"
            )
        self.name = name
        self.image_size = tuple(image_size)
        self.checkpoint = checkpoint
        self.random_weights = random_weights
        with torch.device("meta"):  # tells what the maps look like, and holds no weights
            outline = _create(name, self.image_size)
        maps = list(getattr(outline.feature_info, "info", outline.feature_info))
        chosen = [out_index] if isinstance(out_index, int) else list(out_index)
        self._indices = [index % len(maps) for index in chosen if -len(maps) <= index < len(maps)]
        if not chosen or len(set(self._indices)) != len(chosen):
            raise ValueError(
                f"out_index must pick one or several of the {len(maps)} maps of {name!r}, none twice: got {out_index}. "
                "Use -1 for the last."
            )
        self._widths = [int(maps[index]["num_chs"]) for index in self._indices]
        self.channels = sum(self._widths)
        self._is_plain = len({entry["reduction"] for entry in maps}) == 1
        strides = [int(maps[index]["reduction"]) for index in self._indices]
        if any(edge < max(strides) or edge % max(strides) for edge in self.image_size):
            fitting = tuple(max(1, round(edge / max(strides))) * max(strides) for edge in self.image_size)
            raise ValueError(
                f"image_size must be multiples of the stride of the teacher's map, {max(strides)} pixels for {name!r}: "
                f"got {self.image_size}. Use {fitting}, for example."
            )
        self.map_size = (self.image_size[0] // min(strides), self.image_size[1] // min(strides))
        config = getattr(outline, "pretrained_cfg", None) or {}
        self._mean = tuple(config.get("mean", timm.data.IMAGENET_DEFAULT_MEAN))
        self._std = tuple(config.get("std", timm.data.IMAGENET_DEFAULT_STD))
        self._network: nn.Module | None = None

    @torch.no_grad()
    def __call__(self, cameras: CameraBatch) -> Float[Tensor, "B V _C _h _w"]:
        """A map per view, of the whole view without its padding; those of the cache where the views have some.

        Raises:
            ValueError: the cache's maps are not this teacher's.
            FileNotFoundError: the weights are neither here nor downloadable.
        """
        shape = (self.channels, *self.map_size)
        if cameras.feature is not None:
            if tuple(cameras.feature.shape[2:]) != shape:
                raise ValueError(
                    f"Cached maps must be those of the teacher, {shape} (channels, height, width) of {self.name!r}: "
                    f"got {tuple(cameras.feature.shape[2:])}. Write the cache again, or correct the teacher."
                )
            return cameras.feature
        image = resize_views(cameras.image.flatten(0, 1), cameras.size_px.flatten(0, 1), self.image_size)
        image = (image - image.new_tensor(self._mean).view(3, 1, 1)) / image.new_tensor(self._std).view(3, 1, 1)
        found = self._network_on(image.device).forward_intermediates(
            image,
            indices=sorted(self._indices),
            norm=self._is_plain,
            stop_early=True,
            output_fmt="NCHW",
            intermediates_only=True,
        )
        found = dict(zip(sorted(self._indices), found, strict=True))
        joined = self._join([found[index].float() for index in self._indices])
        return joined.unflatten(0, cameras.image.shape[:2])

    def _join(self, maps: list[Float[Tensor, "N _c _h _w"]]) -> Float[Tensor, "N _C _h _w"]:
        got = [one.shape[1] for one in maps], tuple(max(one.shape[axis] for one in maps) for axis in (2, 3))
        if got != (self._widths, self.map_size):
            raise ValueError(
                f"{self.name!r} must give maps of {self._widths} channels, the finest of {self.map_size} (height, "
                f"width), as it says: got {got[0]} and {got[1]}. Choose another out_index or model."
            )
        if len(maps) == 1:
            return maps[0]
        resized = [F.interpolate(one, self.map_size, mode="bilinear", align_corners=False) for one in maps]
        return torch.cat([F.normalize(one, dim=1) for one in resized], dim=1)

    def describe(self) -> str:
        """What the maps were made of, in one line; equal for equal maps."""
        weights = "random weights" if self.random_weights else self.checkpoint or "timm's weights"
        maps = ", ".join(map(str, self._indices))
        return f"{self.name}, map {maps} of images of {self.image_size}, {weights}"

    def _network_on(self, device: torch.device) -> nn.Module:
        if self._network is None:
            self._network = self._load().requires_grad_(False).eval()
        if next(self._network.parameters()).device != device:
            self._network.to(device)
        return self._network

    def _load(self) -> nn.Module:
        if self.random_weights:
            _logger.warning("The teacher %r has random weights: a control, no teacher.", self.name)
        with torch.random.fork_rng(
            devices=()
        ):  # the weights are neither changed by what was drawn before nor change it
            torch.manual_seed(0)
            try:
                network = _create(
                    self.name, self.image_size, pretrained=not (self.random_weights or self.checkpoint is not None)
                )
            except (OSError, RuntimeError, *transport_errors()) as error:
                raise FileNotFoundError(
                    f"timm's weights of {self.name!r} must be in its cache or downloadable: {error}. Check the "
                    "network, or give a file as the teacher's checkpoint."
                ) from error
        if self.checkpoint is not None:
            match = load_weights(network, self.checkpoint)
            if match.missing or match.mismatched:
                raise ValueError(
                    f"The teacher's checkpoint must hold all weights of {self.name!r}: {match.describe()} in "
                    f"{self.checkpoint}. Give the name of the model that was saved."
                )
        return network


def _create(name: str, image_size: tuple[int, int], *, pretrained: bool = False) -> nn.Module:
    # Plain transformers interpolate their position embedding when told to, windowed ones are built for one size, and
    # convolutional networks know neither argument.
    for options in ({"dynamic_img_size": True}, {"img_size": image_size}, {}):
        try:
            model = timm.create_model(name, pretrained=pretrained, num_classes=0, **options)
        except TypeError:
            if options:
                continue
            raise
        if not hasattr(model, "forward_intermediates") or not hasattr(model, "feature_info"):
            raise ValueError(f"A teacher must give feature maps: {name!r} has none. Choose a vit, convnext or resnet.")
        return model
    raise AssertionError("the last attempt returns or raises")
