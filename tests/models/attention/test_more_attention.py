"""MUSE, UFO, AFT, residual attention, CrossFormer, CoAtNet and iRMB, each against its formula in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from models.attention.coatnet import CoAtNetBlock
from models.attention.crossformer import CrossFormer
from models.attention.csra import ResidualAttention
from models.attention.irmb import InvertedResidualMobileBlock
from models.attention.linear_attention import AFT, UFOAttention
from models.attention.muse import MUSE
from tests.models.written_out import linear, randomized

pytestmark = pytest.mark.usefixtures("no_gradients")


def maps(channels: int, height: int = 3, width: int = 4) -> Tensor:
    return torch.randn(2, channels, height, width, dtype=torch.float64)


def layer_normed(x: Tensor, norm: Any) -> Tensor:
    """Over the channels of (B, C, H, W)."""
    mean, var = x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True)
    return (x - mean) / (var + norm.eps).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]


def attended(q: Tensor, k: Tensor, v: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
    """Pixel by pixel: (C, N) each -> (C', N)."""
    out = []
    for h in range(heads):
        a, b, c = (t.chunk(heads, 0)[h] for t in (q, k, v))
        logits = a.T @ b / len(a) ** 0.5
        if bias is not None:
            logits = logits + bias[h]
        out.append(c @ logits.softmax(1).T)
    return torch.cat(out)


def test_muse_adds_attention_convolutions_and_a_feed_forward_layer() -> None:
    block, x = randomized(MUSE(8, 2)), maps(8)
    n = layer_normed(x, block.norm)
    q, k, v = linear(n, block.qkv).chunk(3, 1)
    mixed = torch.stack([attended(*(t[b].flatten(1) for t in (q, k, v)), 2).view(8, 3, 4) for b in range(2)])
    shares = block.kernel_gate.exp() / block.kernel_gate.exp().sum()
    convolved = sum(s * F.conv2d(v, c.weight, c.bias, padding=c.padding, groups=8) for s, c in zip(shares, block.depthwise, strict=True))
    first, _, second = block.feed_forward
    expected = x + linear(mixed, block.proj_attention) + linear(convolved, block.proj_conv) + linear(linear(n, first).relu(), second)  # type: ignore[arg-type]
    torch.testing.assert_close(block(x), expected)


def test_ufo_attention_multiplies_unit_vectors() -> None:
    block, x = randomized(UFOAttention(8, 2)), maps(8)
    expected = torch.zeros_like(x)
    for b in range(2):
        q, k, v = linear(x[b : b + 1], block.qkv)[0].flatten(1).chunk(3)
        for h in range(2):
            own = slice(4 * h, 4 * h + 4)
            context = k[own] @ v[own].T
            context = block.gamma[h] * context / context.norm(dim=1, keepdim=True)
            query = block.gamma[h] * q[own] / q[own].norm(dim=0)
            expected[b, own] = (query.T @ context).T.view(4, 3, 4)
    torch.testing.assert_close(block(x), linear(expected, block.proj))


def test_aft_weighs_every_pixel_with_a_bias_in_a_window() -> None:
    block, x = randomized(AFT(4, 2, 3)), maps(4)
    q, k, v = linear(x, block.qkv).chunk(3, 1)
    w = block.rel - block.rel.mean((2, 3), keepdim=True)
    w = w / (w.square().mean((2, 3), keepdim=True).sqrt() + 1e-6) * block.gain_scale + block.gain_bias
    expected = torch.zeros_like(x)
    for c in range(4):
        for i in range(3):
            for j in range(4):
                logits = k[:, c].clone()
                for di in (-1, 0, 1):
                    for dj in (-1, 0, 1):
                        if 0 <= i + di < 3 and 0 <= j + dj < 4:
                            logits[:, i + di, j + dj] += w[c // 2, 0, di + 1, dj + 1]
                e = logits.exp()
                expected[:, c, i, j] = q[:, c, i, j].sigmoid() * (e * v[:, c]).sum((1, 2)) / e.sum((1, 2))
    torch.testing.assert_close(block(x), linear(expected, block.proj))


def test_residual_attention_adds_an_attended_score() -> None:
    block, x = randomized(ResidualAttention(6, 0.3, 2.0)), maps(6)
    scores = linear(x, block.classifier).flatten(2)
    e = (2 * scores).exp()
    total = scores.mean(2) + 0.3 * (e / e.sum(2, keepdim=True) * scores).sum(2)
    torch.testing.assert_close(block(x), x / (1 + (-total).exp())[..., None, None])


def test_coatnets_bias_depends_on_the_offset() -> None:
    block, x = randomized(CoAtNetBlock(8, 2, 2, (3, 4))), maps(8)
    q, k, v = linear(layer_normed(x, block.norm1), block.qkv).chunk(3, 1)
    places = [(i, j) for i in range(3) for j in range(4)]
    bias = torch.stack(
        [torch.stack([torch.stack([table[a - c + 2, b - d + 3] for c, d in places]) for a, b in places]) for table in block.rel_table]
    )
    mixed = torch.stack([attended(*(t[n].flatten(1) for t in (q, k, v)), 2, bias).view(8, 3, 4) for n in range(2)])
    y = x + linear(mixed, block.proj)
    first, _, second = block.mlp
    torch.testing.assert_close(block(x), y + linear(F.gelu(linear(layer_normed(y, block.norm2), first)), second))


def crossed(block: Any, attention: Any, x: Tensor, groups: list[list[tuple[int, int]]]) -> Tensor:
    """Attention inside groups of pixels, with a bias of the MLP for the offset in the group."""
    out = torch.zeros_like(x)
    for group in groups:
        rows, columns = (sorted({p[axis] for p in group}) for axis in (0, 1))
        offsets = [[(rows.index(a) - rows.index(c), columns.index(b) - columns.index(d)) for c, d in group] for a, b in group]
        bias = attention.position.mlp(torch.tensor(offsets, dtype=torch.float64)).permute(2, 0, 1)
        for n in range(len(x)):
            tokens = torch.stack([x[n, :, i, j] for i, j in group], 1)
            q, k, v = (attention.qkv.weight @ tokens + attention.qkv.bias[:, None]).chunk(3)
            y = attention.proj.weight @ attended(q, k, v, block.near.heads, bias) + attention.proj.bias[:, None]
            for at, (i, j) in enumerate(group):
                out[n, :, i, j] = y[:, at]
    return out


def test_crossformer_attends_near_then_far() -> None:
    block, x = randomized(CrossFormer(8, 2, 3, 2)), maps(8, 4, 5)
    near = [[(i, j) for i in range(4) for j in range(5) if (i // 3, j // 3) == at] for at in ((0, 0), (0, 1), (1, 0), (1, 1))]
    far = [[(i, j) for i in range(4) for j in range(5) if (i % 2, j % 2) == at] for at in ((0, 0), (0, 1), (1, 0), (1, 1))]
    y = x
    blocks = ((block.near, near, block.norms[:2], block.mlps[0]), (block.far, far, block.norms[2:], block.mlps[1]))
    for attention, groups, norms, mlp in blocks:
        y = y + crossed(block, attention, layer_normed(y, norms[0]), groups)
        inner = torch.einsum("dc,bchw->bdhw", mlp.fc1.weight, layer_normed(y, norms[1])) + mlp.fc1.bias[:, None, None]
        y = y + torch.einsum("dc,bchw->bdhw", mlp.fc2.weight, F.gelu(inner)) + mlp.fc2.bias[:, None, None]
    torch.testing.assert_close(block(x), y)


def test_crossformer_takes_tensors_for_its_parameters() -> None:
    """As a count of operations gives them."""
    block = CrossFormer(8, 2, 3, 2)
    weights = {name: torch.empty_like(parameter, device="meta") for name, parameter in block.named_parameters()}
    assert functional_call(block, weights, torch.empty(1, 8, 4, 5, device="meta")).shape == (1, 8, 4, 5)


def test_irmb_mixes_a_widened_value() -> None:
    block, x = randomized(InvertedResidualMobileBlock(8, 2, 3, 2)), maps(8, 3, 6)
    n = layer_normed(x, block.norm)
    q, k = linear(n, block.qk).chunk(2, 1)
    v = F.silu(linear(n, block.widen[0]))
    mixed = torch.zeros_like(v)
    for b in range(2):
        for columns in (slice(0, 3), slice(3, 6)):
            mixed[b, :, :, columns] = attended(*(t[b, :, :, columns].flatten(1) for t in (q, k, v)), 2).view(16, 3, 3)
    dw, norm, _ = block.local
    local = F.silu(norm(F.conv2d(mixed, dw.weight, padding=1, groups=16)))
    torch.testing.assert_close(block(x), x + linear(mixed + local, block.narrow))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: MUSE(8, 3), "MUSE: 3 heads do not divide 8 channels; 1 would"),
        (lambda: AFT(8, kernel_size=4), "AFT: kernel_size must be odd, not 4"),
        (lambda: ResidualAttention(8, temperature=0), "temperature must be above 0, not 0"),
        (lambda: CrossFormer(8, interval=0), "interval must be at least 1, not 0"),
    ],
)
def test_refuses_what_it_cannot_serve(make: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()
