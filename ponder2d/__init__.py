"""Pre-training of 2D image backbones by rendering."""

from ponder2d import backbones, depth, lifting, necks

__all__ = ["backbones", "depth", "lifting", "necks"]
