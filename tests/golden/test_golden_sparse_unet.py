"""SparseUNet against Pointcept's SpUNet-v1m1 on spconv."""

import pytest
import torch
from golden_data import golden_paths, load_golden, relative_error

from pointcept.registry import build
from pointcept.structures import PointBatch

pytestmark = pytest.mark.golden


@pytest.mark.parametrize("path", golden_paths("spunet_v1m1_"), ids=lambda path: path.stem)
def test_output(path):
    golden = load_golden(path)
    backbone = build({"type": "SpUNet-v1m1", **golden.arguments}).eval()
    backbone.load_state_dict(golden.group("state"), strict=True)
    grid_coord = golden["input.grid_coord"]
    points = PointBatch(grid_coord.float(), grid_coord, golden["input.feat"], golden["input.offset"])
    with torch.no_grad():
        output = backbone(points)
    assert output.feat.shape[1] == backbone.out_channels
    assert relative_error(output.feat, golden["output"]) < 1e-4
