"""Rows of a stage each of ResNet-vd, Res2Net, RepLKNet and PP-YOLOE's CSPRepResNet, as in YOLOAir's files."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import deform_conv2d

from models.backbones.cspresnet import CSPResNet, CSPResNet_CBS
from models.backbones.replknet import LargeKernelBlock, RepLKNetStage
from models.backbones.resnet_vd import Res2Conv, Res2NetStage, ResNetVdStage
from models.folding import fold_norms
from models.layers.deformable import ModulatedDeformConv
from models.layers.residual import ResidualBottleneck
from models.registry import Row, Scale, lookup
from tests.models.written_out import convolved, linear, maps, settled, silu
from utils.errors import UserError

HEAD = 2_049_000
STAGES = [[64, 0], [256, 1], [512, 2], [1024, 3], [2048, 4]]
LK = [[128, 256, 512, 1024], [31, 29, 27, 13], [2, 2, 18, 2], 0.3, 5, 1, 4]


def chain(rows: list[tuple[str, list[Any]]], width: float = 0.5) -> nn.Sequential:
    """The layers of rows that read each other, without memory, at a size of the model that a published width does not follow."""
    layers, channels = nn.Sequential(), 3
    with torch.device("meta"):
        for i, (name, args) in enumerate(rows):
            entry = lookup(name)
            plan = entry.rule(Row(i, (i - 1,), 1, name, tuple(args), str(i)), [channels], Scale(0.33, width))
            layers.append((plan.build or entry.build)(*plan.args))
            assert isinstance(plan.out, int)
            channels = plan.out
    return layers


def size(layers: nn.Module) -> int:
    return sum(p.numel() for p in layers.parameters())


@pytest.mark.parametrize(("name", "published"), [("ResNet50vd", 25.58), ("ResNet101vd", 44.57), ("Res2net50", 25.70)])
def test_five_rows_are_the_published_network(name: str, published: float) -> None:
    layers = chain([(name, args) for args in STAGES])
    assert (size(layers) + HEAD) / 1e6 == pytest.approx(published, abs=0.006)
    x = torch.empty(1, 3, 64, 96, device="meta")
    shapes = [tuple((x := layer(x)).shape[1:]) for layer in layers]
    assert shapes == [(64, 16, 24), (256, 16, 24), (512, 8, 12), (1024, 4, 6), (2048, 2, 3)]


def test_the_deformable_network_has_moves_in_its_last_stage_only() -> None:
    plain, moved = (chain([(name, args) for args in STAGES]) for name in ("ResNet50vd", "ResNet50vd_dcn"))
    assert [size(b) - size(a) for a, b in zip(plain, moved, strict=True)] == [0, 0, 0, 0, 3 * (512 * 27 * 9 + 27)]


def test_replknet_has_the_published_parameters() -> None:
    rows = [("RepLKNet_Stem", [128, 3, LK[0]])]
    rows += [(f"RepLKNet_stage{i + 1}", [width, *LK]) for i, width in enumerate((256, 512, 1024, 1024))]
    layers = chain(rows)
    # RepLKNet-31B has 79 million (arXiv:2203.06717, table 5) with a norm and a classifier.
    assert (size(layers) + 2048 + 1_025_000) / 1e6 == pytest.approx(79.0, abs=1)
    rates = [b.drop_path.probability for stage in list(layers)[1:] for b in stage if isinstance(b, LargeKernelBlock)]
    assert rates == pytest.approx([0.3 * i / 23 for i in range(24)])


@pytest.mark.parametrize("stride", [1, 2])
@torch.no_grad()
def test_deformable_convolution_is_torchvisions(stride: int) -> None:
    layer, x = ModulatedDeformConv(4, stride).double(), torch.randn(2, 4, 7, 10, dtype=torch.float64)
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.conv.weight, stride=stride, padding=1) / 2)  # at the start
    nn.init.normal_(layer.offset.weight, std=0.3)
    moves = layer.offset(x)
    expected = deform_conv2d(x, moves[:, :18], layer.conv.weight, None, stride, 1, mask=moves[:, 18:].sigmoid())
    torch.testing.assert_close(layer(x), expected)


@torch.no_grad()
def test_res2net_adds_each_group_to_the_next() -> None:
    x = torch.randn(1, 8, 5, 6, dtype=torch.float64)
    a, b, c, d = x.chunk(4, 1)
    later, first = settled(Res2Conv(2)), settled(Res2Conv(2, stride=2, first=True))

    def conv(layer: Res2Conv, i: int, y: Tensor) -> Tensor:
        return layer.convs[i](y)

    y1 = conv(later, 0, a)
    y2 = conv(later, 1, b + y1)
    torch.testing.assert_close(later(x), torch.cat((y1, y2, conv(later, 2, c + y2), d), 1))
    expected = torch.cat([*(conv(first, i, y) for i, y in enumerate((a, b, c))), F.avg_pool2d(d, 3, 2, 1)], 1)
    torch.testing.assert_close(first(x), expected)


@torch.no_grad()
def test_the_shortcut_of_resnet_vd_is_a_mean_and_a_convolution() -> None:
    stage, x = ResNetVdStage(16, 4, 2, 1).double().eval(), torch.randn(1, 16, 6, 8, dtype=torch.float64)
    block = stage[0]
    torch.testing.assert_close(stage(x), F.relu(F.conv2d(F.avg_pool2d(x, 2), block.downsample[1].weight) / (1 + 1e-5) ** 0.5))
    assert block.conv1.stride == (1, 1)
    assert block.conv2[0].stride == (2, 2)


@torch.no_grad()
def test_last_norms_start_as_the_authors() -> None:
    vd, res2 = ResNetVdStage(16, 4, 4, 2, deform=True), Res2NetStage(16, 4, 2, 2)
    assert [float(b.bn3.weight.max()) for b in vd if isinstance(b, ResidualBottleneck)] == [0, 0]
    assert [float(b.bn3.weight.min()) for b in res2 if isinstance(b, ResidualBottleneck)] == [1, 1]
    assert not any(p.any() for n, p in vd.named_parameters() if ".offset." in n)
    assert float(res2[1].conv3.weight.std()) == pytest.approx((2 / 32) ** 0.5, rel=0.2)


@torch.no_grad()
def test_large_kernels_merge() -> None:
    stage, x = RepLKNetStage(4, 3, (4, 4, 4, 8), (3, 3, 7, 3), (1, 1, 2, 1)).eval(), torch.randn(1, 4, 9, 9)
    for part in stage.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            assert (part.eps, part.momentum) == (1e-5, 0.1)
    before = stage(x)
    fold_norms(nn.ModuleList([stage]))
    torch.testing.assert_close(stage(x), before, rtol=1e-4, atol=1e-4)
    assert stage[0].large.merged.kernel_size == (7, 7)
    assert stage(x).shape == (1, 8, 5, 5)


@torch.no_grad()
def test_stages_of_pp_yoloe() -> None:
    stage, x = settled(CSPResNet(8, 16, 2)), maps(8, 5, 6)
    y = convolved(x, stage.down, 3, s=2)
    a, b = convolved(y, stage.conv1), convolved(y, stage.conv2)
    for block in stage.blocks:
        b = b + silu(block.conv2(convolved(b, block.conv1, 3)))
    y = torch.cat((a, b), 1)
    gate = ((linear(y.mean((2, 3), keepdim=True), stage.attn.fc) + 3) / 6).clamp(0, 1)
    expected = convolved(y * gate, stage.conv3)
    torch.testing.assert_close(stage(x), expected)
    neck = settled(CSPResNet(8, 12, 1, 1, "neck"))
    b = silu(neck.blocks[0].conv2(convolved(convolved(x, neck.conv2), neck.blocks[0].conv1, 3)))
    torch.testing.assert_close(neck(x), convolved(torch.cat((convolved(x, neck.conv1), b), 1), neck.conv3))
    assert stage.down.conv.out_channels == 12


def test_rows_of_pp_yoloe_give_both_widths() -> None:
    rows: list[tuple[str, list[Any]]] = [("CSPResNet_CBS", [3, 32, True]), ("CSPResNet", [32, 64, 1, 2, "backbone"])]
    layers = chain(rows)
    x = torch.empty(1, 3, 64, 96, device="meta")
    assert [tuple((x := layer(x)).shape[1:]) for layer in layers] == [(32, 32, 48), (64, 16, 24)]
    assert len(layers[0]) == 3
    assert len(CSPResNet_CBS(3, 8, False)) == 2
    plan = lookup("CSPResNet").rule(Row(0, (-1,), 1, "CSPResNet", (512, 1024, 3, 2, "backbone"), "0"), [256], Scale(1, 0.5))
    assert plan.args == (256, 512, 3, 2, "backbone")


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("ResNet50vd", [256, 2], "gives 512 channels here, not 256"),
        ("ResNet50vd", [256, 5], "a row is a stage: .width, stage., 0 for the stem"),
        ("RepLKNet_Stem", [128, 4, LK[0]], "channels of its input"),
        ("RepLKNet_stage1", [256, [128, 256]], "kernels and depths of the four stages"),
        ("RepLKNet_stage1", [128, *LK], "gives 256 channels here, not 128"),
    ],
)
def test_a_row_that_cannot_be_meant_is_refused(name: str, args: list[Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        lookup(name).rule(Row(0, (-1,), 1, name, tuple(args), "0"), [3], Scale())


def test_what_does_not_fit_is_refused_when_built() -> None:
    with pytest.raises(ValueError, match="stage 2 reads 256 channels, not 8"):
        RepLKNetStage(8, 2)
    with pytest.raises(ValueError, match="place must be"):
        CSPResNet(8, 8, 1, 2, "neck")
    with pytest.raises(UserError, match="its number must be 1, not 3"):
        lookup("CSPResNet").rule(Row(0, (-1,), 3, "CSPResNet", (8, 8, 1), "0"), [8], Scale())
