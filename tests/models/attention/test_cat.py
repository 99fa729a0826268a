"""CAT's inner-patch and cross-patch attention against explicit softmax over explicit windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention.cat import CAB, CPSA, IPSA, heads_of


def with_residuals(block: IPSA | CPSA, x: Tensor, mixed: Tensor) -> Tensor:
    tokens = x.permute(0, 2, 3, 1) + mixed
    return (tokens + block.mlp(block.norm2(tokens))).permute(0, 3, 1, 2)


@torch.no_grad()
def test_inner_patch_attention_by_windows() -> None:
    patch, heads = 3, 2
    block = IPSA(4, heads, patch).double()
    x = torch.randn(1, 4, 6, 3, dtype=torch.double)
    normed = block.norm1(x.permute(0, 2, 3, 1))
    mixed = torch.zeros(1, 6, 3, 4, dtype=torch.double)
    for top in (0, 3):
        window = normed[0, top : top + 3].reshape(9, 4)
        q, k, v = (window @ block.attn.qkv.weight.T + block.attn.qkv.bias).split(4, 1)
        out = torch.zeros(9, 4, dtype=torch.double)
        for h in range(heads):
            part = slice(2 * h, 2 * h + 2)
            logits = q[:, part] @ k[:, part].T / 2**0.5
            for i in range(9):
                for j in range(9):
                    dy, dx = i // 3 - j // 3, i % 3 - j % 3  # query minus key
                    logits[i, j] += block.attn.relative_position_bias_table[(dy + 2) * 5 + dx + 2, h]
            out[:, part] = logits.softmax(1) @ v[:, part]
        mixed[0, top : top + 3] = (out @ block.attn.proj.weight.T + block.attn.proj.bias).view(3, 3, 4)
    torch.testing.assert_close(block(x), with_residuals(block, x, mixed))


@torch.no_grad()
def test_cross_patch_attention_by_channels() -> None:
    block = CPSA(2, 2).double()
    x = torch.randn(1, 2, 4, 4, dtype=torch.double)
    normed = block.norm1(x.permute(0, 2, 3, 1))[0]
    mixed = torch.zeros(1, 4, 4, 2, dtype=torch.double)
    for c in range(2):
        patches = torch.stack([normed[y : y + 2, z : z + 2, c].flatten() for y in (0, 2) for z in (0, 2)])
        q, k, v = (patches @ block.attn.qkv.weight.T + block.attn.qkv.bias).split(4, 1)
        out = (q @ k.T / 2).softmax(1) @ v @ block.attn.proj.weight.T + block.attn.proj.bias
        for i, (y, z) in enumerate((y, z) for y in (0, 2) for z in (0, 2)):
            mixed[0, y : y + 2, z : z + 2, c] = out[i].view(2, 2)
    torch.testing.assert_close(block(x), with_residuals(block, x, mixed))


@torch.no_grad()
@pytest.mark.parametrize("block", [IPSA(8, 2).double(), CPSA(8).double()], ids=["IPSA", "CPSA"])
def test_other_sizes_are_padded_after_the_norm_and_cropped(block: IPSA | CPSA) -> None:
    x = torch.randn(1, 8, 5, 10, dtype=torch.float64)
    padded = F.pad(block.norm1(x.permute(0, 2, 3, 1)), (0, 0, 0, 4, 0, 2))
    torch.testing.assert_close(block(x), with_residuals(block, x, block.attn(padded)[:, :5, :10]))


def test_block_is_the_triple_in_order() -> None:
    block = CAB(8, 2, depth=2).double()
    x = torch.randn(1, 8, 7, 7, dtype=torch.float64)
    y = x
    for i in range(2):
        y = block.post_ipsa_blocks[i](block.cpsa_blocks[i](block.pre_ipsa_blocks[i](y)))
    torch.testing.assert_close(block(x), y)


def test_published_sizes() -> None:
    assert sum(p.numel() for p in IPSA(128, 4).parameters()) == pytest.approx(198_900, rel=2e-3)
    assert sum(p.numel() for p in CPSA(256).parameters()) == pytest.approx(536_400, rel=2e-3)
    assert sum(p.numel() for p in CAB(512, 16).parameters()) == pytest.approx(8_422_000, rel=2e-3)


def test_refuses_heads_that_do_not_divide() -> None:
    with pytest.raises(ValueError, match="5 heads do not divide 8 channels; 4 would"):
        IPSA(8, 5)


def test_heads_have_the_papers_width_or_more() -> None:
    assert [heads_of(c) for c in (4, 20, 32, 64, 96, 100, 512)] == [1, 1, 1, 2, 3, 2, 16]


@pytest.mark.parametrize(
    ("name", "block"),
    [("ipsa", IPSA(32, 4)), ("cpsa", CPSA(32)), ("cab", CAB(32, 2))],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_names_and_shapes_are_the_authors(authors: Callable[[str], dict[str, Any]], name: str, block: nn.Module) -> None:
    assert {key: tuple(tensor.shape) for key, tensor in block.state_dict().items()} == authors(name)
