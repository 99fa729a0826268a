"""Self-attention blocks of recent YOLOs and ResT, each against its formula in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention.area import A2C2f, AreaAttentionBlock
from models.attention.efficient import EMSA
from models.attention.position_sensitive import C2PSA, PSABlock
from tests.models.written_out import linear, randomized

pytestmark = pytest.mark.usefixtures("no_gradients")


def test_psa_block_has_keys_of_half_the_width() -> None:
    block, x = randomized(PSABlock(8, 2)), torch.randn(1, 8, 3, 4, dtype=torch.double)
    q, k, v = block.attn.qkv(x).split([4, 4, 8], 1)
    out = torch.zeros_like(x)
    for head in range(2):
        query, key = (t[0, 2 * head : 2 * head + 2].flatten(1) for t in (q, k))
        weights = (query.T @ key / 2**0.5).softmax(1)
        out[0, 4 * head : 4 * head + 4] = (v[0, 4 * head : 4 * head + 4].flatten(1) @ weights.T).view(4, 3, 4)
    y = x + block.attn.proj(out + block.attn.pe(v))
    torch.testing.assert_close(block(x), y + block.ffn[1](block.ffn[0](y)))
    assert block.attn.pe.conv.groups == 8


def test_c2psa_lets_half_pass_by() -> None:
    block, x = randomized(C2PSA(6, 16, 2)), torch.randn(1, 6, 3, 4, dtype=torch.double)
    y = block.cv1(x)
    torch.testing.assert_close(block(x), block.cv2(torch.cat((y[:, :8], block.m[1](block.m[0](y[:, 8:]))), 1)))


@pytest.mark.parametrize("height", [4, 5, 1])
def test_area_attention_stays_in_its_strip(height: int) -> None:
    block, x = randomized(AreaAttentionBlock(8, 2, 2)), torch.randn(1, 8, height, 3, dtype=torch.double)
    q, k, v = block.attn.qkv(x).chunk(3, 1)
    out = torch.zeros_like(x)
    half = (height + 1) // 2
    for rows in (slice(0, half), slice(half, height)):
        for head in (slice(0, 4), slice(4, 8)):
            query, key, value = (t[0, head, rows].flatten(1) for t in (q, k, v))
            out[0, head, rows] = (value @ (query.T @ key / 2).softmax(1).T).view(4, -1, 3)
    y = x + block.attn.proj(out + block.attn.pe(v))
    torch.testing.assert_close(block(x), y + block.mlp[1](block.mlp[0](y)), rtol=1e-6, atol=1e-6)


def test_area_attention_starts_as_the_authors() -> None:
    block = AreaAttentionBlock(64)
    assert block.attn.heads == 2
    assert all(0.018 < m.weight.std() < 0.022 for m in block.modules() if isinstance(m, nn.Conv2d) and m.weight.numel() > 3000)


@pytest.mark.parametrize("width", [12, 16])
def test_a2c2f_joins_the_output_of_every_pair(width: int) -> None:
    block, x = A2C2f(12, width, 2, 1), torch.randn(1, 12, 3, 4, dtype=torch.double)
    assert (block.gamma is None) == (width == 16)
    assert width == 16 or (block.gamma == 0.01).all()
    block = randomized(block)
    first = block.cv1(x)
    second = block.m[0][1](block.m[0][0](first))
    third = block.m[1][1](block.m[1][0](second))
    y = block.cv2(torch.cat((first, second, third), 1))
    torch.testing.assert_close(block(x), y if width == 16 else x + block.gamma[:, None, None] * y)


def test_emsa_mixes_heads_and_normalises_their_weights() -> None:
    block, x = randomized(EMSA(4, 2, 2)), torch.randn(1, 4, 4, 6, dtype=torch.double)

    def normed(z: Tensor, norm: nn.Module) -> Tensor:
        z = (z - z.mean(1, keepdim=True)) / (z.var(1, keepdim=True, correction=0) + norm.eps).sqrt()
        return z * norm.weight[:, None, None] + norm.bias[:, None, None]

    y = normed(x, block.norm)
    small = F.conv2d(y, block.sr.weight, block.sr.bias, stride=2, padding=1, groups=4)
    assert small.shape[2:] == (2, 3)
    q, (k, v) = linear(y, block.q).flatten(2)[0], linear(normed(small, block.sr_norm), block.kv).flatten(2)[0].chunk(2)
    logits = torch.stack([q[h].T @ k[h] / 2**0.5 for h in (slice(0, 2), slice(2, 4))])
    mixed = torch.einsum("gh,hij->gij", block.mix.weight[:, :, 0, 0], logits) + block.mix.bias[:, None, None]
    weights = mixed.softmax(2)
    weights = torch.stack([(w - w.mean()) / (w.var(correction=0) + 1e-5).sqrt() for w in weights])
    out = torch.cat([v[h] @ w.T for h, w in zip((slice(0, 2), slice(2, 4)), weights, strict=True)])
    torch.testing.assert_close(block(x), x + linear(out.view(1, 4, 4, 6), block.proj))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: PSABlock(9, 2), "PSABlock: 2 heads do not divide 9 channels; 1 would"),
        (lambda: AreaAttentionBlock(8, 0), "areas must be at least 1, not 0"),
        (lambda: AreaAttentionBlock(10, 1, 4), "4 heads do not divide 10 channels; 2 would"),
        (lambda: EMSA(10, 4), "4 heads do not divide 10 channels; 2 would"),
    ],
)
def test_refuses_what_it_cannot_serve(make: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()
