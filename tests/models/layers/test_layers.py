"""What the layers compute, against formulas and oracles."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.layers.conv import Conv, CrossConv, GhostConv, MixConv2d, mixed_widths, same_padding
from models.layers.csp import C3, C3SPP, C3TR, Bottleneck, BottleneckCSP, C3Ghost, C3x, GhostBottleneck
from models.layers.fuse import Concat, Contract, Expand, Focus
from models.layers.transformer import TransformerLayer


@pytest.mark.parametrize(("kernel", "dilation", "padding"), [(1, 1, 0), (3, 1, 1), (5, 1, 2), (3, 2, 2), ((1, 3), 1, (0, 1))])
def test_padding_keeps_the_size(kernel: int, dilation: int, padding: int) -> None:
    assert same_padding(kernel, dilation) == padding
    assert Conv(4, 4, kernel, d=dilation)(torch.rand(2, 4, 9, 10)).shape == (2, 4, 9, 10)


def test_activations_of_a_conv() -> None:
    assert isinstance(Conv(3, 8, act=False).act, nn.Identity)
    assert isinstance(Conv(3, 8, act=nn.ReLU()).act, nn.ReLU)


def test_residuals_only_where_the_shape_allows() -> None:
    assert Bottleneck(8, 8).add
    assert not Bottleneck(8, 16).add
    assert not Bottleneck(8, 8, False).add
    assert CrossConv(8, 8, shortcut=True).add
    assert not CrossConv(8, 8, s=2, shortcut=True).add


def test_focus_takes_the_four_phases_in_yolov5s_order() -> None:
    focus = Focus(1, 4, act=False).eval()
    nn.init.dirac_(focus.conv.conv.weight)
    phases = focus(torch.arange(4.0).view(1, 1, 2, 2)).flatten() * (1 + 1e-3) ** 0.5
    torch.testing.assert_close(phases, torch.tensor([0.0, 2.0, 1.0, 3.0]))
    assert Focus(3, 8, 3)(torch.rand(2, 3, 7, 9)).shape == (2, 8, 4, 5)


def test_expand_undoes_contract() -> None:
    x = torch.randn(2, 3, 4, 6)
    assert Contract(2)(x).shape == (2, 12, 2, 3)
    assert torch.equal(Expand(2)(Contract(2)(x)), x)
    assert Contract(2)(torch.rand(1, 3, 5, 7)).shape == (1, 12, 3, 4)
    assert torch.equal(Contract(2)(x)[:, :3], x[:, :, ::2, ::2])


def test_concat_of_one_source_is_that_source() -> None:
    x = torch.rand(2, 3, 4, 5)
    assert torch.equal(Concat()(x), x)
    assert Concat()([x, x]).shape == (2, 6, 4, 5)


def test_attention_equals_torchs_own() -> None:
    layer = TransformerLayer(16, 4).double()
    nn.init.normal_(layer.ma.in_proj_bias)
    x = torch.randn(2, 7, 16, dtype=torch.float64)
    t = x.transpose(0, 1)
    expected, _ = layer.ma(layer.q(t), layer.k(t), layer.v(t), need_weights=False)
    y = x + expected.transpose(0, 1)
    torch.testing.assert_close(layer(x), y + layer.fc2(layer.fc1(y)))
    assert TransformerLayer(6, 4)(torch.rand(1, 3, 6)).shape == (1, 3, 6)


def test_shapes_that_ghosts_cannot_have() -> None:
    with pytest.raises(ValueError, match="c2 = 7 must be even"):
        GhostConv(8, 7)
    assert GhostBottleneck(8, 16, 3, 2)(torch.rand(2, 8, 7, 7)).shape == (2, 16, 4, 4)
    with pytest.raises(ValueError, match="stride 1 needs c1 == c2, not 8 and 16"):
        GhostBottleneck(8, 16)
    with pytest.raises(ValueError, match="stride 3"):
        GhostBottleneck(8, 16, 3, 3)


def test_mixed_widths() -> None:
    assert mixed_widths(64, (1, 3, 5), equal=True) == [21, 22, 21]
    unequal = mixed_widths(64, (1, 3), equal=False)
    assert unequal == [58, 6]  # 58 * 1 parameters are about 6 * 9
    assert MixConv2d(8, 64, (1, 3), equal_ch=False)(torch.rand(2, 8, 5, 5)).shape == (2, 64, 5, 5)
    with pytest.raises(ValueError, match="too narrow"):
        mixed_widths(2, (1, 3, 5), equal=True)


def test_names_are_yolov5s() -> None:
    def names(module: nn.Module) -> set[str]:
        return {name.rpartition(".")[0] for name in module.state_dict()}

    assert {"cv1.conv", "cv2.bn", "cv3.conv", "m.1.cv2.conv"} <= names(C3(8, 8, 2))
    assert {"cv1.conv", "cv2", "cv3", "cv4.bn", "bn", "m.0.cv1.conv"} <= names(BottleneckCSP(8, 8))
    tr = {"m.linear", "m.tr.0.q", "m.tr.0.k", "m.tr.0.v", "m.tr.0.ma", "m.tr.0.ma.out_proj", "m.tr.0.fc1", "m.tr.0.fc2"}
    assert tr <= names(C3TR(16, 16))
    assert {"m.cv1.conv", "m.cv2.conv"} <= names(C3SPP(16, 16))
    assert {"m.0.conv.0.cv1.conv", "m.0.conv.2.cv2.bn"} <= names(C3Ghost(16, 16))
    assert {"m.0.cv1.conv", "m.0.cv2.conv"} <= names(C3x(16, 16))
    assert {"conv.1.conv", "shortcut.0.conv", "shortcut.1.bn"} <= names(GhostBottleneck(8, 16, 3, 2))
    assert {"m.0", "m.1", "bn"} <= names(MixConv2d(8, 16))
