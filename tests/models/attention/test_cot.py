"""CoT against the paper's sums, written out as loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention.cot import CoT, CoTBottleneck, CoXt, local_aggregation
from models.folding import fold_norms
from tests.models.written_out import settled


def aggregated_by_loops(values: Tensor, weights: Tensor, size: int) -> Tensor:
    """Take the definition literally: channel s * G + g uses map g; zeros outside the map."""
    batch, share, maps, height, width = values.shape
    out = torch.zeros_like(values)
    for n in range(batch):
        for s in range(share):
            for g in range(maps):
                for y in range(height):
                    for x in range(width):
                        for a in range(size):
                            for b in range(size):
                                yy, xx = y - size // 2 + a, x - size // 2 + b
                                if 0 <= yy < height and 0 <= xx < width:
                                    out[n, s, g, y, x] += weights[n, g, a * size + b, y, x] * values[n, s, g, yy, xx]
    return out


@pytest.mark.parametrize("size", [1, 3, 5])
def test_aggregation_equals_loops_with_and_without_gradient(size: int) -> None:
    values = torch.randn(2, 2, 3, 4, 5, dtype=torch.double, requires_grad=True)
    weights = torch.randn(2, 3, size * size, 4, 5, dtype=torch.double, requires_grad=True)
    expected = aggregated_by_loops(values.detach(), weights.detach(), size)
    torch.testing.assert_close(local_aggregation(values, weights, size), expected)
    with torch.no_grad():
        torch.testing.assert_close(local_aggregation(values, weights, size), expected)


def test_aggregation_gradients_are_right() -> None:
    values = torch.randn(1, 2, 2, 3, 4, dtype=torch.double, requires_grad=True)
    weights = torch.randn(1, 2, 9, 3, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v, w: local_aggregation(v, w, 3), (values, weights))


@torch.no_grad()
def test_block_equals_the_formula() -> None:
    block = settled(CoT(16))
    x = torch.randn(2, 16, 5, 6, dtype=torch.double)
    static = block.key_embed[1](F.conv2d(x, block.key_embed[0].weight, padding=1, groups=4)).relu()
    hidden = block.embed[1](F.conv2d(torch.cat((x, static), 1), block.embed[0].weight)).relu()
    maps = F.conv2d(hidden, block.embed[3].weight, block.embed[3].bias).view(2, 2, 9, 5, 6)
    mean, var = maps.mean((2, 3, 4), keepdim=True), maps.var((2, 3, 4), unbiased=False, keepdim=True)
    weights = (maps - mean) / (var + 1e-5).sqrt()
    values = block.conv1x1[1](F.conv2d(x, block.conv1x1[0].weight))
    # F.unfold lays channels before taps; channel c uses map c mod C / 8.
    patches = F.unfold(values, 3, padding=1).view(2, 8, 2, 9, 5, 6)
    dynamic = F.silu(block.bn((patches * weights[:, None]).sum(3).view(2, 16, 5, 6)))
    pooled = (static + dynamic).mean((2, 3), keepdim=True)
    logits = block.se[3](block.se[1](block.se[0](pooled)).relu())
    first, second = logits[:, 0::2], logits[:, 1::2]
    share = first.exp() / (first.exp() + second.exp())
    torch.testing.assert_close(block(x), share * dynamic + (1 - share) * static)


@torch.no_grad()
def test_grouped_block_sees_only_its_own_half_of_values() -> None:
    block = settled(CoXt(32))
    maps = torch.randn(1, 32, 4, 4, dtype=torch.double)
    joined = block.joined(maps, maps + 100)
    assert joined[0, 0::2].max() < 50 < joined[0, 1::2].min()
    assert torch.equal(joined[:, 0], maps[:, 0])
    assert block.share == 8
    assert block.embed[4].num_groups == 4


@pytest.mark.parametrize("channels", [4, 12, 20, 24, 40, 100])
@pytest.mark.parametrize("kind", [CoT, CoXt])
def test_every_width_a_scaled_yolo_has(kind: type[CoT], channels: int) -> None:
    block = kind(channels)
    x = torch.randn(1, channels, 3, 5)
    assert block(x).shape == x.shape


def test_one_image_trains() -> None:
    block = CoT(16).train()
    block(torch.randn(1, 16, 4, 4)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in block.parameters())


def test_refuses_what_it_cannot_serve() -> None:
    with pytest.raises(ValueError, match="kernel_size must be odd, not 2"):
        CoT(16, 2)
    with pytest.raises(ValueError, match="channels must be a multiple of 4, not 6"):
        CoXt(6)


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("cot", CoT(32)),
        ("coxt", CoXt(32)),
        ("cot_bottleneck", CoTBottleneck(64, 64, width=32)),
        ("cot_bottleneck_next", CoTBottleneck(32, 64, 2, grouped=True, width=32)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_names_and_shapes_are_the_authors(authors: Callable[[str], dict[str, Any]], name: str, block: nn.Module) -> None:
    assert {key: tuple(tensor.shape) for key, tensor in block.state_dict().items()} == authors(name)


def test_published_sizes() -> None:
    assert sum(p.numel() for p in CoT(256).parameters()) == pytest.approx(417_200, rel=1e-3)
    assert sum(p.numel() for p in CoXt(256).parameters()) == pytest.approx(259_600, rel=1e-3)


def test_bottleneck_pools_before_the_block_and_refuses_other_strides() -> None:
    block = CoTBottleneck(16, 32, 2)
    assert block(torch.randn(2, 16, 5, 7)).shape == (2, 32, 3, 4)
    assert block.before(torch.ones(1, 1, 3, 3)).flatten().tolist() == pytest.approx([4 / 9] * 4)
    with pytest.raises(ValueError, match="stride must be 1 or 2, not 3"):
        CoTBottleneck(16, 32, 3)


@torch.no_grad()
def test_every_batch_norm_folds() -> None:
    holder = nn.ModuleList([settled(CoT(16)), settled(CoXt(16))])
    x = torch.randn(2, 16, 5, 6, dtype=torch.double)
    expected = [block(x) for block in holder]
    fold_norms(holder)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in holder.modules())
    for block, before in zip(holder, expected, strict=True):
        torch.testing.assert_close(block(x), before)
