"""What tests of sparse convolution share."""

import pytest


@pytest.fixture(params=[10**6, 0], ids=["columns", "search"])
def cells_per_voxel(request, monkeypatch):
    """Both ways to find the cubes around voxels: laid-out columns, and the search that serves clouds with outliers."""
    monkeypatch.setattr("pointcept.ops.sparse.windows._CELLS_PER_VOXEL", request.param)
