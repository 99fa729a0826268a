"""Cutting a map of any size into square windows, joining them again, and the offsets of the pixels inside."""

from __future__ import annotations

import torch
from torch import Tensor

from models.layers.fuse import pad_to_multiple


def cut(x: Tensor, size: int) -> Tensor:
    """(B, H, W, C) -> (B, windows, size^2, C), windows and pixels row-major; H and W are multiples of the size."""
    batch, height, width, channels = x.shape
    parts = x.reshape(batch, height // size, size, width // size, size, channels).transpose(2, 3)
    return parts.reshape(batch, -1, size * size, channels)


def joined(windows: Tensor, size: int, height: int, width: int) -> Tensor:
    """Undo `cut`: (B, windows, size^2, C) -> (B, height, width, C)."""
    channels = windows.shape[3]  # -1 stands for the batch, which ONNX's tracer takes for constant behind some operators
    parts = windows.reshape(-1, height // size, width // size, size, size, channels).transpose(2, 3)
    return parts.reshape(-1, height, width, channels)


def windows(x: Tensor, size: int) -> Tensor:
    """(B, C, H, W), padded with zeros right and bottom -> (B, windows, size^2, C)."""
    return cut(pad_to_multiple(x, size).permute(0, 2, 3, 1), size)


def unwindowed(parts: Tensor, size: int, like: Tensor) -> Tensor:
    """Undo `windows`: (B, windows, size^2, C) -> (B, C, H, W), of the height and width of the map `like`."""
    height, width = like.shape[2:]
    whole = joined(parts, size, (height + size - 1) // size * size, (width + size - 1) // size * size)
    return whole[:, :height, :width].permute(0, 3, 1, 2)


def offset_index(rows: int, columns: int, device: torch.device | None = None) -> Tensor:
    """Row of a table of (2 rows - 1)(2 columns - 1) offsets for each pair of pixels, query minus key: (rows columns, rows columns)."""
    down, across = (torch.arange(n, device=device) for n in (rows, columns))
    y, x = down[:, None].expand(rows, columns).flatten(), across.expand(rows, columns).flatten()
    return (y[:, None] - y + rows - 1) * (2 * columns - 1) + x[:, None] - x + columns - 1
