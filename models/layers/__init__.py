"""Layers of the YOLO family. Importing this package registers them."""

from models.layers import (  # noqa: F401  importing them registers their modules
    c2f,
    conv,
    cross_stage,
    csp,
    dilated,
    downsample,
    elan,
    fuse,
    gsconv,
    hardswish,
    join,
    merged,
    norm,
    orepa,
    pool,
    ppyolo,
    residual,
    spatial,
    torch_nn,
    transformer,
)
