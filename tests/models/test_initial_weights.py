"""Initial weights and stochastic depth, by the figures of the papers and the authors' code: comparisons from scratch depend on them."""

from __future__ import annotations

import math
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from models.attention.bot import MHSA, BottleneckTransformer, C3BoT
from models.attention.cat import C3CAT, CAB, CPSA, IPSA
from models.attention.convnext import CNeB, ConvNextBlock
from models.attention.cot import C3CoT, CoT, CoTBottleneck, CoXt
from models.attention.gnconv import C3Hor, GlobalLocalFilter, GnConv, HorBlock
from models.attention.swin import C3SwinV2, SwinBlock, SwinV2Block
from models.attention.tokens import DropPath
from models.backbones.botnet import BoTNet, botnet50
from models.backbones.catnet import CAT, cat_tiny
from models.backbones.convnext import ConvNeXtStage
from models.backbones.cotnet import CoTNet, cotnet50
from models.backbones.cotnetd import SECoTNetD, se_cotnetd_50
from models.backbones.hornet import HorNet, HorNetStage, hornet_tiny_gf
from models.layers.dilated import ASPP
from models.layers.elan import WaveBlock
from models.layers.norm import ChannelNorm
from models.necks.fusion import Concat_bifpn
from models.necks.horfpn import HorFPN


class Same(NamedTuple):
    """All numbers of a tensor are this one."""

    value: float


def fans(weight: Tensor) -> tuple[int, int]:
    """Numbers of products an output is the sum of, and of outputs an input goes to."""
    return weight[0].numel(), len(weight) * weight[0, 0].numel()


# Standard deviations. PyTorch's own is uniform, Xavier's here is too, the others are normal.
SCHEMES: dict[str, Callable[[Tensor], float]] = {
    "kaiming fan out": lambda weight: math.sqrt(2 / fans(weight)[1]),
    "kaiming fan in": lambda weight: math.sqrt(2 / fans(weight)[0]),
    "xavier": lambda weight: math.sqrt(2 / sum(fans(weight))),
    "pytorch": lambda weight: 1 / math.sqrt(3 * fans(weight)[0]),
}
Figures = dict[str, str | float | Same]
"""Pattern of names -> a scheme, a standard deviation, or one value. The first pattern that fits counts; a norm starts as 1 and 0."""

ALONE: Figures = {"*": "pytorch"}
RESIDUAL: Figures = {"*bn3.weight": Same(0), "*.weight": "kaiming fan out", "*.bias": "pytorch"}
TRUNCATED: Figures = {"*gamma*": Same(1e-6), "*complex_weight": 0.02, "*weight": 0.02, "*table": 0.02, "*bias": Same(0)}
SWIN2: Figures = {"*norm?.weight": Same(0), "*logit_scale": Same(math.log(10)), **TRUNCATED}
INSIDE_C3: Figures = {"cv?.*": "pytorch"}
CASES: dict[str, tuple[Callable[[], nn.Module], Figures]] = {
    "CoT": (lambda: CoT(256), RESIDUAL),
    "CoXt": (lambda: CoXt(256), RESIDUAL),
    "CoTBottleneck": (lambda: CoTBottleneck(128, 256, 2), RESIDUAL),
    "C3CoT": (lambda: C3CoT(128, 128), INSIDE_C3 | {"m.?.cv1.*": "pytorch"} | RESIDUAL),
    "CoTNet": (lambda: CoTNet(3, 32, (1, 1, 1, 1)), RESIDUAL),
    "SECoTNetD": (lambda: SECoTNetD(3, 32, (1, 1, 2, 1), blur=True), RESIDUAL),
    "GnConv": (lambda: GnConv(256), ALONE),
    "GlobalLocalFilter": (lambda: GlobalLocalFilter(64), {"complex_weight": 0.02, **ALONE}),
    "HorBlock": (lambda: HorBlock(128, 4, gf=True), TRUNCATED),
    "C3Hor": (lambda: C3Hor(128, 128), INSIDE_C3 | TRUNCATED),
    "HorNet": (lambda: HorNet(3, 32, depths=(1, 1, 1, 1), gf=True), TRUNCATED),
    "HorNetStage": (lambda: HorNetStage(32, 32, 1, 1), TRUNCATED),
    "HorFPN": (lambda: HorFPN((128, 256), 64), {"*.weight": "xavier", "*.bias": Same(0)}),
    "MHSA": (lambda: MHSA(256, 4, 64), {"to_qkv.weight": 0.01, "pos_emb.*": 64**-0.5}),
    "MHSA absolute": (lambda: MHSA(256, 4, 64, position="absolute"), {"to_qkv.weight": 0.01, "pos_emb.*": 64**-0.5}),
    "C3BoT": (lambda: C3BoT(256, 256), INSIDE_C3 | {"m.?.cv1.*": "pytorch", "*.to_qkv.weight": 0.01, "*.pos_emb.*": 32**-0.5}),
    "BottleneckTransformer": (
        lambda: BottleneckTransformer(256, 512, downsample=True),
        {"*.to_qkv.weight": 0.01, "*.pos_emb.*": 128**-0.5, "net.8.weight": Same(0), "*.weight": "kaiming fan in"},
    ),
    "BoTNet": (
        lambda: BoTNet(3, 32, (1, 1, 1, 1)),
        {"*.to_qkv.weight": 0.01, "*.pos_emb.*": 64**-0.5, "*.bn3.weight": Same(0), "*.weight": "kaiming fan in"},
    ),
    "IPSA": (lambda: IPSA(64), TRUNCATED),
    "CPSA": (lambda: CPSA(64), TRUNCATED),
    "C3CAT": (lambda: C3CAT(128, 128), INSIDE_C3 | TRUNCATED),
    "CAT": (lambda: CAT(3, 32, depths=(1, 1, 1, 1)), {"ape": 0.02, "patch_embed.proj.*": "pytorch", **TRUNCATED}),
    "SwinBlock": (lambda: SwinBlock(64), TRUNCATED),
    "SwinV2Block": (lambda: SwinV2Block(64), SWIN2),
    "C3SwinV2": (lambda: C3SwinV2(128, 128), INSIDE_C3 | SWIN2),
    "ConvNextBlock": (lambda: ConvNextBlock(64), TRUNCATED),
    "CNeB": (lambda: CNeB(128, 128), INSIDE_C3 | TRUNCATED),
    "ConvNeXtStage": (lambda: ConvNeXtStage(3, 32, 0), TRUNCATED),
    "Concat_bifpn": (lambda: Concat_bifpn(3, 256, 128), {"w": Same(1), "*": "xavier"}),
    "ASPP": (lambda: ASPP(64, 64), ALONE),  # the paper leaves it to the framework
    "WaveBlock": (lambda: WaveBlock(64), ALONE),  # as do the authors of Wave-MLP
}


