import pytest
import torch

from pointcept.models.encoders import ProjectionUNet


@pytest.mark.parametrize("grid", [(8, 12, 16), (5, 9, 7)])
def test_grid_is_kept_also_where_it_does_not_halve(grid):
    torch.manual_seed(0)
    network = ProjectionUNet(3, 6, channels=(4, 8, 8)).eval()
    features = torch.randn(2, 3, *grid)
    out = network(features)
    assert out.shape == (2, 6, *grid)
    torch.testing.assert_close(network(features[1:]), out[1:], atol=1e-5, rtol=1e-4)


def test_one_level_has_no_decoder():
    network = ProjectionUNet(3, 6, channels=(4,))
    assert len(network.decoders) == 0 and network(torch.randn(1, 3, 4, 4, 4)).shape == (1, 6, 4, 4, 4)


def test_no_levels_are_refused():
    with pytest.raises(ValueError, match="at least one level: got none"):
        ProjectionUNet(3, 6, channels=())
