"""Pre-training of 2D image backbones by rendering."""

from ponder2d import backbones, depth, encoder, geometry, lifting, masking, necks, transfer

__all__ = ["backbones", "depth", "encoder", "geometry", "lifting", "masking", "necks", "transfer"]
