"""What every backbone checks of the points that it is given."""

import torch

from pointcept.structures import PointBatch


def check_input(points: PointBatch, in_channels: int, owner: str) -> None:
    """Refuses features of a wrong width and, on a CPU, such that are no finite numbers.

    On an accelerator the second check would wait for the device, and it would break a compiled graph; a loss that is
    not finite shows there.

    Args:
        points: The batch.
        in_channels: Width that the backbone was built for.
        owner: Name of the backbone, for messages.

    Raises:
        ValueError: one of the two.
    """
    feat = points.feat
    if feat.shape[1] != in_channels:
        raise ValueError(
            f"{owner} was built for {in_channels} input features per point (in_channels): got feat of shape "
            f"{tuple(feat.shape)}. Change in_channels or the features that the transforms collect."
        )
    if torch.compiler.is_compiling() or feat.device.type != "cpu" or bool(torch.isfinite(feat).all()):
        return
    is_bad = ~torch.isfinite(feat.detach())
    columns = is_bad.any(0).nonzero().view(-1).tolist()
    rows = is_bad.any(1).nonzero().view(-1)
    clouds = points.batch_index[rows].unique().tolist()
    raise ValueError(
        f"Input features must be finite numbers: {len(rows)} of {len(feat)} points have others, in columns {columns} "
        f"of feat and clouds {clouds} of the batch, the first one at row {int(rows[0])}. Correct the data set, or the "
        "transform that makes these features."
    )
