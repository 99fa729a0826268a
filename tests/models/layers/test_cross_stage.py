"""Inner blocks and widths of the partial blocks, YOLOv7's figures, and Wave-MLP's mixing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.layers.cross_stage import (
    BottleneckCSP2,
    BottleneckCSPB,
    BottleneckCSPC,
    Res,
    ResCSPB,
    ResCSPC,
    ResXCSPB,
    ResXCSPC,
)
from models.layers.csp import Bottleneck
from models.layers.elan import ELAN, PhaseMixing, WaveBlock, WaveLAN


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
