"""Sums of maps."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from models.necks.fusion import ADD, Concat_bifpn
from tests.models.written_out import linear, maps, normed, settled, silu


def test_a_node_of_bifpn() -> None:
    node = settled(Concat_bifpn(3, 4, 6))
    with torch.no_grad():
        node.w.copy_(torch.tensor([3.0, -2.0, 1.0]))
    levels = [maps(4) for _ in range(3)]
    torch.testing.assert_close(node.weights(), torch.tensor([3.0, 0.0, 1.0], dtype=torch.float64) / 4.0001)
    mixed = (3 * levels[0] + levels[2]) / 4.0001
    swish, dw, pw, norm = node.conv
    separable = linear(F.conv2d(silu(mixed), dw.weight, padding=1, groups=4), pw)
    torch.testing.assert_close(node(levels), normed(separable, norm))
    assert isinstance(swish, nn.SiLU)
    assert (dw.groups, dw.kernel_size, pw.kernel_size) == (4, (3, 3), (1, 1))
    assert Concat_bifpn(2, 4, 4).w.tolist() == [1, 1]
    assert (norm.eps, norm.momentum) == (1e-3, 0.01)


def test_a_plain_sum() -> None:
    a, b, c = (maps(2) for _ in range(3))
    torch.testing.assert_close(ADD()([a, b, c]), a + b + c)
    torch.testing.assert_close(ADD(0.5)([a, b]), a + b / 2)
