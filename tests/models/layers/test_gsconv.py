"""GSConv's widths."""

from __future__ import annotations

import pytest
import torch

from models.layers.gsconv import GSBottleneck, GSConv, VoVGSCSP


def test_an_odd_width_is_refused() -> None:
    with pytest.raises(ValueError, match="c2 must be a multiple of 2, not 7"):
        GSConv(4, 7)


def test_a_block_has_no_weight_that_it_does_not_use() -> None:
    block = VoVGSCSP(8, 16, 2)
    assert len(block.m) == 2
    assert isinstance(block.m[0], GSBottleneck)
    block(torch.randn(2, 8, 5, 6)).sum().backward()
    assert all(p.grad is not None for p in block.parameters())
    assert VoVGSCSP(8, 10)(torch.rand(2, 8, 5, 6)).shape == (2, 10, 5, 6)
