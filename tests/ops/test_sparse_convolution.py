"""Sparse convolution layers against dense ones, values and gradients."""

import functools

import pytest
import torch
import torch.nn.functional as F

from pointcept.ops.sparse import (
    SparseConv3d,
    SparseInverseConv3d,
    SparseTensor,
    SubMConv3d,
    VoxelSet,
    global_mean_pool,
    max_pool,
    mean_pool,
    voxelize,
)
from pointcept.ops.sparse.convolution import sparse_convolution

EXTENT, CLOUDS = 6, 2


def random_tensor(channels: int, *, count: int = 140, dtype=torch.float64, seed: int = 0) -> SparseTensor:
    generator = torch.Generator().manual_seed(seed)
    cells = torch.cartesian_prod(*[torch.arange(length) for length in (CLOUDS, EXTENT, EXTENT, EXTENT)])
    cells = cells[torch.randperm(len(cells), generator=generator)[:count]]
    feat = torch.randn(count, channels, generator=generator, dtype=dtype)
    return voxelize(feat, cells[:, 1:], cells[:, 0], CLOUDS)[0]


def dense(x: SparseTensor, margin: int) -> torch.Tensor:
    """The features on a full grid that starts ``margin`` voxels before the origin."""
    size = EXTENT + 2 * margin
    volume = x.features.new_zeros(CLOUDS, size, size, size, x.num_channels)
    cloud, *xyz = x.coord.unbind(1)
    volume = volume.index_put((cloud, *[axis + margin for axis in xyz]), x.features)
    return volume.permute(0, 4, 1, 2, 3)


def read(volume: torch.Tensor, voxels: VoxelSet, shift: int) -> torch.Tensor:
    cloud, *xyz = voxels.coord.unbind(1)
    return volume.permute(0, 2, 3, 4, 1)[(cloud, *[axis + shift for axis in xyz])]


def dense_weight(layer: torch.nn.Module) -> torch.Tensor:
    return layer.weight.permute(0, 4, 1, 2, 3)


