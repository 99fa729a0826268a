"""Rows of layers and necks with the argument lists that YOLOAir's YAML files have, at the width where they stand and at others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from models.attention.convnext import ConvNextBlock
from models.attention.involution import Involution
from models.build import build_layers
from models.layers.conv import Conv
from models.layers.hardswish import CBH, DepthSepConv
from models.layers.merged import BepC3, MobileOne, RepBlock, SimConv
from models.layers.pool import SimSPPF
from models.layers.ppyolo import ConvBNLayer, CoordConv, PPConvBlock, ResSPP
from models.necks.carafe import CARAFE
from models.necks.fusion import Concat_bifpn
from models.spec.model_spec import ModelSpec
from models.yoloair import differences
from utils.errors import UserError


def row(name: str, args: list[Any], ch: int, width: float = 1.0, repeats: int = 1, maps: int = 1) -> tuple[Any, Any]:
    """The layer of a row whose inputs have `ch` channels, and the width of its output."""
    sources = -1 if maps == 1 else [-1] * maps
    backbone = [[-1, 1, "nn.Identity", []], [sources, repeats, name, args]]
    content = {"nc": 1, "ch": ch, "width_multiple": width, "backbone": backbone, "head": [[[0], 1, "Detect", ["nc", "anchors"]]]}
    with torch.device("meta"):
        layers, widths = build_layers(ModelSpec.from_dict(content, "rows"))
    return layers[1], widths[1]


ROWS: list[tuple[str, list[Any], int, int]] = [  # name, arguments, width of the input, width of the output, all at width multiple 1
    ("space_to_depth", [1], 64, 256),
    ("ReOrg", [], 3, 12),
    ("DWT", [], 3, 12),
    ("GSConv", [512, 1, 1], 1024, 512),
    ("GSConv", [256, 3, 2], 256, 256),
    ("VoVGSCSP", [512, False], 1024, 512),
    ("SPPCSPC", [512], 1024, 512),
    ("SPPFCSPC", [1024], 1024, 1024),
    ("SPPCSPC_group", [512], 1024, 512),
    ("SPPCSP", [320], 640, 320),
    ("SimSPPF", [1024], 1024, 1024),
    ("ASPP", [512], 1024, 512),
    ("BasicRFB", [1024], 1024, 1024),
    ("C3C2", [128], 512, 128),
    ("C3RFEM", [1024, False], 1024, 1024),
    ("CNeB", [1024], 1024, 1024),
    ("ConvNextBlock", [128], 128, 128),
    ("RepVGGBlock", [176, 3, 1], 176, 176),
    ("RepVGGBlockv6", [64, 3, 2], 3, 64),
    ("RepConv", [256, 3, 1], 128, 256),
    ("RepBlock", [128], 128, 128),
    ("MobileOne", [256, 4, 1, False], 256, 256),
    ("MobileOneBlock", [1024, 4, 1, False], 1024, 1024),
    ("MP", [], 256, 256),
    ("SP", [13], 256, 256),
    ("Stem", [128], 3, 128),
    ("DownC", [256], 128, 256),
    ("CARAFE", [512, 3, 2], 512, 512),
    ("Involution", [128, 3, 2], 1024, 128),
    ("ResCSPB", [256], 512, 256),
    ("ResCSPC", [128], 128, 128),
    ("ResXCSPB", [128], 256, 128),
    ("ResXCSPC", [1024], 1024, 1024),
    ("BottleneckCSP2", [384], 768, 384),
    ("BottleneckCSPF", [128], 128, 128),
    ("BottleneckCSPB", [256], 512, 256),
    ("BottleneckCSPC", [1024], 1024, 1024),
    ("RTRM", [1024], 1024, 1024),
    ("XCRS", [64], 64, 64),
    ("ETVR", [128], 512, 128),
    ("WaveLAN", [64], 128, 64),
    ("CBH", [48, 3, 2], 3, 48),
    ("conv_bn_hswish", [16, 2], 3, 16),
    ("Conv_maxpool", [24], 3, 24),
    ("DWConvblock", [192, 5, 2], 192, 192),
    ("DepthSepConv", [512, 5, 2, True], 256, 512),
    ("LC_Block", [256, 1, 5, False], 256, 256),
    ("Dense", [512, 1, 0.2], 256, 512),
    ("PPConvBlock", [512, False, True], 512, 512),
    ("Conv", [32, 3, 2, None, 1, "nn.LeakyReLU(0.1)"], 3, 32),
    ("nn.ConvTranspose2d", [512, 4, 2, 1, 0, 512], 512, 512),
    ("nn.ConvTranspose2d", [512, 4, 2, 1], 512, 512),
    ("nn.MaxPool2d", [2, 1, 0], 512, 512),
    ("nn.ZeroPad2d", [[0, 1, 0, 1]], 512, 512),
]
FREE = {"space_to_depth", "ReOrg", "DWT", "MP", "SP", "nn.MaxPool2d", "nn.ZeroPad2d"}
"""Their rows give no width."""


@pytest.mark.parametrize(("name", "args", "ch", "out"), ROWS, ids=lambda value: value if isinstance(value, str) else None)
def test_a_row_builds_at_every_size_of_the_model(name: str, args: list[Any], ch: int, out: int) -> None:
    for width in (0.25, 0.5, 1.0):
        given = ch if ch == 3 else int(ch * width)
        expected = out if name in FREE and ch == 3 else -int(-out * width // 8) * 8
        assert row(name, args, given, width)[1] == expected


PAIRS: list[tuple[str, list[Any], type[nn.Module], int, int]] = [  # name, arguments, class, repeats, width of the output at that size
    ("RepBlock", [384, 128], RepBlock, 12, 128),
    ("BepC3", [192, 64], BepC3, 12, 64),
    ("SimConv", [512, 128, 1, 1], SimConv, 1, 128),
    ("SimSPPF", [512, 512, 5], SimSPPF, 1, 512),
    ("ConvBNLayer", [192, 192, 3, 2, 1, 1], ConvBNLayer, 1, 192),
    ("CoordConv", [512, 1024, 3, 1], CoordConv, 1, 1024),
    ("ResSPP", [1024, 384, 3], ResSPP, 1, 384),
    ("ResSPP", [1024, 512], ResSPP, 1, 512),
]


@pytest.mark.parametrize(("name", "args", "build", "repeats", "out"), PAIRS, ids=lambda value: value if isinstance(value, str) else None)
def test_a_row_of_two_actual_widths_keeps_their_ratio(name: str, args: list[Any], build: type[nn.Module], repeats: int, out: int) -> None:
    for width in (0.25, 0.5, 1.0):  # of the model; the row's widths are not scaled by it
        layer, found = row(name, args, args[0], width, repeats)
        assert (type(layer), found) == (build, out)
    assert row(name, args, args[0] // 2, 0.25, repeats)[1] == out // 2
    assert row(name, [args[1], *args[2:]], 64, 1.0, repeats)[1] == args[1]  # one width is nominal, as everywhere


def test_what_the_numbers_of_a_row_mean() -> None:
    assert [len(row(name, [128], 128, repeats=3)[0]) for name in ("RepBlock", "MobileOne")] == [3, 3]
    stage = row("MobileOne", [128, 4, 2, False], 64, repeats=6)[0]
    assert isinstance(stage, MobileOne)
    assert [len(block.pointwise.branches) for block in stage] == [4] * 6
    block = row("LC_Block", [64, 2, 5, True], 32)[0]
    assert isinstance(block, DepthSepConv)
    assert (block.depthwise.conv.stride, block.depthwise.conv.kernel_size) == ((2, 2), (5, 5))
    assert not isinstance(block.se, nn.Identity)
    assert row("LC_Block", [64], 32)[0].depthwise.conv.kernel_size == (3, 3)
    assert row("LC_Block", [64, 2], 32)[0].depthwise.conv.stride == (2, 2)
    conv = row("conv_bn_hswish", [16, 2], 3)[0]
    assert isinstance(conv, CBH)
    assert (conv.conv.kernel_size, conv.conv.stride) == ((3, 3), (2, 2))
    conv = row("Conv", [32, 3, 2, None, 1, "nn.LeakyReLU(0.1)"], 3)[0]
    assert isinstance(conv, Conv)
    assert isinstance(conv.act, nn.LeakyReLU)
    assert conv.conv.dilation == (1, 1)
    assert row("Conv", [32, 3, 1, None, 1, 2, "nn.ReLU"], 3)[0].conv.dilation == (2, 2)
    assert isinstance(row("Conv", [32, 3, 1, None, 1, False], 3)[0].act, nn.Identity)
    upsampling = row("CARAFE", [512, 3, 2], 256, 0.5)[0]
    assert isinstance(upsampling, CARAFE)
    assert (upsampling.scale, upsampling.encode.kernel_size, upsampling.k_up) == (2, (3, 3), 5)
    mixed = row("Involution", [128, 3, 2], 512, 0.5)[0]
    assert isinstance(mixed, Involution)
    assert (mixed.k, mixed.s, mixed.groups) == (3, 2, 4)
    assert [type(m) for m in row("ConvNextBlock", [128], 64, 0.5, repeats=3)[0]] == [ConvNextBlock] * 3
    assert row("nn.ConvTranspose2d", [512, 4, 2, 1, 0, 512], 256, 0.5)[0].groups == 256
    assert row("nn.ConvTranspose2d", [512, 4, 2, 1, 0, 4], 256, 0.5)[0].groups == 4
    assert isinstance(row("PPConvBlock", [512, True, True], 512, 0.5)[0], PPConvBlock)  # behind a backbone that no multiple scales


def test_sums_take_maps_of_one_width() -> None:
    node, out = row("Concat_bifpn", [256, 256], 256, 0.5, maps=3)
    assert isinstance(node, Concat_bifpn)
    assert (out, len(node.w)) == (256, 3)
    assert row("Concat_bifpn", [256, 256], 512, 1.0, maps=2)[1] == 512
    assert row("Concat_bifpn", [], 40, maps=2)[1] == 40
    assert row("ADD", [1], 256, maps=2)[1] == 256
    with pytest.raises(UserError, match=r"row 1 \(ADD\): adds up two maps or more of one width, not \[64\] channels; Conv 1x1 changes"):
        row("ADD", [1], 64)


@pytest.mark.parametrize(
    ("name", "args", "ch", "says"),
    [
        ("CARAFE", [256, 3, 2], 512, "its first argument repeats the width of its input: 256 is 256 here, not 512"),
        ("MobileOne", [128, 4, 1, True], 128, "deploy must be false; a model trains with the branches, and fusing merges them"),
        ("space_to_depth", [2], 64, "dimension must be 1, the channels, not 2"),
        ("RepVGGBlock", [64, 4], 64, "k must be odd, not 4; 3 or 5 would fit"),
        ("RepBlock", ["a", 128], 64, "its first argument is the output width, a positive integer, not 'a'"),
        ("GSConv", [64, "x"], 64, "k .* an integer, not 'x'"),
    ],
)
def test_a_row_that_a_module_cannot_mean_is_refused(name: str, args: list[Any], ch: int, says: str) -> None:
    with pytest.raises(UserError, match=f"row 1 \\({name}\\): .*{says}"):
        row(name, args, ch)


def test_the_report_says_what_a_stand_in_is() -> None:
    backbone = [[-1, 1, "RTRM", [64]], [-1, 1, "SimConv", [64, 128, 1, 1]], [-1, 1, "C3", [64]]]
    content = {"nc": 1, "backbone": backbone, "head": [[[2], 1, "Detect", ["nc", "anchors"]]]}
    stand_in, pair = differences(ModelSpec.from_dict(content, "x").rows)
    assert stand_in == (
        "RTRM (row 0) is not YOLOAir's copy: neither YOLOAir nor a paper defines it; what is built is a stand-in: "
        "YOLOv7's ELAN, which it replaces"
    )
    assert pair.startswith("SimConv (row 1) is not YOLOAir's copy: [in, out, ...] at one size of the model, at others with the same ratio")
