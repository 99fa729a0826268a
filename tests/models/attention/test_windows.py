"""Attention in blocks, windows, regions and points of a map, each against its formula in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention.deformable import DeformableAttention
from models.attention.halo import HaloAttention
from models.attention.mobilevit import MobileViTAttention, MobileViTv2Attention
from models.attention.outlook import OutlookAttention
from models.attention.pyramid_split import PyramidSplitAttention
from models.attention.routing import BiLevelRoutingAttention
from tests.models.written_out import linear, randomized

pytestmark = pytest.mark.usefixtures("no_gradients")


def test_halo_attention_sees_its_block_and_the_halo() -> None:
    block, x = randomized(HaloAttention(4, 2, 3, 1)), torch.randn(1, 4, 5, 4, dtype=torch.double)
    q, k, v = (t[0] for t in linear(x, block.to_qkv).chunk(3, 1))
    out = torch.zeros(4, 5, 4, dtype=torch.double)
    for head in (slice(0, 2), slice(2, 4)):
        for i in range(5):
            for j in range(4):
                top, left = i // 3 * 3, j // 3 * 3
                keys = [(a, b) for a in range(max(top - 1, 0), min(top + 4, 5)) for b in range(max(left - 1, 0), min(left + 4, 4))]
                query = q[head, i, j] * 2**-0.5
                logits = [query @ (k[head, a, b] + block.rel_height[a - i + 3] + block.rel_width[b - j + 3]) for a, b in keys]
                weights = torch.stack(logits).softmax(0)
                out[head, i, j] = sum(w * v[head, a, b] for w, (a, b) in zip(weights, keys, strict=True))
    torch.testing.assert_close(block(x)[0], out)


def test_outlook_attention_adds_up_overlapping_windows() -> None:
    block, x = randomized(OutlookAttention(4, 2)), torch.randn(1, 4, 3, 4, dtype=torch.double)
    v, logits = linear(x, block.v)[0], linear(x, block.attn)[0].view(2, 9, 9, 3, 4)
    out = torch.zeros_like(v)
    places = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    for head in range(2):
        channels = slice(2 * head, 2 * head + 2)
        for i in range(3):
            for j in range(4):
                weights = (logits[head, :, :, i, j] * 2**-0.5).softmax(1)
                for to, (a, b) in enumerate(places):
                    if 0 <= i + a < 3 and 0 <= j + b < 4:
                        seen = [(w, i + c, j + d) for w, (c, d) in zip(weights[to], places, strict=True)]
                        values = [w * v[channels, y, z] for w, y, z in seen if 0 <= y < 3 and 0 <= z < 4]
                        out[channels, i + a, j + b] += sum(values)
    torch.testing.assert_close(block(x), linear(out[None], block.proj))


def test_outlook_attention_starts_as_the_authors() -> None:
    block = OutlookAttention(64)
    assert block.heads == 2
    assert all(0.018 < layer.weight.std() < 0.022 for layer in (block.v, block.attn, block.proj))
    assert not block.attn.bias.any()


def test_pyramid_split_attention_weighs_four_kernels() -> None:
    block, x = randomized(PyramidSplitAttention(16, 2, (1, 2, 4, 4))), torch.randn(2, 16, 6, 7, dtype=torch.double)
    maps = [F.conv2d(x, conv.weight, padding=k // 2, groups=g) for conv, k, g in zip(block.convs, (3, 5, 7, 9), (1, 2, 4, 4), strict=True)]
    first, last = block.se.fc[0], block.se.fc[2]
    gates = [(F.relu(m.mean((2, 3)) @ first.weight.T + first.bias) @ last.weight.T + last.bias).sigmoid().exp() for m in maps]
    expected = [m * (g / sum(gates))[..., None, None] for m, g in zip(maps, gates, strict=True)]
    torch.testing.assert_close(block(x), torch.cat(expected, 1))


def test_mobilevit_lets_equal_places_of_all_patches_attend() -> None:
    block, x = randomized(MobileViTAttention(6, 8, 1, 2, 2)), torch.randn(1, 6, 4, 6, dtype=torch.double)
    layer, norm = block.layers
    y = block.local(x)
    out = torch.zeros_like(y)
    for a in range(2):
        for b in range(2):
            tokens = y[0, :, a::2, b::2].flatten(1).T  # (6 patches, 8)
            q, k, v = layer.qkv(layer.norm1(tokens)).chunk(3, 1)
            heads = [(q[:, h] @ k[:, h].T / 2).softmax(1) @ v[:, h] for h in (slice(0, 4), slice(4, 8))]
            tokens = tokens + layer.proj(torch.cat(heads, 1))
            tokens = tokens + layer.fc2(F.silu(layer.fc1(layer.norm2(tokens))))
            out[0, :, a::2, b::2] = norm(tokens).T.unflatten(1, (2, 3))
    torch.testing.assert_close(block(x), block.fusion(torch.cat((x, block.proj(out)), 1)))


def test_mobilevit_v2_gates_by_one_context() -> None:
    block, x = randomized(MobileViTv2Attention(6, 1, 2)), torch.randn(1, 6, 4, 6, dtype=torch.double)
    layer, norm = block.layers
    y = block.local(x)

    def normed(z: Tensor, norm: nn.Module) -> Tensor:
        z = (z - z.mean()) / (z.var(correction=0) + norm.eps).sqrt()
        return z * norm.weight[:, None, None] + norm.bias[:, None, None]

    z = normed(y, layer.norm1)
    score, key, value = linear(z, layer.score), linear(z, layer.key), F.relu(linear(z, layer.value))
    gated = torch.zeros_like(y)
    for a in range(2):
        for b in range(2):
            place = (slice(None), slice(None), slice(a, None, 2), slice(b, None, 2))
            weights = score[place].flatten().softmax(0).view(1, 1, 2, 3)
            gated[place] = value[place] * (key[place] * weights).sum((2, 3), keepdim=True)
    y = y + linear(gated, layer.out)
    y = y + linear(F.silu(linear(normed(y, layer.norm2), layer.fc1)), layer.fc2)
    torch.testing.assert_close(block(x), block.proj(normed(y, norm)))


@pytest.mark.parametrize("kind", [MobileViTAttention, MobileViTv2Attention])
def test_mobilevit_resizes_what_its_patches_do_not_divide(kind: Any) -> None:
    block, x = randomized(kind(8, depth=1, patch_size=4)), torch.randn(1, 8, 5, 9, dtype=torch.double)
    seen: list[tuple[int, ...]] = []
    block.layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    assert block(x).shape == x.shape
    assert seen[0][-2:] == ((6, 8) if kind is MobileViTAttention else (8, 12))  # two by three patches; a map of 8 x 12


def test_bi_level_routing_attends_to_the_regions_most_alike() -> None:
    block, x = randomized(BiLevelRoutingAttention(4, 2, 2, 2, 3)), torch.randn(1, 4, 4, 6, dtype=torch.double)
    q, k, v = linear(x, block.qkv).chunk(3, 1)
    regions = [(slice(2 * a, 2 * a + 2), slice(3 * b, 3 * b + 3)) for a in range(2) for b in range(2)]
    means = [[t[0][:, rows, columns].mean((1, 2)) for rows, columns in regions] for t in (q, k)]
    out = torch.zeros_like(v)
    for r, (rows, columns) in enumerate(regions):
        best = sorted(range(4), key=lambda other: -float(means[0][r] @ means[1][other]))[:2]
        keys, values = (torch.cat([t[0][:, regions[o][0], regions[o][1]].flatten(1) for o in best], 1) for t in (k, v))  # (4, 12)
        queries = q[0][:, rows, columns].flatten(1)
        for head in (slice(0, 2), slice(2, 4)):
            weights = (queries[head].T @ keys[head] / 2).softmax(1)
            out[0, head, rows, columns] = (values[head] @ weights.T).view(2, 2, 3)
    out = out + F.conv2d(v, block.lepe.weight, block.lepe.bias, padding=1, groups=4)
    torch.testing.assert_close(block(x), linear(out, block.proj))


def sampled(image: Tensor, y: float, x: float) -> Tensor:
    """Value of (C, H, W) between four pixels, zero beyond the border; -1 and 1 are the middles of the outer pixels."""
    height, width = image.shape[1:]
    y, x = (y + 1) / 2 * (height - 1), (x + 1) / 2 * (width - 1)
    out = torch.zeros(len(image), dtype=image.dtype)
    for i in (math.floor(y), math.floor(y) + 1):
        for j in (math.floor(x), math.floor(x) + 1):
            if 0 <= i < height and 0 <= j < width:
                out += (1 - abs(y - i)) * (1 - abs(x - j)) * image[:, i, j]
    return out


def test_deformable_attention_samples_where_its_queries_move_the_points() -> None:
    block, x = randomized(DeformableAttention(8, 2, 2, 2, 3, 2.0, 3)), torch.randn(1, 8, 4, 6, dtype=torch.double)
    q = linear(x, block.proj_q)[0]
    out = torch.zeros_like(q)
    parts, points, whole = (slice(0, 4), slice(4, 8)), [], torch.zeros(8, 6, dtype=torch.double)
    for part in parts:
        moves = block.conv_offset(q[None, part])[0].tanh()  # (2, 2, 3)
        # Two rows of points are 2 apart, three columns 1; a point starts half of that inside its cell.
        rows = [[2 * a + 2 * float(moves[0, a, b]) for b in range(3)] for a in range(2)]
        columns = [[b - 0.5 + float(moves[1, a, b]) for b in range(3)] for a in range(2)]
        points.append([(rows[a][b], columns[a][b]) for a in range(2) for b in range(3)])
        whole[part] = torch.stack([sampled(x[0, part], *p) for p in points[-1]], 1)
    k, v = (torch.einsum("dc,cn->dn", conv.weight[:, :, 0, 0], whole) + conv.bias[:, None] for conv in (block.proj_k, block.proj_v))
    for head, part in enumerate(parts):
        for i in range(4):
            for j in range(6):
                place = (i / 3 * 2 - 1, j / 5 * 2 - 1)
                bias = [sampled(block.rpe_table[head, None], (place[0] - y) / 2, (place[1] - z) / 2)[0] for y, z in points[head]]
                weights = (q[part, i, j] @ k[part] / 2 + torch.stack(bias)).softmax(0)
                out[part, i, j] = v[part] @ weights
    torch.testing.assert_close(block(x), linear(out[None], block.proj_out), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: HaloAttention(10, 4), "4 heads do not divide 10 channels; 2 would"),
        (lambda: DeformableAttention(9, 2), "2 heads do not divide 9 channels; 1 would"),
        (lambda: OutlookAttention(9, 2), "2 heads do not divide 9 channels; 1 would"),
        (lambda: OutlookAttention(8, 2, 2), "kernel_size must be odd, not 2"),
        (lambda: PyramidSplitAttention(10), "channels must be a multiple of 4, not 10"),
        (lambda: BiLevelRoutingAttention(8, regions=2, topk=5), "topk is at most the number of regions, 4, not 5"),
    ],
)
def test_refuses_what_it_cannot_serve(make: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()
