"""Hiding blocks of the input views, so that the backbone has to infer them."""

import contextlib
import types
from abc import abstractmethod
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pointcept.ops import random
from pointcept.registry import MODELS
from ponder2d.backbones import TimmBackbone

_MASK_STREAM = 37
_CHANNELS_LAST = (nn.Linear, nn.LayerNorm)
_DENSE = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, *_CHANNELS_LAST)


class ImageMask(nn.Module):
    """What the two ways of hiding share: which blocks of an image are hidden.

    In every image the same share of blocks is hidden; which ones depends on the image's seed alone.

    Args:
        ratio: Share of the blocks that are hidden.
        block_size_px: Edge of a block, pixels.
    """

    def __init__(self, ratio: float = 0.3, block_size_px: int = 32) -> None:
        super().__init__()
        if not 0 <= ratio < 1:
            raise ValueError(f"ratio must be at least 0 and below 1, so that something stays visible: got {ratio}.")
        if block_size_px < 1:
            raise ValueError(f"block_size_px must be at least 1: got {block_size_px}.")
        self.ratio = ratio
        self.block_size_px = block_size_px

    @abstractmethod
    def forward(
        self, backbone: TimmBackbone, image: Float[Tensor, "N 3 H W"], seed: Int[Tensor, "N"]
    ) -> list[Float[Tensor, "N _C _h _w"]]:
        """The backbone's maps of images (RGB, 0..1) of which blocks are hidden; one seed per image."""
        raise NotImplementedError

    def visible(self, seed: Int[Tensor, "N"], height: int, width: int) -> Bool[Tensor, "N 1 _h _w"]:
        """Which blocks of images of this size stay visible."""
        rows, columns = -(-height // self.block_size_px), -(-width // self.block_size_px)
        number = random.uniform(seed, (rows * columns,), stream=_MASK_STREAM)
        rank = number.argsort(dim=1).argsort(dim=1)
        return (rank >= round(self.ratio * rows * columns)).view(-1, 1, rows, columns)


@MODELS.register()
class ImageBlockMask(ImageMask):
    """Replaces blocks of the normalised images by one learned block: a mask token for networks of every kind.

    For a plain vision transformer whose patches divide a block this is the mask token of masked image modelling
    (SimMIM; Xie et al., CVPR 2022), as the embedding of a patch is a linear function of it.

    Args:
        ratio: Share of the blocks that are hidden.
        block_size_px: Edge of a block, pixels.
    """

    def __init__(self, ratio: float = 0.3, block_size_px: int = 32) -> None:
        super().__init__(ratio, block_size_px)
        token = torch.empty(3, block_size_px, block_size_px)
        self.token = nn.Parameter(nn.init.trunc_normal_(token, std=0.02, a=-0.02, b=0.02))

    def forward(
        self, backbone: TimmBackbone, image: Float[Tensor, "N 3 H W"], seed: Int[Tensor, "N"]
    ) -> list[Float[Tensor, "N _C _h _w"]]:
        """See :meth:`ImageMask.forward`."""
        image = backbone.normalized(image)
        height, width = image.shape[-2:]
        blocks = self.visible(seed, height, width)
        visible = upsampled(blocks, self.block_size_px)[..., :height, :width]
        tiles = self.token.repeat(1, *blocks.shape[-2:])[:, :height, :width]
        return backbone.forward_normalized(torch.where(visible, image, tiles.to(image.dtype)))


@MODELS.register()
class MaskedConvolution(ImageMask):
    """Encodes the visible blocks alone with a convolutional network (SparK; Tian et al., ICLR 2023).

    Hidden positions are zero behind every layer, at every resolution, and batch norms take their statistics over the
    visible positions, so that nothing but the visible blocks reaches them. The layers themselves stay as they are.

    Args:
        ratio: Share of the blocks that are hidden.
        block_size_px: Edge of a block, pixels; a multiple of the backbone's coarsest stride.
    """

    def forward(
        self, backbone: TimmBackbone, image: Float[Tensor, "N 3 H W"], seed: Int[Tensor, "N"]
    ) -> list[Float[Tensor, "N _C _h _w"]]:
        """See :meth:`ImageMask.forward`.

        Raises:
            ValueError: the backbone mixes positions by attention, recomputes its blocks, or has strides that do not
                divide the blocks.
        """
        if any("Attention" in type(module).__name__ for module in backbone.modules()):
            raise ValueError(
                f"MaskedConvolution needs a convolutional network: {backbone.name!r} has attention, which looks at "
                "hidden positions too. Use ImageBlockMask."
            )
        if backbone.gradient_checkpointing:
            raise ValueError(
                "MaskedConvolution needs all blocks computed once: gradient_checkpointing is on. Use ImageBlockMask, "
                "or switch it off."
            )
        if self.block_size_px % backbone.divisor:
            raise ValueError(
                f"block_size_px must be a multiple of {backbone.divisor}, the coarsest stride of {backbone.name!r}: "
                f"got {self.block_size_px}."
            )
        image = backbone.normalized(image)
        height, width = image.shape[-2:]
        positions = VisiblePositions(self.visible(seed, height, width), self.block_size_px, (height, width))
        with masked_layers(backbone.model, positions):
            return backbone.forward_normalized(image * positions.at((height, width)))


class VisiblePositions:
    """Which positions of a feature map are visible, at any resolution.

    Args:
        blocks: Which blocks are visible.
        block_size_px: Edge of a block, pixels.
        size_px: Height and width of the images.
    """

    def __init__(self, blocks: Bool[Tensor, "N 1 _h _w"], block_size_px: int, size_px: tuple[int, int]) -> None:
        self.size_px = size_px
        self._pixels = upsampled(blocks, block_size_px)[..., : size_px[0], : size_px[1]]
        self._masks: dict[tuple[int, int], Tensor] = {}
        self._rows: dict[tuple[int, int], Tensor] = {}

    def at(self, size: tuple[int, int]) -> Bool[Tensor, "N 1 _h _w"]:
        """The mask of a map of this height and width."""
        if size not in self._masks:
            steps = (self.size_px[0] // size[0], self.size_px[1] // size[1])
            self._masks[size] = self._pixels[..., :: steps[0], :: steps[1]]
        return self._masks[size]

    def rows(self, size: tuple[int, int]) -> Int[Tensor, "P"]:
        """Visible positions of such maps, counted in the order n, row, column."""
        if size not in self._rows:
            self._rows[size] = self.at(size).flatten().nonzero().squeeze(1)
        return self._rows[size]


@contextlib.contextmanager
def masked_layers(model: nn.Module, positions: VisiblePositions) -> Iterator[None]:
    """Inside the block the layers of ``model`` see and give nothing at hidden positions."""

    def hide(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        if output.ndim != 4:
            return output
        if isinstance(module, _CHANNELS_LAST) and not isinstance(module, LayerNorm2d):
            return output * positions.at((output.shape[1], output.shape[2])).permute(0, 2, 3, 1)
        if output.shape[-2:] == (1, 1):  # a pooled vector, as in squeeze and excitation
            return output
        return output * positions.at((output.shape[2], output.shape[3]))

    def normalize(module: _BatchNorm, features: Tensor) -> Tensor:
        """The norm over the visible positions as if they were images of one pixel."""
        count, channels, height, width = features.shape
        chosen = positions.rows((height, width))
        rows = features.permute(0, 2, 3, 1).reshape(-1, channels)
        normed = type(module).forward(module, rows.index_select(0, chosen)[:, :, None, None]).flatten(1)
        spread = normed.new_zeros(rows.shape).index_copy(0, chosen, normed)
        return spread.view(count, height, width, channels).permute(0, 3, 1, 2)

    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    handles = [module.register_forward_hook(hide) for module in model.modules() if isinstance(module, _DENSE)]
    for norm in norms:
        norm.forward = types.MethodType(normalize, norm)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for norm in norms:
            del norm.forward


def upsampled(blocks: Bool[Tensor, "N 1 _h _w"], factor: int) -> Bool[Tensor, "N 1 _H _W"]:
    """Every block as ``factor`` x ``factor`` pixels."""
    return F.interpolate(blocks.to(torch.uint8), scale_factor=factor, mode="nearest").bool()
