"""What all tests share: one thread per test process, since several of them run side by side."""

import torch

torch.set_num_threads(1)
