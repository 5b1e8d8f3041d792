"""Low-rank adapters of linear layers: fine-tuning a model by a few weights, and folding these into it afterwards."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pointcept.models.freezing import freeze

_DOWN, _UP, _SCALE = "lora_down", "lora_up", "lora_scale"


class LoRALinear(nn.Linear):
    """A linear layer y = W x + b + s B A x, of which A and B train (arXiv 2106.09685, equation 3).

    ``lora_down`` is A, drawn as a linear layer's weights are; ``lora_up`` is B, zero at first, so that the layer begins
    as the one it replaces. Its other names are those of ``nn.Linear``, so that checkpoints without adapters fit.

    Args:
        linear: The layer to adapt; its weights are shared.
        rank: Rows of A.
        alpha: Numerator of the scale s = ``alpha / rank``.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        like = {"dtype": linear.weight.dtype, "device": linear.weight.device}
        self.lora_down = nn.Parameter(torch.empty(rank, linear.in_features, **like))
        self.lora_up = nn.Parameter(torch.zeros(linear.out_features, rank, **like))
        self.register_buffer(_SCALE, torch.tensor(alpha / rank, **like))
        nn.init.kaiming_uniform_(self.lora_down, a=5**0.5)

    def forward(self, x: Float[Tensor, "*rows C"]) -> Float[Tensor, "*rows D"]:
        """What the layer and its adapter give together."""
        return super().forward(x) + F.linear(F.linear(x, self.lora_down), self.lora_up) * self.lora_scale


def add_lora(
    module: nn.Module, *, rank: int = 8, alpha: float = 16.0, targets: Sequence[str] = ("attn.qkv", "attn.proj")
) -> list[str]:
    """Gives linear layers adapters and freezes everything else of a module.

    What is frozen also stays in evaluation mode: batch norm statistics do not move and drop path drops nothing.

    Args:
        module: Changed in place.
        rank: Rank of the adapters.
        alpha: Their scale, times ``rank``.
        targets: How the names of the layers end; by default those of Point Transformer V3's attention.

    Returns:
        Names of the adapted layers.

    Raises:
        ValueError: the rank is below 1, or no linear layer has such a name.
    """
    if rank < 1:
        raise ValueError(f"The rank of an adapter must be at least 1: got {rank}. Leave LoRA out to adapt nothing.")
    linear = {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear)}
    chosen = [name for name in linear if f".{name}".endswith(tuple(f".{target}" for target in targets))]
    if not chosen:
        known = sorted({name.rpartition(".")[2] for name in linear})
        raise ValueError(
            f"LoRA needs linear layers named *{list(targets)}: {type(module).__name__} has linear layers named "
            f"{known}. Choose among them, or use a backbone with attention."
        )
    freeze(module)
    for name in chosen:
        parent = module.get_submodule(name.rpartition(".")[0])
        setattr(parent, name.rpartition(".")[2], LoRALinear(linear[name], rank, alpha).train(linear[name].training))
    return chosen


def merge_lora(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the same model without adapters: W + s B A in place of W. Others are left as they are.

    Args:
        weights: A state dict, with adapters or without.
    """
    merged = {name: w for name, w in weights.items() if name.rpartition(".")[2] not in (_DOWN, _UP, _SCALE)}
    for name in weights:
        prefix, _, last = name.rpartition(".")
        if last == _DOWN:
            down, up, scale = (weights[f"{prefix}.{part}"].double() for part in (_DOWN, _UP, _SCALE))
            weight = merged[f"{prefix}.weight"]
            merged[f"{prefix}.weight"] = (weight.double() + scale * (up @ down)).to(weight.dtype)
    return merged
