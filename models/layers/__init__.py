"""Layers of the YOLO family. Importing this package registers them."""

from models.layers import conv, csp, fuse, join, norm, pool, residual, spatial, torch_nn, transformer

__all__ = ["conv", "csp", "fuse", "join", "norm", "pool", "residual", "spatial", "torch_nn", "transformer"]
