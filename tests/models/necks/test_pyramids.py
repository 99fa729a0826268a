"""DySample, BiFPN and AFPN against their definitions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import build_model
from models.necks.afpn import AFPN, LevelFusion
from models.necks.bifpn import BiFPN
from models.necks.dysample import DySample
from tests.models.written_out import settled


@torch.no_grad()
def test_dysample_samples_near_each_output_pixel() -> None:
    torch.manual_seed(0)
    block, x = DySample(4, 2, 2).double(), torch.randn(2, 4, 3, 5, dtype=torch.float64)
    nn.init.normal_(block.offset.weight)
    moves = F.conv2d(x, block.offset.weight, block.offset.bias) * 0.25  # (x or y, group, phase)
    y = block(x)
    assert y.shape == (2, 4, 6, 10)

    def at(image: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Bilinear, at a place between centres of pixels, the border repeated."""
        row, column = row.clamp(0, 2), column.clamp(0, 4)
        i, j = int(row.floor()), int(column.floor())
        a, b = row - i, column - j
        k, m = min(i + 1, 2), min(j + 1, 4)
        return image[:, i, j] * (1 - a) * (1 - b) + image[:, k, j] * a * (1 - b) + image[:, i, m] * (1 - a) * b + image[:, k, m] * a * b

    for n, group, i, j in ((0, 0, 0, 0), (1, 1, 5, 9), (0, 1, 3, 4), (1, 0, 2, 7)):
        phase = i % 2 * 2 + j % 2
        dx, dy = (moves[n, 8 * axis + 4 * group + phase, i // 2, j // 2] for axis in (0, 1))
        row, column = i // 2 + (i % 2 - 0.5) / 2 + dy, j // 2 + (j % 2 - 0.5) / 2 + dx
        own = slice(2 * group, 2 * group + 2)
        torch.testing.assert_close(y[n, own, i, j], at(x[n, own], row, column), rtol=1e-5, atol=1e-6)


def test_dysample_starts_as_bilinear_upsampling() -> None:
    block, x = DySample(4), torch.randn(1, 4, 5, 6)
    nn.init.zeros_(block.offset.weight)
    torch.testing.assert_close(block(x), F.interpolate(x, scale_factor=2.0, mode="bilinear"), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_bifpn_goes_down_and_up() -> None:
    torch.manual_seed(0)
    block = BiFPN([4, 6, 8], 5, 1).double().eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    maps = [torch.randn(1, c, s, s, dtype=torch.float64) for c, s in ((4, 8), (6, 4), (8, 2))]
    p3, p4, p5 = (lateral(x) for lateral, x in zip(block.laterals, maps, strict=True))

    def double(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    def node(part: nn.Module, *inputs: Tensor) -> Tensor:
        w = part.get_parameter("w").relu()
        return part.get_submodule("conv")(sum(a * x for a, x in zip(w, inputs, strict=True)) / (w.sum() + 1e-4))

    (layer,) = block.layers
    m4 = node(layer.down[1], p4, double(p5))
    o3 = node(layer.down[0], p3, double(m4))
    o4 = node(layer.up[0], p4, m4, F.max_pool2d(o3, 3, 2, 1))
    o5 = node(layer.up[1], p5, F.max_pool2d(o4, 3, 2, 1))
    for found, expected in zip(block(maps), (o3, o4, o5), strict=True):
        torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_afpn_fuses_by_weights_of_each_pixel() -> None:
    torch.manual_seed(0)
    block = LevelFusion([4, 6, 8], 1).double().eval()
    x = [torch.randn(1, c, s, s, dtype=torch.float64) for c, s in ((4, 8), (6, 4), (8, 2))]
    finer, _, coarser = block.resize
    same = [finer(x[0]), x[1], F.interpolate(coarser(x[2]), scale_factor=2.0, mode="bilinear")]
    logits = block.weight_levels(torch.cat([conv(y) for conv, y in zip(block.weights, same, strict=True)], 1))
    e = logits.exp() / logits.exp().sum(1, keepdim=True)
    torch.testing.assert_close(block(x), block.expand(sum(e[:, i : i + 1] * y for i, y in enumerate(same))))


@torch.no_grad()
def test_afpn_lets_the_coarsest_level_in_last() -> None:
    block = settled(AFPN([8, 16, 32], 12, 2, 1))
    x = [torch.randn(1, c, s, s, dtype=torch.float64) for c, s in ((8, 8), (16, 4), (32, 2))]
    maps = [lateral(y) for lateral, y in zip(block.laterals, x, strict=True)]
    first, second = block.stages
    pair = [blocks(fuse(maps[:2])) for fuse, blocks in zip(first.fuse_levels, first.blocks, strict=True)]
    every = [blocks(fuse([*pair, maps[2]])) for fuse, blocks in zip(second.fuse_levels, second.blocks, strict=True)]
    for found, output, expected in zip(block(x), block.outputs, every, strict=True):
        torch.testing.assert_close(found, output(expected))
    assert [len(stage.blocks) for stage in block.stages] == [2, 3]


@pytest.mark.parametrize("name", ["yolov5n-weighted-bifpn", "yolov5n-afpn"])
def test_a_neck_in_one_row_gives_the_head_its_levels(name: str) -> None:
    assert build_model(name, nc=2).stride.tolist() == [8, 16, 32]


@pytest.mark.parametrize("kind", [AFPN, BiFPN])
def test_a_single_level_is_refused(kind: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match="needs two levels or more, not one"):
        kind([8], 8)
