"""Pyramid pooling."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from models.layers.pool import SPPCSP, SPPCSPC, SPPFCSPC, SimSPPF, SPPCSPC_group


def test_sppcspc_is_as_large_as_in_yolov7() -> None:
    """The figure that YOLOv7 prints for its layer 51."""
    with torch.device("meta"):
        assert sum(p.numel() for p in SPPCSPC(1024, 512).parameters()) == 7609344


def test_the_pools_stand_in_one_of_two_branches() -> None:
    block = SPPCSPC(8, 12).eval()
    x = torch.randn(2, 8, 20, 17)
    y = block.pyramid.before(x)
    pooled = torch.cat([y, *(F.max_pool2d(y, k, 1, k // 2) for k in (5, 9, 13))], 1)
    expected = block.out(torch.cat((block.pyramid.after(pooled), block.bypass(x)), 1))
    torch.testing.assert_close(block(x), expected)
    fast = SPPFCSPC(8, 12).eval()
    fast.load_state_dict(block.state_dict())
    torch.testing.assert_close(fast(x), expected)


def test_one_norm_for_both_branches_of_sppcsp() -> None:
    block = SPPCSP(8, 12).eval()
    x = torch.randn(2, 8, 5, 6)
    joined = torch.cat((block.pyramid(x), F.conv2d(x, block.bypass.weight)), 1)
    torch.testing.assert_close(block(x), block.out(F.mish(block.bn(joined))))


def test_groups() -> None:
    assert {m.groups for m in SPPCSPC_group(8, 12).modules() if isinstance(m, torch.nn.Conv2d)} == {4}
    with pytest.raises(ValueError, match="SPPCSPC_group: c2 must be a multiple of 4, not 10; 8 or 12 would fit"):
        SPPCSPC_group(8, 10)


def test_simsppf_has_relu() -> None:
    block = SimSPPF(8, 12).eval()
    x = torch.randn(2, 8, 20, 17)
    y = F.relu(block.cv1.bn(block.cv1.conv(x)))
    once = F.max_pool2d(y, 5, 1, 2)
    twice = F.max_pool2d(once, 5, 1, 2)
    joined = torch.cat((y, once, twice, F.max_pool2d(twice, 5, 1, 2)), 1)
    torch.testing.assert_close(block(x), F.relu(block.cv2.bn(block.cv2.conv(joined))))
