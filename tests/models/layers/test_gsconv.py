"""GSConv's shuffle."""

from __future__ import annotations

import pytest
import torch

from models.layers.gsconv import GSBottleneck, GSConv, VoVGSCSP


@pytest.mark.parametrize("width", [8, 10])
def test_even_channels_come_before_odd_ones(width: int) -> None:
    conv = GSConv(4, width, 3).eval()
    x = torch.randn(2, 4, 5, 6)
    dense = conv.cv1(x)
    whole = torch.cat((dense, conv.cv2(dense)), 1)
    assert torch.equal(conv(x), torch.cat((whole[:, ::2], whole[:, 1::2]), 1))
    with pytest.raises(ValueError, match="c2 must be a multiple of 2, not 7"):
        GSConv(4, 7)


def test_a_block_has_no_weight_that_it_does_not_use() -> None:
    block = VoVGSCSP(8, 16, 2)
    assert len(block.m) == 2
    assert isinstance(block.m[0], GSBottleneck)
    block(torch.randn(2, 8, 5, 6)).sum().backward()
    assert all(p.grad is not None for p in block.parameters())
    assert VoVGSCSP(8, 10)(torch.rand(2, 8, 5, 6)).shape == (2, 10, 5, 6)
