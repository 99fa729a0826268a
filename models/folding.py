"""Folding batch norms into the convolutions before them, in every module that allows it."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from models.layers.conv import fold
from models.layers.norm import PooledBatchNorm


def fold_norms(root: nn.Module) -> None:
    """Fold in place, for inference.

    A module folds its own pairs in a method ``fuse()``; a plain ``nn.Sequential`` needs none, its order says what follows what.
    """
    for module in list(root.modules()):
        if type(module) is nn.Sequential:
            _fold_sequence(module)
        elif module is not root and callable(fuse := getattr(module, "fuse", None)):
            fuse()


def _fold_sequence(sequence: nn.Sequential) -> None:
    for (_, conv), (name, norm) in pairwise(list(sequence.named_children())):
        if type(conv) is not nn.Conv2d or type(norm) not in {nn.BatchNorm2d, PooledBatchNorm}:
            continue
        if isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats:
            fold(conv, norm)
            setattr(sequence, name, nn.Identity())
