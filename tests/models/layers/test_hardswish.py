"""The light blocks."""

from __future__ import annotations

import torch
from torch import nn

from models.layers.hardswish import Conv_maxpool, Dense, DepthSepConv, HardGate


def test_gates_and_dropout() -> None:
    assert isinstance(DepthSepConv(8, 8).se, nn.Identity)
    assert HardGate(8).gate[0].out_channels == 2
    torch.manual_seed(0)
    dense, x = Dense(4, 6, 1, 0.5), torch.randn(2, 4, 5, 5)
    assert 0.3 < (dense.train()(x) == 0).float().mean().item() < 0.7
    assert Conv_maxpool(4, 6)(torch.rand(2, 4, 13, 20)).shape == (2, 6, 4, 5)
