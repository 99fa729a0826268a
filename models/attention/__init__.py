"""Attention, one mechanism a file. Importing this package registers them."""

from models.attention import coord, gnconv

__all__ = ["coord", "gnconv"]