def assert_same_gradients(actual, expected, inputs):
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)
    weights = torch.randn(actual.shape, generator=torch.Generator().manual_seed(5), dtype=actual.dtype)
    for ours, theirs in zip(
        torch.autograd.grad(actual, inputs, weights), torch.autograd.grad(expected, inputs, weights)
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.fixture(params=[4096, 16], ids=["one chunk", "many chunks"])
def chunk_rows(request, monkeypatch):
    monkeypatch.setattr("pointcept.ops.sparse.kernel_map._CHUNK_ROWS", request.param)
    monkeypatch.setattr("pointcept.ops.sparse.convolution._ROWS_AT_ONCE_CPU", request.param // 4)
    monkeypatch.setattr(
        "pointcept.ops.sparse.windows._rows_at_once", lambda device: (request.param, request.param // 4)
    )


@pytest.mark.usefixtures("chunk_rows", "cells_per_voxel")
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_submanifold_convolution_is_a_dense_one_read_at_the_voxels(kernel_size, channels):
    torch.manual_seed(0)
    x = random_tensor(channels)
    features = x.features.requires_grad_()
    layer = SubMConv3d(channels, 4, kernel_size).double()
    expected = F.conv3d(dense(x, 0), dense_weight(layer), layer.bias, padding=kernel_size // 2)
    inputs = [features, layer.weight, layer.bias]
    assert_same_gradients(layer(x).features, read(expected, x.voxels, 0), inputs)


def test_submanifold_kernel_of_size_one_reads_its_memory_as_in_by_out():
    x = SparseTensor(torch.tensor([[1.0, 10.0]]), random_tensor(1, count=1).voxels)
    layer = SubMConv3d(2, 3, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(6.0).view(3, 1, 1, 1, 2))
        layer.bias.copy_(torch.tensor([0.0, 0.0, 0.5]))
    # (in, out) = [[0, 1, 2], [3, 4, 5]]
    assert layer(x).features.tolist() == [[30.0, 41.0, 52.5]]


@pytest.mark.usefixtures("chunk_rows")
@pytest.mark.parametrize(("kernel_size", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 0), (4, 2, 0)])
def test_strided_convolution_is_a_dense_one(kernel_size, stride, padding, channels):
    torch.manual_seed(0)
    x = random_tensor(channels)
    features = x.features.requires_grad_()
    layer = SparseConv3d(channels, 4, kernel_size, stride, padding=padding).double()
    y = layer(x)
    margin = 6  # divisible by every stride, so that the coarse voxels line up
    expected = F.conv3d(dense(x, margin), dense_weight(layer), layer.bias, stride=stride, padding=padding)
    assert_same_gradients(y.features, read(expected, y.voxels, margin // stride), [features, layer.weight, layer.bias])
    occupied = F.conv3d(
        (dense(x, margin) != 0).any(1, keepdim=True).double(),
        torch.ones(1, 1, *[kernel_size] * 3, dtype=torch.float64),
        stride=stride,
        padding=padding,
    )
    assert len(y.voxels) == int((occupied > 0.5).sum())


@pytest.mark.usefixtures("chunk_rows")
@pytest.mark.parametrize(("kernel_size", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (2, 3, 0)])
def test_inverse_convolution_is_a_dense_transposed_one(kernel_size, stride, padding, channels):
    torch.manual_seed(0)
    fine = random_tensor(1).voxels
    coarse = fine.strided(kernel_size, stride, padding).voxels
    features = torch.randn(len(coarse), channels, dtype=torch.float64, requires_grad=True)
    layer = SparseInverseConv3d(channels, 4, kernel_size, stride, padding=padding).double()
    y = layer(SparseTensor(features, coarse), fine)
    assert y.voxels is fine
    margin = 2
    weight = layer.weight.permute(4, 0, 1, 2, 3)  # conv_transpose3d wants (in, out, kernel)
    expected = F.conv_transpose3d(
        dense(SparseTensor(features, coarse), margin), weight, layer.bias, stride=stride, padding=padding
    )
    assert_same_gradients(y.features, read(expected, fine, margin * stride), [features, layer.weight, layer.bias])


@pytest.mark.parametrize("channels", [2, 9])
def test_gradients_agree_with_finite_differences(channels):
    x = random_tensor(channels, count=12)
    maps = x.voxels.strided(2, 2)
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(2, 3, 3, 3, channels, generator=generator, dtype=torch.float64, requires_grad=True)
    down = torch.randn(2, 2, 2, 2, channels, generator=generator, dtype=torch.float64, requires_grad=True)
    features = x.features.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda f, w: sparse_convolution(f, w, x.voxels.neighbours(3), None), (features, weight), fast_mode=True
    )
    assert torch.autograd.gradcheck(
        lambda f, w: sparse_convolution(f, w, maps.down, maps.up), (features, down), fast_mode=True
    )


def layers_of(channels: int):
    """Every layer as a function of the features, and the number of rows that it takes."""
    x = random_tensor(channels, count=12)
    strided = x.voxels.strided(2, 2)
    coarse = strided.voxels
    torch.manual_seed(0)
    inverse = SparseInverseConv3d(channels, 2).double()
    convolutions = (SubMConv3d(channels, 2), SubMConv3d(channels, 2, 1), SparseConv3d(channels, 2, 3, 2, padding=1))
    for layer in (convolution.double() for convolution in convolutions):
        yield layer, len(x.voxels), lambda f, layer=layer: layer(x.replace(f)).features
    yield inverse, len(coarse), lambda f: inverse(SparseTensor(f, coarse), x.voxels).features
    for pool in (max_pool, mean_pool):
        yield None, len(x.voxels), lambda f, pool=pool: pool(x.replace(f)).features
    yield None, len(x.voxels), lambda f: global_mean_pool(x.replace(f))


@pytest.mark.parametrize("channels", [2, 9])
def test_gradients_of_every_layer_agree_with_finite_differences(channels):
    for layer, num_rows, function in layers_of(channels):
        generator = torch.Generator().manual_seed(3)
        features = torch.randn(num_rows, channels, generator=generator, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(function, features, fast_mode=True)
        if layer is not None:
            parameters = tuple(layer.parameters())
            of_parameters = functools.partial(lambda function, fixed, *_: function(fixed), function, features.detach())
            assert torch.autograd.gradcheck(of_parameters, parameters, fast_mode=True)


def test_only_the_gradient_that_is_asked_for_is_made():
    x = random_tensor(9)
    layer = SubMConv3d(9, 4).double()
    layer(x).features.sum().backward()
    assert x.features.grad is None and layer.weight.grad is not None
    layer.weight.requires_grad_(False)
    layer.weight.grad = None
    features = x.features.requires_grad_()
    layer(x).features.sum().backward()
    assert layer.weight.grad is None and features.grad is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("channels", [6, 24])
def test_autocast_computes_in_low_precision_and_keeps_float32_weights(dtype, channels):
    torch.manual_seed(0)
    x = random_tensor(channels, dtype=torch.float32)
    layer = SubMConv3d(channels, 16)
    exact = layer(x).features
    with torch.autocast("cpu", dtype=dtype):
        half = layer(x).features
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), exact, rtol=0, atol=0.02 * exact.abs().max().item())
    exact.square().sum().backward()
    exact_grad, layer.weight.grad = layer.weight.grad, None
    half.float().square().sum().backward()
    assert layer.weight.grad.dtype == torch.float32
    torch.testing.assert_close(layer.weight.grad, exact_grad, rtol=0, atol=0.03 * exact_grad.abs().max().item())


@pytest.mark.usefixtures("chunk_rows")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("channels", [6, 24])
@pytest.mark.parametrize("kernel", ["centred", "strided"])
def test_16_bits_lose_no_more_than_the_rounding_of_the_results(dtype, channels, kernel):
    torch.manual_seed(0)
    x = random_tensor(channels, count=400, dtype=torch.float32)
    layer = SubMConv3d(channels, 16, bias=False) if kernel == "centred" else SparseConv3d(channels, 16, bias=False)
    layer = layer.to(dtype)
    features = x.features.to(dtype)
    answers = []
    for precision in (dtype, torch.float64):
        layer = layer.to(precision)
        inputs = features.to(precision).requires_grad_()
        out = layer(x.replace(inputs)).features
        direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
        answers.append((out, *torch.autograd.grad(out, (inputs, layer.weight), direction.to(precision))))
    for rounded, exact in zip(*answers):
        assert rounded.dtype == dtype and exact.dtype == torch.float64
        assert (rounded.double() - exact).norm() < 0.5 * torch.finfo(dtype).eps * exact.norm()


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("channels", [3, 12])
def test_empty_and_single_voxel_inputs(count, channels):
    x = random_tensor(channels, count=count)
    features = x.features.requires_grad_()
    x = x.replace(features)
    subm, down = SubMConv3d(channels, 4).double(), SparseConv3d(channels, 12).double()
    up = SparseInverseConv3d(12, 5).double()
    assert subm(x).features.shape == (count, 4)
    y = up(down(x), x.voxels)
    assert y.features.shape == (count, 5)
    (y.features.sum() + subm(x).features.sum()).backward()
    assert features.grad.shape == (count, channels)
    if count:
        torch.testing.assert_close(subm(x).features[0], subm.weight[:, 1, 1, 1] @ x.features[0] + subm.bias)


def test_messages():
    x = random_tensor(3, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"SubMConv3d needs 4 input channels: got features of shape \(140, 3\)"):
        SubMConv3d(4, 4)(x)
    with pytest.raises(ValueError, match="must have an odd size"):
        SubMConv3d(3, 4, 2)(x)
    with pytest.raises(ValueError, match="positive sizes: got in_channels=3, out_channels=0"):
        SubMConv3d(3, 0)
    other = random_tensor(3, dtype=torch.float32, seed=1)
    with pytest.raises(ValueError, match=r"must return to the voxels that its input came from.*matching SparseConv3d"):
        SparseInverseConv3d(4, 4)(SparseConv3d(3, 4)(x), other.voxels)
    with pytest.raises(ValueError, match="stride >= 1"):
        SparseConv3d(3, 4, 2, 0)(x)
