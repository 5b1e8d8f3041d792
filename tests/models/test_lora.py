"""Low-rank adapters: nothing changes at first, only they train, and folding them in changes nothing either."""

import pytest
import torch
from torch import nn
from toy_scenes import scenes, transformer, unet

from pointcept.models.lora import add_lora, merge_lora
from pointcept.models.segmentation import LoRASegmentor, Segmentor


def trained() -> LoRASegmentor:
    torch.manual_seed(0)
    model = LoRASegmentor(transformer(), 4, lora_r=2).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(3):
        optimizer.zero_grad()
        model(scenes())["cross_entropy_loss"].backward()
        optimizer.step()
    return model


def test_at_first_the_output_is_that_of_the_model_without():
    torch.manual_seed(0)
    plain = Segmentor(transformer(), 4).eval()
    adapted = LoRASegmentor(transformer(), 4).eval()
    missing, unexpected = adapted.load_state_dict(plain.state_dict(), strict=False)
    assert unexpected == [] and {name.rpartition(".")[2] for name in missing} == {"lora_down", "lora_up", "lora_scale"}
    assert torch.equal(adapted(scenes())["logits"], plain(scenes())["logits"])


def test_only_adapters_and_head_train():
    torch.manual_seed(0)
    model = LoRASegmentor(transformer(), 4, lora_r=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model = trained()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    blocks = ("enc.enc0.block0", "enc.enc1.block0", "dec.dec0.block0")
    adapters = {
        f"backbone.{b}.attn.{layer}.lora_{part}" for b in blocks for layer in ("qkv", "proj") for part in ("down", "up")
    }
    assert changed == adapters | {"seg_head.weight", "seg_head.bias"}
    assert {name for name, p in model.named_parameters() if p.requires_grad} == changed
    assert not any(module.training for module in model.backbone.modules())


def test_folded_in_they_give_the_same_output_in_a_plain_model():
    model = trained().eval()
    plain = Segmentor(transformer(), 4).eval()
    at_first = plain(scenes())["logits"]
    plain.load_state_dict(merge_lora(model.state_dict()))
    torch.testing.assert_close(plain(scenes())["logits"], model(scenes())["logits"], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(plain(scenes())["logits"], at_first)


def test_the_adapter_is_the_product_of_the_paper():
    layer = nn.Sequential(nn.Linear(3, 2))
    add_lora(layer, rank=1, alpha=4.0, targets=("0",))
    with torch.no_grad():
        layer[0].lora_down.copy_(torch.tensor([[1.0, 0.0, 2.0]]))
        layer[0].lora_up.copy_(torch.tensor([[1.0], [-1.0]]))
    x = torch.tensor([[1.0, 5.0, 3.0]])  # A x = 7, scale 4
    expected = nn.functional.linear(x, layer[0].weight, layer[0].bias) + torch.tensor([[28.0, -28.0]])
    torch.testing.assert_close(layer(x), expected)


def test_a_model_without_such_layers_and_an_impossible_rank_are_refused():
    with pytest.raises(
        ValueError, match=r"LoRA needs linear layers named \*\['attn.qkv', 'attn.proj'\]: SparseUNet has"
    ):
        LoRASegmentor(unet(), 4)
    with pytest.raises(ValueError, match=r"rank of an adapter must be at least 1: got 0"):
        LoRASegmentor(transformer(), 4, lora_r=0)
