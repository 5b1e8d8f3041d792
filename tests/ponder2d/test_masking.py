import pytest
import torch
from torch import nn

from ponder2d.backbones import TimmBackbone
from ponder2d.masking import ImageBlockMask, MaskedConvolution, VisiblePositions, masked_layers, upsampled

SEED = torch.tensor([1, 2])
CONVOLUTIONAL = ("test_convnext", "test_resnet", "test_efficientnet")


def changed_where_hidden(mask, image):
    """The images with other content in their hidden blocks."""
    visible = upsampled(mask.visible(SEED, *image.shape[-2:]), mask.block_size_px)
    return torch.where(visible, image, torch.rand(image.shape)), visible


def test_every_image_hides_its_share_and_the_seed_alone_says_where():
    mask = ImageBlockMask(ratio=0.3, block_size_px=8)
    visible = mask.visible(torch.tensor([5, 6, 5]), 40, 64)
    assert visible.shape == (3, 1, 5, 8)
    assert (~visible).sum(dim=(1, 2, 3)).tolist() == [12, 12, 12]
    assert torch.equal(visible[0], visible[2]) and not torch.equal(visible[0], visible[1])
    assert torch.equal(mask.visible(torch.tensor([6]), 40, 64)[0], visible[1])  # no batch mates, no global state


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_hidden_pixels_do_not_reach_the_maps_but_the_token_does(name):
    torch.manual_seed(0)
    backbone, mask = TimmBackbone(name).eval(), ImageBlockMask(0.5, 32)
    image = torch.rand(2, 3, 64, 96)
    other, _ = changed_where_hidden(mask, image)
    maps = mask(backbone, image, SEED)
    for first, second in zip(maps, mask(backbone, other, SEED), strict=True):
        assert torch.equal(first, second)
    assert not torch.allclose(maps[0], backbone(image)[0])
    sum(one.square().sum() for one in maps).backward()
    assert mask.token.grad.abs().sum() > 0
    with torch.no_grad():
        mask.token += 1
    assert not torch.allclose(maps[0], mask(backbone, image, SEED)[0])


def test_without_a_share_nothing_is_hidden():
    backbone, image = TimmBackbone("test_convnext").eval(), torch.rand(2, 3, 64, 64)
    for mask in (ImageBlockMask(0.0, 32), MaskedConvolution(0.0, 32)):
        torch.testing.assert_close(mask(backbone, image, SEED)[2], backbone(image)[2])


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_masked_convolutions_see_and_give_nothing_where_hidden(name):
    torch.manual_seed(0)
    backbone, mask = TimmBackbone(name).train(), MaskedConvolution(0.5, 32)
    image = torch.rand(2, 3, 96, 128)
    other, visible = changed_where_hidden(mask, image)
    maps, again = mask(backbone, image, SEED), mask(backbone, other, SEED)
    for entry, first, second in zip(backbone.maps, maps, again, strict=True):
        hidden = ~visible[..., :: entry.stride, :: entry.stride].expand_as(first)
        assert first[hidden].abs().max() == 0 and first[~hidden].abs().max() > 0
        torch.testing.assert_close(first, second)
    sum(one.square().sum() for one in maps).backward()
    missing = [key for key, p in backbone.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []


def test_batch_norms_take_their_statistics_over_visible_positions_only():
    norm = nn.BatchNorm2d(1)
    blocks = torch.tensor([[[[True, False]]]])
    features = torch.tensor([[[[1.0, 3.0, 100.0, 100.0], [1.0, 3.0, 100.0, 100.0]]]])
    with masked_layers(norm, VisiblePositions(blocks, 2, (2, 4))):
        out = norm(features)
    expected = [-1.0, 1.0, 0.0, 0.0]  # mean 2 and deviation 1 of the left block; the right one is hidden
    torch.testing.assert_close(out[0, 0], torch.tensor([expected, expected]), atol=1e-4, rtol=0)
    torch.testing.assert_close(norm.running_mean, torch.tensor([0.2]))


def test_the_network_is_left_as_it_was():
    backbone, image = TimmBackbone("test_resnet").eval(), torch.rand(2, 3, 64, 64)
    before = backbone(image)[-1]
    MaskedConvolution(0.5, 32)(backbone, image, SEED)
    assert not any("forward" in vars(module) or module._forward_hooks for module in backbone.modules())
    assert torch.equal(backbone(image)[-1], before)


def test_what_cannot_be_masked_is_refused():
    image = torch.rand(2, 3, 64, 64)
    with pytest.raises(ValueError, match=r"convolutional network: 'test_vit' has attention.*Use ImageBlockMask"):
        MaskedConvolution(0.5, 32)(TimmBackbone("test_vit"), image, SEED)
    with pytest.raises(ValueError, match=r"blocks computed once: gradient_checkpointing is on"):
        MaskedConvolution(0.5, 32)(TimmBackbone("test_convnext", gradient_checkpointing=True), image, SEED)
    with pytest.raises(ValueError, match=r"multiple of 32, the coarsest stride of 'test_convnext': got 16"):
        MaskedConvolution(0.5, 16)(TimmBackbone("test_convnext"), image, SEED)
    with pytest.raises(ValueError, match=r"ratio must be at least 0 and below 1.*got 1"):
        ImageBlockMask(ratio=1.0)
    with pytest.raises(ValueError, match=r"block_size_px must be at least 1: got 0"):
        MaskedConvolution(block_size_px=0)
