"""Lifting: from feature maps of posed views to a feature volume."""

from ponder2d.lifting.base import ViewTransform
from ponder2d.lifting.projection import ProjectionLifting
from ponder2d.lifting.splatting import SplattingLifting

__all__ = ["ProjectionLifting", "SplattingLifting", "ViewTransform"]
