"""PointTransformerV3 against Pointcept's PT-v3m1."""

import itertools

import pytest
import torch
from golden_data import golden_paths, load_golden, relative_error

from pointcept.registry import build
from pointcept.structures import PointBatch

pytestmark = pytest.mark.golden

# With shuffle_orders=False Pointcept leaves the curves of the finest level in place, but its pooling shuffles all the
# same, in evaluation too. The files were computed with these draws, which their metadata does not hold: the first two
# curves, all that stages of two blocks follow, of the second and the third level. They were found by trying all.
DRAWS = {
    "ptv3_batch": ((3, 1), (3, 2)),
    "ptv3_encoder": ((0, 1), (1, 3)),
    "ptv3_rpe": ((1, 0), (0, 1)),
    "ptv3_single": ((1, 3), (1, 2)),
}


@pytest.mark.parametrize("path", golden_paths("ptv3_"), ids=lambda path: path.stem)
def test_output(path, monkeypatch):
    golden = load_golden(path)
    backbone = build({"type": "PT-v3m1", **golden.arguments}).eval()
    backbone.load_state_dict(golden.group("state"), strict=True)
    grid_coord = golden["input.grid_coord"]
    points = PointBatch(grid_coord.float(), grid_coord, golden["input.feat"], golden["input.offset"])

    @torch.no_grad()
    def error(draws):
        curves = iter([(0, 1), *draws])
        monkeypatch.setattr(backbone, "draw_curves", lambda: next(curves))
        output = backbone(points)
        assert output.feat.shape[1] == backbone.out_channels
        return relative_error(output.feat, golden["output"])

    pairs = itertools.permutations(range(len(backbone.order)), 2)
    candidates = [DRAWS[path.stem]] if path.stem in DRAWS else itertools.product(pairs, repeat=len(backbone.stride))
    assert any(error(draws) < 1e-4 for draws in candidates)
