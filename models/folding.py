"""Folding batch norms into the convolutions beside them.

Some norms stay, since nothing beside them is linear: they follow an activation (ConvMixer, SEAM, MultiSEAM), a sum (C3RFEM, LSKNet) or
the input (NAM, ParNetBlock) and are read by an activation, a padded convolution or a residual, or by two of these (C3C2); DenseNet has them
before an activation, and one of the two branches that BottleneckCSP2, BottleneckCSPF and SPPCSP join ends in one. In evaluation mode a
batch norm is a factor and a shift in one pass over the map; a depthwise 1x1 in its place takes PyTorch ten times as long on a CPU.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from models.layers.conv import fold
from models.layers.norm import PooledBatchNorm


def fold_norms(root: nn.Module) -> None:
    """Fold in place, for inference.

    A module folds its own pairs in a method ``fuse()``; in a plain ``nn.Sequential`` each norm directly after a convolution is folded.
    """
    for module in root.modules():  # not a list of them: `fuse()` may replace the parts of its module, which then are not met
        if type(module) is nn.Sequential:
            for (_, conv), (name, norm) in pairwise(list(module.named_children())):
                if type(conv) is nn.Conv2d and type(norm) in {nn.BatchNorm2d, PooledBatchNorm} and norm.track_running_stats:
                    assert isinstance(norm, nn.BatchNorm2d)
                    fold(conv, norm)
                    setattr(module, name, nn.Identity())
        elif module is not root and callable(fuse := getattr(module, "fuse", None)):
            fuse()
