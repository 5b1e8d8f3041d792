"""What tests of sparse convolution share."""

import pytest


@pytest.fixture(params=[10**6, 0], ids=["columns", "search"])
def cells_per_voxel(request, monkeypatch):
    """Both ways to find the cubes around voxels: laid-out columns, and the search that serves clouds with outliers."""
    monkeypatch.setattr("pointcept.ops.sparse.windows._CELLS_PER_VOXEL", request.param)


@pytest.fixture(
    params=[(True, 3), (True, 12), (False, 3), (False, 12)],
    ids=["few channels", "many channels", "accelerator, few channels", "accelerator, many channels"],
)
def channels(request, monkeypatch):
    """A number of channels for each way of sparse convolution, on a CPU that may have to work as accelerators do."""
    by_pairs, channels = request.param
    monkeypatch.setattr("pointcept.ops.sparse.convolution._works_by_pairs", lambda device_type: by_pairs)
    return channels
