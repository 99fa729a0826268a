"""Attention, one mechanism a file. Importing this package registers them."""

from models.attention import coord, cot, gnconv, tokens

__all__ = ["coord", "cot", "gnconv", "tokens"]
