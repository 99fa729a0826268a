"""Attention, one mechanism a file. Importing this package registers them."""

from models.attention import (  # noqa: F401  importing them registers their modules
    bot,
    cat,
    cbam,
    coord,
    cot,
    criss_cross,
    double_attention,
    eca,
    gather_excite,
    global_context,
    gnconv,
    non_local,
    position,
    se,
    selective_kernel,
    self_calibrated,
    simam,
    tokens,
    triplet,
)
