"""SparseUNet against Pointcept's SpUNet-v1m1 and SpUNet-v1m3 on spconv."""

import pytest
import torch
from golden_data import golden_paths, load_golden, relative_error

from pointcept.ops.backends import SPARSE
from pointcept.registry import build
from pointcept.structures import PointBatch

pytestmark = pytest.mark.golden


@pytest.fixture(autouse=True, params=["torch", "native"])
def backend(request, monkeypatch):
    if not SPARSE.is_installed(request.param):
        pytest.skip(f"{request.param} is not there")
    monkeypatch.setenv(SPARSE.variable, request.param)


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


@pytest.mark.parametrize("path", golden_paths("spunet_v1m3_"), ids=lambda path: path.stem)
def test_output_of_every_condition(path):
    golden = load_golden(path)
    conditions = tuple(golden.arguments.pop("conditions").split(","))
    backbone = build({"type": "SpUNet-v1m3", "conditions": conditions, **golden.arguments}).eval()
    # The reference was given one context vector for all conditions; here each has its own, in the backbone.
    context = golden["input.context"].expand(len(conditions), -1)
    backbone.load_state_dict({**golden.group("state"), "embedding_table.weight": context}, strict=True)
    grid_coord, feat, offset = golden["input.grid_coord"], golden["input.feat"], golden["input.offset"]
    points = PointBatch(grid_coord.float(), grid_coord, feat, offset)

    @torch.no_grad()
    def run(*names):
        return backbone(points.replace(condition=names)).feat

    for name in conditions:
        assert relative_error(run(name, name), golden[f"output.{name}"]) < 1e-4
    first, second = conditions[0], conditions[-1]
    end = int(offset[0])
    mixed = torch.cat([golden[f"output.{first}"][:end], golden[f"output.{second}"][end:]])
    assert relative_error(run(first, second), mixed) < 1e-4