@pytest.mark.parametrize("name", CASES)
def test_every_weight_starts_as_the_authors(name: str) -> None:
    make, figures = CASES[name]
    torch.manual_seed(0)
    module = make()
    norms = {n for n, m in module.named_modules() if isinstance(m, nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm | ChannelNorm)}
    for key, tensor in module.named_parameters():
        owner, _, kind = key.rpartition(".")
        figure = next((f for pattern, f in figures.items() if fnmatchcase(key, pattern)), None)
        if owner in norms and figure != Same(0):
            figure = Same(float(kind == "weight"))
        assert figure is not None, f"no figure for {key}"
        if isinstance(figure, Same):
            torch.testing.assert_close(tensor.detach(), torch.full_like(tensor, figure.value), msg=key)
        else:
            std = SCHEMES[figure](module.get_parameter(f"{owner}.weight".lstrip("."))) if isinstance(figure, str) else figure
            as_expected(key, tensor.detach(), std, uniform=figure in {"pytorch", "xavier"})


def as_expected(key: str, tensor: Tensor, std: float, uniform: bool) -> None:
    """Standard deviation within five standard errors, mean too; the largest number tells uniform and normal apart."""
    count, largest = tensor.numel(), float(tensor.abs().max())
    assert float(tensor.std()) == pytest.approx(std, rel=5 / math.sqrt(2 * count)), key
    assert abs(float(tensor.mean())) < 5 * std / math.sqrt(count), key
    if uniform:
        assert largest <= std * math.sqrt(3) * 1.0001, key
    elif count > 1000:
        assert largest > 2.5 * std, key


def test_some_deviations_in_figures() -> None:
    """At a width of 256: the schemes above must not share a mistake with the code."""
    torch.manual_seed(0)
    modules = nn.ModuleDict(
        {"cot": CoT(256), "mhsa": MHSA(256, 4, 64), "gnconv": GnConv(256), "horblock": HorBlock(256), "fpn": HorFPN((256,), 256)}
    )
    deviations = {
        "cot.embed.0": 0.125,
        "cot.key_embed.0": 0.0295,
        "mhsa.to_qkv": 0.01,
        "gnconv.dwconv": 0.0825,
        "horblock.gnconv.dwconv": 0.02,
        "fpn.lateral_convs.0.conv": 0.0625,
    }
    for name, std in deviations.items():
        assert float(modules.get_parameter(f"{name}.weight").detach().std()) == pytest.approx(std, rel=0.02), name


def rates(module: nn.Module) -> list[float]:
    """Of each residual block, in order."""
    return [round(m.probability, 4) for m in module.modules() if isinstance(m, DropPath)]


def test_stochastic_depth_rises_by_block() -> None:
    """CAT-T has six blocks of three parts each, at 0, 0.02 ... 0.1."""
    with torch.device("meta"):
        assert rates(cat_tiny(drop_path=0.1)) == [r for r in (0, 0.02) for _ in range(3)] + [0.04, 0.06, 0.08] * 3 + [0.1] * 3
        assert rates(hornet_tiny_gf(drop_path=0.24)) == [round(0.01 * i, 4) for i in range(25)]
        for residual in (cotnet50, se_cotnetd_50, botnet50):
            assert rates(residual(drop_path=0.15)) == [round(0.01 * i, 4) for i in range(16)]
            assert set(rates(residual())) == {0}
        assert rates(C3Hor(64, 64, 2, drop_path=0.2)) == [0.2, 0.2]
    with pytest.raises(ValueError, match="2 rates of drop_path for a depth of 1"):
        CAB(32, drop_path=(0.1, 0.2))


def test_stochastic_depth_drops_the_branch_and_not_the_shortcut() -> None:
    torch.manual_seed(0)
    block = CoTBottleneck(32, 32).train()
    nn.init.ones_(block.bn3.weight)
    block.drop_path = DropPath(0.5)
    x = torch.rand(64, 32, 4, 4)
    kept = [not torch.equal(a, b) for a, b in zip(block(x), x, strict=True)]  # x is positive: without the branch ReLU changes nothing
    assert 20 < sum(kept) < 44
