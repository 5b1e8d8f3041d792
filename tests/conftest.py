"""What all tests share: one thread per test process, as several run side by side, and known random numbers."""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Starts torch's generator anew, so that no test sees other numbers after other tests."""
    torch.manual_seed(0)
