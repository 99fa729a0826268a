"""Cutting a map of any size into square windows, and joining them again."""

from __future__ import annotations

from torch import Tensor

from models.layers.fuse import pad_to_multiple


def windows(x: Tensor, size: int) -> Tensor:
    """(B, C, H, W), padded with zeros right and bottom -> (B, windows, size^2, C), windows and pixels row-major."""
    x = pad_to_multiple(x, size)
    B, C, H, W = x.shape
    return x.reshape(B, C, H // size, size, W // size, size).permute(0, 2, 4, 3, 5, 1).reshape(B, -1, size * size, C)


def unwindowed(cut: Tensor, size: int, like: Tensor) -> Tensor:
    """Undo `windows`: (B, windows, size^2, C) -> (B, C, H, W), of the height and width of the map `like`."""
    height, width = like.shape[2:]
    rows, columns = (height + size - 1) // size, (width + size - 1) // size
    B, _, _, C = cut.shape
    maps = cut.reshape(B, rows, columns, size, size, C).permute(0, 5, 1, 3, 2, 4)
    return maps.reshape(B, C, rows * size, columns * size)[:, :, :height, :width]
