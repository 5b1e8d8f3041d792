"""Image backbones: any timm model that gives feature maps, behind one interface."""

import logging
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pointcept.models.hub import transport_errors
from pointcept.models.weights import load_weights
from pointcept.registry import MODELS, near_matches

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_NUM_PLAIN_MAPS = 4
_logger = logging.getLogger("pointcept")


class MapInfo(NamedTuple):
    """One feature map of a backbone.

    Attributes:
        channels: Width.
        stride: Pixels of the image per pixel of the map.
        module: Name inside the timm model of the module that gives it.
    """

    channels: int
    stride: int
    module: str


@MODELS.register()
class TimmBackbone(nn.Module):
    """A timm model (github.com/huggingface/pytorch-image-models) as a source of feature maps.

    Convolutional networks and hierarchical transformers give one map per stage, plain vision transformers the
    normalised output of some blocks. The state dict has the names of ``timm.create_model(name, num_classes=0)``, so
    weights move over in both directions. Parameters that the chosen maps do not depend on (a classifier's last norm,
    the stages behind them) are kept but need no gradient.

    Images are normalised as the model's weights expect it, and padded at the right and at the bottom with the mean
    colour to a multiple of :attr:`divisor`.

    Args:
        name: As in ``timm.list_models()``; models that your own package registers with timm count as well.
        pretrained: Start from timm's own weights, which are downloaded once.
        checkpoint: Start from a file: one written by ``python -m pointcept.export``, a checkpoint of pre-training, or
            weights saved by timm.
        out_indices: Which maps to give, finest first, negative ones counted from the last; None takes all of stride 4
            and more, or four evenly spaced blocks of a plain transformer.
        gradient_checkpointing: Compute blocks again in the backward pass, which saves their memory.
        drop_path_rate: Stochastic depth; None leaves timm's default.
        image_size: Height and width, pixels, for models that are built for one size; None for those that take any.

    Attributes:
        maps: Channels and stride of each map that ``forward`` gives.
        is_plain: Whether all maps have one resolution.
        divisor: Heights and widths are padded to multiples of it.

    Raises:
        ValueError: timm has no such model (the message has the nearest names), the model gives no feature maps, or an
            argument does not suit it.
        FileNotFoundError: the weights are neither here nor downloadable.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool = False,
        checkpoint: str | None = None,
        out_indices: Sequence[int] | None = None,
        gradient_checkpointing: bool = False,
        drop_path_rate: float | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if pretrained and checkpoint is not None:
            raise ValueError(f"A backbone starts from one source: got pretrained=True and checkpoint={checkpoint!r}.")
        self.name = name
        self.image_size = None if image_size is None else tuple(image_size)
        self.model = _create(name, pretrained, drop_path_rate, self.image_size)
        info = _all_maps(self.model, name)
        self._indices = _chosen_indices(info, out_indices, name)
        self.maps = tuple(info[index] for index in self._indices)
        self.is_plain = len({entry.stride for entry in info}) == 1
        self.divisor = math.lcm(*(entry.stride for entry in info))
        mean, std = _statistics(self.model)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.register_state_dict_post_hook(_without_model_prefix)
        self.register_load_state_dict_pre_hook(_with_model_prefix)
        if checkpoint is not None:
            self._load(checkpoint)
        self._freeze_unused()
        self.gradient_checkpointing = False
        if gradient_checkpointing:
            self.set_gradient_checkpointing(True)
        self._told_sizes: set[tuple[int, int]] = set()

    @property
    def channels(self) -> tuple[int, ...]:
        """Width of each map."""
        return tuple(entry.channels for entry in self.maps)

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the image per pixel of each map."""
        return tuple(entry.stride for entry in self.maps)

    def forward(self, image: Float[Tensor, "N 3 H W"]) -> list[Float[Tensor, "N _C _h _w"]]:
        """The maps, finest first, of RGB images in 0..1; they cover the padded image (:func:`padded_size`)."""
        return self.forward_normalized(self.normalized(image))

    def normalized(self, image: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N 3 _H _W"]:
        """Images as the model wants them: normalised, and padded to multiples of ``divisor``.

        Raises:
            ValueError: the model is built for another size.
        """
        size = (image.shape[-2], image.shape[-1])
        padded = padded_size(size, self.divisor)
        if self.image_size is not None and padded != self.image_size:
            raise ValueError(
                f"{self.name!r} was built for images of {self.image_size} (height, width): got {size}. Set image_size "
                "of the data set or of the backbone."
            )
        image = (image - self.mean) / self.std
        if padded == size:
            return image
        if size not in self._told_sizes:
            self._told_sizes.add(size)
            _logger.info(
                "Images of %s (height, width) are padded to %s, multiples of %d, for %r.",
                size, padded, self.divisor, self.name,
            )  # fmt: skip
        return F.pad(image, (0, padded[1] - size[1], 0, padded[0] - size[0]))

    def forward_normalized(self, image: Float[Tensor, "N 3 H W"]) -> list[Float[Tensor, "N _C _h _w"]]:
        """The maps of what :meth:`normalized` gives."""
        if hasattr(self.model, "forward_intermediates"):
            return self.model.forward_intermediates(
                image,
                indices=list(self._indices),
                norm=self.is_plain,
                stop_early=True,
                output_fmt="NCHW",
                intermediates_only=True,
            )
        return self._hooked(image)

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Trades time for memory in training; results, gradients and running statistics stay the same.

        Raises:
            ValueError: the timm model cannot do it.
        """
        if not hasattr(self.model, "set_grad_checkpointing"):
            raise ValueError(f"{self.name!r} has no set_grad_checkpointing. Set gradient_checkpointing=False.")
        self.model.set_grad_checkpointing(enabled)
        if enabled and not self.gradient_checkpointing:
            for module in self.model.modules():
                if isinstance(module, _BatchNorm):
                    module.register_forward_pre_hook(_hold_statistics)
                    module.register_forward_hook(_release_statistics)
        self.gradient_checkpointing = enabled

    def _hooked(self, image: Tensor) -> list[Tensor]:
        """Maps caught at the modules that ``feature_info`` names, for models without ``forward_intermediates``."""
        found: dict[str, Tensor] = {}

        def catch(name: str):
            return lambda module, inputs, output: found.__setitem__(name, output)

        handles = [self.model.get_submodule(e.module).register_forward_hook(catch(e.module)) for e in self.maps]
        try:
            self.model.forward_features(image)
        finally:
            for handle in handles:
                handle.remove()
        return [found[entry.module] for entry in self.maps]

    def _freeze_unused(self) -> None:
        """Leaves parameters out of training that the maps do not depend on, and checks what the maps look like."""
        size = self.image_size or (2 * self.divisor, 2 * self.divisor)
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.enable_grad():
                maps = self.forward_normalized(torch.zeros(1, 3, *size))
        except (AssertionError, RuntimeError, TypeError) as error:
            raise ValueError(
                f"{self.name!r} gave no feature maps of an image of {size} (height, width): {_first_line(error)}. "
                "Where it is built for one size, set image_size; otherwise choose another model or out_indices."
            ) from error
        expected = [(entry.channels, size[0] // entry.stride, size[1] // entry.stride) for entry in self.maps]
        shapes = [tuple(one.shape[1:]) for one in maps]
        if shapes != expected:
            raise ValueError(
                f"Feature maps must cover the image evenly: {self.name!r} says {expected} (channels, height, width) "
                f"for an image of {size} and gives {shapes}. Choose other out_indices or another model."
            )
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        used = torch.autograd.grad(sum(one.sum() for one in maps), parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, used, strict=True):
            parameter.requires_grad_(gradient is not None)
        self.model.train(was_training)

    def _load(self, checkpoint: str) -> None:
        match = load_weights(self, checkpoint)
        if match.missing or match.mismatched:
            raise ValueError(
                f"checkpoint must hold all weights of {self.name!r}: {match.describe()} in {checkpoint}. Give the name "
                "of the model that was saved."
            )


def padded_size(size: tuple[int, int], divisor: int) -> tuple[int, int]:
    """Height and width rounded up to multiples of ``divisor``."""
    return -(-size[0] // divisor) * divisor, -(-size[1] // divisor) * divisor


def _create(name: str, pretrained: bool, drop_path_rate: float | None, image_size: tuple[int, int] | None) -> nn.Module:
    if not timm.is_model(name):
        raise ValueError(
            f"name must be a model of timm {timm.__version__}: got {name!r}. {near_matches(name, timm.list_models())} "
            "A model of your own is found after its module is listed in imports = [...]."
        )
    arguments: dict[str, Any] = {"num_classes": 0, "drop_path_rate": drop_path_rate, "img_size": image_size}
    # Plain transformers interpolate their position embedding when told to; other models do not know the argument.
    last_error = None
    for dynamic in ({"dynamic_img_size": True}, {}) if image_size is None else ({},):
        try:
            return timm.create_model(name, pretrained=pretrained, **arguments, **dynamic)
        except TypeError as error:
            last_error = error
        except (OSError, RuntimeError, *transport_errors()) as error:
            if not pretrained:
                raise
            raise FileNotFoundError(
                f"timm's weights of {name!r} must be in its cache or downloadable: {_first_line(error)}. Check the "
                "network, give a file as checkpoint, or set pretrained=False."
            ) from error
    raise ValueError(
        f"{name!r} must take num_classes, drop_path_rate and img_size where they are set: {_first_line(last_error)}. "
        "Leave drop_path_rate and image_size at None, or let your model accept them."
    ) from last_error


def _all_maps(model: nn.Module, name: str) -> list[MapInfo]:
    info = getattr(model, "feature_info", None)
    entries = [info] if info is None else list(getattr(info, "info", info))
    is_complete = all(isinstance(e, dict) and {"num_chs", "reduction", "module"} <= e.keys() for e in entries)
    if (
        not entries
        or not is_complete
        or not (hasattr(model, "forward_intermediates") or hasattr(model, "forward_features"))
    ):
        raise ValueError(
            f"A backbone must give feature maps: {name!r} has no feature_info, a list of dict(num_chs=..., "
            "reduction=..., module=...). Choose another model, such as a convnext, resnet or vit."
        )
    return [MapInfo(int(e["num_chs"]), int(e["reduction"]), str(e["module"])) for e in entries]


def _chosen_indices(info: list[MapInfo], wanted: Sequence[int] | None, name: str) -> tuple[int, ...]:
    count = len(info)
    if wanted is None:
        if len({entry.stride for entry in info}) == 1:
            number = min(_NUM_PLAIN_MAPS, count)
            return tuple(count * (i + 1) // number - 1 for i in range(number))
        return tuple(index for index, entry in enumerate(info) if entry.stride >= 4)
    indices = [index + count if index < 0 else index for index in wanted]
    if not indices or sorted(set(indices)) != indices or not 0 <= indices[0] <= indices[-1] < count:
        raise ValueError(
            f"out_indices must rise within 0..{count - 1}, the maps of {name!r} "
            f"(strides {', '.join(str(entry.stride) for entry in info)}): got {tuple(wanted)}."
        )
    return tuple(indices)


def _statistics(model: nn.Module) -> tuple[Sequence[float], Sequence[float]]:
    config = getattr(model, "pretrained_cfg", None) or {}
    return config.get("mean", _IMAGENET_MEAN), config.get("std", _IMAGENET_STD)


def _without_model_prefix(module: nn.Module, state_dict: dict, prefix: str, local_metadata: dict) -> None:
    inner = f"{prefix}model."
    for name in [name for name in state_dict if name.startswith(inner)]:
        state_dict[prefix + name.removeprefix(inner)] = state_dict.pop(name)


def _with_model_prefix(module: nn.Module, state_dict: dict, prefix: str, *_: Any) -> None:
    for name in [name for name in state_dict if name.startswith(prefix)]:
        state_dict[f"{prefix}model.{name.removeprefix(prefix)}"] = state_dict.pop(name)


def _is_recomputing() -> bool:
    """Whether a backward pass is running, in which a forward pass can only be a repeated one."""
    return torch._C._current_graph_task_id() != -1


def _hold_statistics(module: _BatchNorm, inputs: tuple) -> None:
    """Running statistics are updated once per step, in the forward pass, and not in its repetition."""
    if _is_recomputing() and module.track_running_stats:
        module._held = (module.momentum, module.num_batches_tracked.clone())
        module.momentum = 0.0


def _release_statistics(module: _BatchNorm, inputs: tuple, output: Tensor) -> None:
    held = module.__dict__.pop("_held", None)
    if held is not None:
        module.momentum = held[0]
        module.num_batches_tracked.copy_(held[1])


def _first_line(error: BaseException | None) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__).rstrip(".")
