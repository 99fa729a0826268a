"""The partial blocks against what their authors write, and YOLOv7's figures."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.layers.cross_stage import (
    C3C2,
    BottleneckCSP2,
    BottleneckCSPB,
    BottleneckCSPC,
    BottleneckCSPF,
    Res,
    ResCSPB,
    ResCSPC,
    ResXCSPB,
    ResXCSPC,
)
from models.layers.csp import Bottleneck
from models.layers.elan import ELAN, PhaseMixing, WaveBlock, WaveLAN


def test_the_branches_part_where_the_papers_have_it() -> None:
    x = torch.randn(2, 8, 5, 6)
    b = BottleneckCSPB(8, 12).eval()
    y = b.cv1(x)
    torch.testing.assert_close(b(x), b.cv3(torch.cat((b.m(y), b.cv2(y)), 1)))
    c = BottleneckCSPC(8, 12).eval()
    torch.testing.assert_close(c(x), c.cv4(torch.cat((c.cv3(c.m(c.cv1(x))), c.cv2(x)), 1)))
    two = BottleneckCSP2(8, 12).eval()
    y = two.cv1(x)
    torch.testing.assert_close(two(x), two.out(nn.functional.mish(two.bn(torch.cat((two.m(y), two.cv2(y)), 1)))))
    f = BottleneckCSPF(8, 12).eval()
    torch.testing.assert_close(f(x), f.out(nn.functional.silu(f.bn(torch.cat((f.m(f.cv1(x)), f.cv2(x)), 1)))))
    c3c2 = C3C2(8, 12).eval()
    y = c3c2.conv(x)
    torch.testing.assert_close(c3c2(x), c3c2.cv1(torch.cat((c3c2.m(nn.functional.silu(c3c2.bn(y))), y), 1)))


def test_residuals_and_inner_blocks() -> None:
    assert not any(m.add for m in BottleneckCSPB(8, 8, 2).m)  # without, unless the row says so
    assert all(isinstance(m, Bottleneck) and m.add for m in BottleneckCSPC(8, 8, 2).m)
    assert not any(m.add for m in BottleneckCSP2(8, 8, 2).m)
    assert [m.add for m in ResCSPB(8, 8, 2, True).m] == [True, True]
    inner = ResCSPC(8, 128, 1).m[0]
    assert isinstance(inner, Res)
    assert [c.conv.out_channels for c in inner.m] == [32, 32, 64]


@pytest.mark.parametrize("block", [ResXCSPB(8, 64), ResXCSPC(8, 128)])
def test_resnexts_have_32_groups_and_no_narrower_middle(block: nn.Module) -> None:
    middle = block.m[0].m[1].conv
    assert (middle.groups, middle.in_channels) == (32, 64)
    assert ResXCSPB(8, 24).m[0].m[1].conv.groups == 8  # of 24 channels


def test_elan_is_as_large_as_in_yolov7() -> None:
    """Its first one, 128 -> 256: two 1x1 of 8320 parameters, four 3x3 of 36992, one 1x1 of 66048."""
    with torch.device("meta"):
        assert sum(p.numel() for p in ELAN(128, 256).parameters()) == 2 * 8320 + 4 * 36992 + 66048
    elan = ELAN(8, 16, 2).eval()
    x = torch.randn(2, 8, 5, 6)
    a, b = elan.cv1(x), elan.cv2(x)
    c = elan.units[0](b)
    d = elan.units[1](c)
    torch.testing.assert_close(elan(x), elan.cv3(torch.cat((elan.units[2](d), d, c, b, a), 1)))


def test_a_wave_has_an_amplitude_and_a_phase() -> None:
    mixing = PhaseMixing(4, 3).double().eval()
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    branches = [mixing.channel(x)]
    for i, pad in enumerate(((0, 1), (1, 0))):
        z, theta = mixing.amplitude[i](x), mixing.phase[i](x)
        weight = mixing.mix[i].weight  # (4, 2, ...): the real and the imaginary part of each channel
        real = nn.functional.conv2d(z * theta.cos(), weight[:, :1], padding=pad, groups=4)
        branches.append(real + nn.functional.conv2d(z * theta.sin(), weight[:, 1:], padding=pad, groups=4))
    shares = mixing.weigh((branches[0] + branches[1] + branches[2]).mean((2, 3), keepdim=True)).reshape(2, 4, 3, 1, 1).softmax(2)
    torch.testing.assert_close(mixing(x), mixing.project(sum(b * shares[:, :, i] for i, b in enumerate(branches))))
    assert isinstance(WaveLAN(8, 32).units[0], WaveBlock)
