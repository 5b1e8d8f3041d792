"""Encoders: whatever turns a batch of scenes into feature volumes."""

from pointcept.models.encoders.masking import BlockMask
from pointcept.models.encoders.point_volume import PointVolumeEncoder
from pointcept.models.encoders.projection import ProjectionUNet

__all__ = ["BlockMask", "PointVolumeEncoder", "ProjectionUNet"]
