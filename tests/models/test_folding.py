"""Batch norms that fold into other convolutions than the one before them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.folding import fold_norms
from models.layers.conv import MixConv2d
from models.layers.csp import BottleneckCSP
from models.layers.elan import WaveBlock


@torch.no_grad()
@pytest.mark.parametrize(
    "block",
    [MixConv2d(6, 10, (1, 3, 5), 2), BottleneckCSP(6, 8), WaveBlock(6)],
    ids=["of joined convolutions", "of two branches", "into the convolutions behind"],
)
def test_norms_fold_exactly(block: nn.Module) -> None:
    block = block.double().eval()
    for part in block.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.running_mean, part.running_var, part.weight, part.bias):
                assert tensor is not None
                tensor.uniform_(0.5, 2)
    x = torch.randn(2, 6, 9, 7, dtype=torch.double)
    expected = block(x)
    fold_norms(nn.ModuleList([block]))
    assert not any(isinstance(part, nn.BatchNorm2d) for part in block.modules())
    torch.testing.assert_close(block(x), expected, rtol=1e-10, atol=1e-10)
    fold_norms(nn.ModuleList([block]))  # once is enough
    torch.testing.assert_close(block(x), expected, rtol=1e-10, atol=1e-10)
