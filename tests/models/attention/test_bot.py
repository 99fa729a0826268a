"""MHSA against its definition with explicit indices; the bottleneck's shapes and names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import build_model
from models.attention.bot import MHSA, BottleneckTransformer, BottleStack, C3BoT
from models.attention.position import relative_rows
from models.folding import fold_norms


def attended(block: MHSA, x: Tensor, offset: tuple[Tensor, Tensor] | None = None, place: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Follow figure 4 of the paper position by position."""
    batch, _, height, width = x.shape
    n, d = block.heads, block.dim_head
    qkv = torch.einsum("oc,bchw->bohw", block.to_qkv.weight[:, :, 0, 0], x).view(batch, 3, n, d, height, width)
    q, k, v = qkv.unbind(1)
    q = q / d**0.5
    out = torch.zeros(batch, n, d, height, width, dtype=x.dtype)
    for b in range(batch):
        for h in range(n):
            for yi in range(height):
                for xi in range(width):
                    logits = torch.zeros(height, width, dtype=x.dtype)
                    for yj in range(height):
                        for xj in range(width):
                            query = q[b, h, :, yi, xi]
                            logits[yj, xj] = query @ k[b, h, :, yj, xj]
                            if offset:
                                rows, columns = offset
                                logits[yj, xj] += query @ (
                                    rows[yj - yi + (len(rows) - 1) // 2] + columns[xj - xi + (len(columns) - 1) // 2]
                                )
                            if place:
                                logits[yj, xj] += query @ (place[0][yj] + place[1][xj])
                    share = logits.flatten().softmax(0).view(height, width)
                    out[b, h, :, yi, xi] = (v[b, h] * share).sum((1, 2))
    return out.reshape(batch, n * d, height, width)


@torch.no_grad()
def test_relative_position_is_key_minus_query() -> None:
    block = MHSA(8, heads=2, dim_head=None, fmap_size=(3, 4)).double()
    x = torch.randn(2, 8, 3, 4, dtype=torch.double)
    torch.testing.assert_close(block(x), attended(block, x, offset=(block.pos_emb.rel_height, block.pos_emb.rel_width)))


@torch.no_grad()
def test_smaller_map_uses_the_same_offsets() -> None:
    block = MHSA(8, heads=2, dim_head=None, fmap_size=(5, 6)).double()
    x = torch.randn(1, 8, 2, 3, dtype=torch.double)
    torch.testing.assert_close(block(x), attended(block, x, offset=(block.pos_emb.rel_height, block.pos_emb.rel_width)))


@torch.no_grad()
def test_absolute_position_and_none() -> None:
    block = MHSA(8, heads=2, dim_head=3, fmap_size=(3, 4), position="absolute").double()
    x = torch.randn(1, 8, 3, 4, dtype=torch.double)
    torch.testing.assert_close(block(x), attended(block, x, place=(block.pos_emb.height, block.pos_emb.width)))
    plain = MHSA(8, heads=2, dim_head=4, position=None).double()
    torch.testing.assert_close(plain(x), attended(plain, x))


def test_tables_are_sliced_exactly_and_interpolated_between() -> None:
    table = torch.arange(9.0)[:, None]  # offsets -4 .. 4
    assert relative_rows(table, 5).flatten().tolist() == list(range(9))
    assert relative_rows(table, 3).flatten().tolist() == [2, 3, 4, 5, 6]
    assert relative_rows(table, 9).flatten().tolist() == [i / 2 for i in range(17)]


def test_one_instance_takes_any_size() -> None:
    block = MHSA(8, heads=2, dim_head=None)
    for size in ((1, 1), (13, 20), (32, 8), (7, 7)):
        assert block(torch.randn(1, 8, *size)).shape == (1, 8, *size)


def test_bottleneck_halves_odd_maps_upwards() -> None:
    block = BottleneckTransformer(8, 16, (5, 7), downsample=True, heads=2, dim_head=4)
    assert block(torch.randn(2, 8, 5, 7)).shape == (2, 16, 3, 4)
    assert block.shortcut[0].kernel_size == (1, 1)
    stack = BottleStack(8, 16, (6, 6), num_layers=3, heads=2, dim_head=4)
    assert stack(torch.randn(2, 8, 6, 6)).shape == (2, 16, 3, 3)
    assert stack.net[1].net[3].pos_emb.rel_height.shape == (5, 4)


def test_bottleneck_starts_as_its_shortcut() -> None:
    block = BottleneckTransformer(16, 16, (4, 4), heads=2, dim_head=4).eval()
    x = torch.rand(1, 16, 4, 4)
    torch.testing.assert_close(block(x), x)


def test_heads_are_128_wide_unless_they_share_the_width() -> None:
    assert MHSA(64).to_qkv.weight.shape == (3 * 4 * 128, 64, 1, 1)
    assert MHSA(64, dim_head=None).to_qkv.weight.shape == (3 * 64, 64, 1, 1)
    content = {"nc": 1, "backbone": [[-1, 1, "Conv", [32, 3, 2]]], "head": [[-1, 1, "Detect", ["nc", [[1, 2]]]]], "anchors": [[1, 2]]}
    for args, width in (([], 512), ([2, 8], 16), ([4, None], 32)):
        rows = [*content["backbone"], [-1, 1, "MHSA", args]]
        assert build_model({**content, "backbone": rows}).model[2].m[0].in_channels == width
    rows = [*content["backbone"], [-1, 3, "MHSA", [2, 8]]]
    assert [m.to_qkv.in_channels for m in build_model({**content, "backbone": rows}).model[1]] == [32, 16, 16]


def test_one_number_is_a_square_map() -> None:
    assert MHSA(8, fmap_size=5).pos_emb.rel_width.shape == (9, 128)
    stack = BottleStack(8, 16, 7, num_layers=2, heads=2, dim_head=4)
    assert [block.net[3].pos_emb.rel_height.shape for block in stack.net] == [(13, 4), (7, 4)]


def test_refuses_what_it_cannot_serve() -> None:
    with pytest.raises(ValueError, match="5 heads do not divide 12 channels; 4 would"):
        MHSA(12, heads=5, dim_head=None)
    with pytest.raises(ValueError, match="position must be"):
        MHSA(8, position="rotary")
    with pytest.raises(ValueError, match="3 heads do not divide 8 channels; 2 would"):
        C3BoT(16, 16, heads=3)


@pytest.mark.parametrize(("width", "heads"), [(40, 4), (20, 2), (12, 2), (6, 1)])
def test_csp_form_takes_as_many_heads_as_divide(width: int, heads: int) -> None:
    assert C3BoT(8, width).m[0].mhsa.heads == heads


@torch.no_grad()
def test_every_batch_norm_folds() -> None:
    holder = nn.ModuleList([BottleneckTransformer(8, 16, (5, 7), downsample=True, heads=2, dim_head=4), C3BoT(8, 16)]).double().eval()
    for norm in holder.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight, norm.bias, norm.running_mean):
                nn.init.normal_(tensor)
            norm.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 8, 5, 7, dtype=torch.double)
    expected = [block(x) for block in holder]
    fold_norms(holder)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in holder.modules())
    for block, before in zip(holder, expected, strict=True):
        torch.testing.assert_close(block(x), before)


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("mhsa", MHSA(32, 4, 8, (6, 6))),
        ("mhsa_abs", MHSA(24, 2, 16, (5, 8), "absolute")),
        ("bot_block", BottleneckTransformer(32, 64, (6, 8), 4, True, 4, 8)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_names_and_shapes_are_those_of_the_port(authors: Callable[[str], dict[str, Any]], name: str, block: nn.Module) -> None:
    expected = authors(name)
    if "shortcut.0.weight" in expected:
        expected["shortcut.0.weight"] = (64, 32, 1, 1)  # the port has a 3x3 here, the authors a 1x1
    assert {key: tuple(tensor.shape) for key, tensor in block.state_dict().items()} == expected
