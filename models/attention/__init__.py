"""Attention, one mechanism a file. Importing this package registers them."""

from models.attention import bot, cat, cbam, coord, cot, eca, gnconv, position, se, simam, tokens

__all__ = ["bot", "cat", "cbam", "coord", "cot", "eca", "gnconv", "position", "se", "simam", "tokens"]
