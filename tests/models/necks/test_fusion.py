"""Sums of maps."""

from __future__ import annotations

import torch
from torch import nn

from models.necks.fusion import ADD, Concat_bifpn


def test_a_node_of_bifpn() -> None:
    node = Concat_bifpn(3, 4, 6).eval()
    with torch.no_grad():
        node.w.copy_(torch.tensor([3.0, -2.0, 1.0]))
    maps = [torch.randn(2, 4, 5, 6) for _ in range(3)]
    torch.testing.assert_close(node.weights(), torch.tensor([3.0, 0.0, 1.0]) / 4.0001)
    mixed = (3 * maps[0] + maps[2]) / 4.0001
    swish, dw, pw, norm = node.conv
    torch.testing.assert_close(node(maps), norm(pw(dw(swish(mixed)))))
    assert isinstance(swish, nn.SiLU)
    assert (dw.groups, dw.kernel_size, pw.kernel_size) == (4, (3, 3), (1, 1))
    assert Concat_bifpn(2, 4, 4).w.tolist() == [1, 1]
    assert (norm.eps, norm.momentum) == (1e-3, 0.01)


def test_a_plain_sum() -> None:
    a, b, c = (torch.randn(1, 2, 3, 3) for _ in range(3))
    torch.testing.assert_close(ADD()([a, b, c]), a + b + c)
    torch.testing.assert_close(ADD(0.5)([a, b]), a + b / 2)
