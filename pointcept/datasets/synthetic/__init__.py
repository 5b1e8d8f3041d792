"""Furnished rooms out of textured analytic primitives, ray-cast into RGB-D frames: the embedded default data."""

from pointcept.datasets.synthetic.generate import ensure_synthetic_rooms
from pointcept.datasets.synthetic.room import Room, RoomSettings, generate_room

__all__ = ["Room", "RoomSettings", "ensure_synthetic_rooms", "generate_room"]
