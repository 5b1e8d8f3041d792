"""The SparseUNet in spconv, run as ``python spconv_twin.py GIVEN MADE REPEATS`` by ``benchmarks.backbones``.

It needs only torch, safetensors and spconv, so that it can run in an environment of its own.
"""

import sys
import time

import spconv.pytorch as spconv
import torch
from safetensors.torch import load_file, save_file
from torch import nn

CHANNELS, LAYERS, BASE = (32, 64, 128, 256, 256, 128, 96, 96), (2, 3, 4, 6, 2, 2, 2, 2), 32


def conv_norm(conv: nn.Module) -> spconv.SparseSequential:
    """A convolution with batch norm and ReLU."""
    return spconv.SparseSequential(conv, nn.BatchNorm1d(conv.out_channels, eps=1e-3), nn.ReLU())


class Block(spconv.SparseModule):
    """A residual block of two submanifold convolutions."""

    def __init__(self, width_in: int, width: int, key: str):
        super().__init__()
        self.proj = (
            spconv.SparseSequential(spconv.SubMConv3d(width_in, width, 1, bias=False), nn.BatchNorm1d(width, eps=1e-3))
            if width_in != width
            else spconv.SparseSequential(nn.Identity())
        )
        self.conv1 = spconv.SubMConv3d(width_in, width, 3, padding=1, bias=False, indice_key=key)
        self.bn1 = nn.BatchNorm1d(width, eps=1e-3)
        self.conv2 = spconv.SubMConv3d(width, width, 3, padding=1, bias=False, indice_key=key)
        self.bn2 = nn.BatchNorm1d(width, eps=1e-3)

    def forward(self, x: spconv.SparseConvTensor) -> spconv.SparseConvTensor:
        """Features on the same voxels."""
        y = self.conv1(x)
        y = self.conv2(y.replace_feature(torch.relu(self.bn1(y.features))))
        return y.replace_feature(torch.relu(self.bn2(y.features) + self.proj(x).features))


def blocks(width_in: int, width: int, count: int, key: str) -> spconv.SparseSequential:
    """A stage of residual blocks."""
    stage = spconv.SparseSequential()
    for index in range(count):
        stage.add_module(f"block{index}", Block(width if index else width_in, width, key))
    return stage


class Twin(nn.Module):
    """The network of ``pointcept.models.backbones.SparseUNet`` with its default widths."""

    def __init__(self, in_channels: int, num_classes: int):
        super().__init__()
        stages = len(CHANNELS) // 2
        skips = (BASE, *CHANNELS[: stages - 1])
        self.conv_input = conv_norm(spconv.SubMConv3d(in_channels, BASE, 5, padding=1, bias=False, indice_key="stem"))
        self.down, self.enc, self.up, self.dec = (nn.ModuleList() for _ in range(4))
        for s in range(stages):
            down = spconv.SparseConv3d(skips[s], CHANNELS[s], 2, 2, bias=False, indice_key=f"down{s}")
            up = spconv.SparseInverseConv3d(CHANNELS[-2 - s], CHANNELS[-1 - s], 2, bias=False, indice_key=f"down{s}")
            self.down.append(conv_norm(down))
            self.enc.append(blocks(CHANNELS[s], CHANNELS[s], LAYERS[s], f"level{s + 1}"))
            self.up.append(conv_norm(up))
            self.dec.append(blocks(CHANNELS[-1 - s] + skips[s], CHANNELS[-1 - s], LAYERS[-1 - s], f"level{s}"))
        self.final = spconv.SubMConv3d(CHANNELS[-1], num_classes, 1, indice_key="final")

    def forward(self, feat: torch.Tensor, grid_coord: torch.Tensor) -> torch.Tensor:
        """Logits of one cloud."""
        indices = torch.cat([grid_coord.new_zeros(len(grid_coord), 1), grid_coord], dim=1).int()
        shape = (grid_coord.amax(0) + 96).tolist()
        x = self.conv_input(spconv.SparseConvTensor(feat, indices.contiguous(), shape, 1))
        kept = []
        for down, enc in zip(self.down, self.enc):
            kept.append(x)
            x = enc(down(x))
        for up, dec in zip(reversed(self.up), reversed(self.dec)):
            x, skip = up(x), kept.pop()
            x = dec(x.replace_feature(torch.cat([x.features, skip.features], dim=1)))
        return self.final(x).features


@torch.no_grad()
def main(given_file: str, made_file: str, repeats: int) -> None:
    """Load weights and voxels, run, and write the output and the seconds of the fastest run."""
    given = load_file(given_file)
    state = {name.removeprefix("state."): value for name, value in given.items() if name.startswith("state.")}
    twin = Twin(given["feat"].shape[1], state["final.bias"].shape[0]).eval()
    twin.load_state_dict(state)
    seconds = []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        output = twin(given["feat"], given["grid_coord"])
        seconds.append(time.perf_counter() - start)
    save_file({"output": output.contiguous(), "seconds": torch.tensor(min(seconds[1:]))}, made_file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
