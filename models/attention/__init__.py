"""Attention, one mechanism a file. Importing this package registers them."""

from models.attention import coord

__all__ = ["coord"]
