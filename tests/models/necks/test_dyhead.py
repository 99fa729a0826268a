"""The dynamic head against its formulas, with torchvision's deformable convolution."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import deform_conv2d

from models import build_model
from models.necks.dyhead import DyHead, DyHeadBlock, DynamicReLU


def randomized(block: Any) -> Any:
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    return block.double()


def hard(x: Tensor) -> Tensor:
    return (x / 6 + 0.5).clamp(0, 1)


@torch.no_grad()
def test_dynamic_relu_is_the_maximum_of_two_lines() -> None:
    torch.manual_seed(0)
    block, x = randomized(DynamicReLU(8)), torch.randn(2, 8, 3, 4, dtype=torch.float64)
    first, _, second = block.fc
    inner = (x.mean((2, 3)) @ first.weight[:, :, 0, 0].T + first.bias).relu()
    r = 2 * hard(inner @ second.weight[:, :, 0, 0].T + second.bias) - 1
    a1, b1, a2, b2 = (part[..., None, None] for part in r.split(8, 1))
    torch.testing.assert_close(block(x), torch.maximum((1 + a1) * x + 0.5 * b1, a2 * x + 0.5 * b2))


@torch.no_grad()
def test_a_block_sees_a_level_and_its_neighbours() -> None:
    torch.manual_seed(0)
    block = randomized(DyHeadBlock(8))
    maps = [torch.randn(2, 8, side, side + 4, dtype=torch.float64) for side in (12, 6, 3)]
    maps[1], maps[2] = maps[1][..., :8], maps[2][..., :4]
    found = block(maps)
    for i, here in enumerate(maps):
        raw = F.conv2d(here, block.offset.weight, block.offset.bias, padding=1)
        offsets, mask = raw[:, :18], 1 / (1 + (-raw[:, 18:]).exp())
        total, count = torch.zeros_like(here), 0
        for j, part in ((i - 1, block.finer), (i, block.own), (i + 1, block.coarser)):
            if 0 <= j < 3:
                x = F.interpolate(maps[j], here.shape[2:], mode="bilinear") if j > i else maps[j]
                stride = 2 if j < i else 1
                y = deform_conv2d(x, offsets, part.conv.weight, part.conv.bias, (stride, stride), (1, 1), mask=mask)
                y = F.group_norm(y, 8, part.norm.weight, part.norm.bias)
                share = hard((y.mean((2, 3)) @ block.level.weight[0, :, 0, 0] + block.level.bias).relu())
                total, count = total + y * share[:, None, None, None], count + 1
        torch.testing.assert_close(found[i], block.task(total / count))


def test_it_stands_in_front_of_any_head() -> None:
    edits: list[dict[str, Any]] = [{"after": 23, "insert": [[17, 20, 23], 1, "DyHead", [64]]}]
    for head in ("Detect", "DetectDFL"):
        args = ["nc", "anchors"] if head == "Detect" else ["nc"]
        model = build_model({"base": "yolov5n.yaml", "edits": [*edits, {"replace": 24, "with": [23, 1, head, args]}]}, nc=2).eval()
        assert model.stride.tolist() == [8, 16, 32]
        assert model(torch.zeros(1, 3, 64, 64)).isfinite().all()


def test_a_single_level_is_refused() -> None:
    with pytest.raises(ValueError, match="two levels or more"):
        DyHead([16], 8)
