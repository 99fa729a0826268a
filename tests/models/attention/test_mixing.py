"""Blocks that mix positions, each against its formula in float64, or against torchvision's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.swin_transformer import SwinTransformerBlock, SwinTransformerBlockV2

from models.attention.acmix import ACmix, mirrored
from models.attention.axial import AxialTransformer
from models.attention.dual import DualAttention
from models.attention.external import ExternalAttention
from models.attention.global_context import C3GC, GCBlock
from models.attention.s2 import S2Attention, shifted
from models.attention.swin import C3Swin, C3SwinV2, SwinBlock, SwinV2Block
from tests.models.written_out import linear, opened

pytestmark = pytest.mark.usefixtures("no_gradients")


def maps(channels: int, height: int = 3, width: int = 4) -> Tensor:
    return torch.randn(1, channels, height, width, dtype=torch.double)


def test_dual_attention_adds_positions_and_channels() -> None:
    block, x = opened(DualAttention(32, 2)), maps(32)
    a, c = block.conv5a(x), block.conv5c(x)
    q, k, v = (linear(a, conv).flatten(2)[0] for conv in (block.sa.query_conv, block.sa.key_conv, block.sa.value_conv))
    by_place = torch.stack([v @ torch.stack([q[:, i] @ k[:, j] for j in range(12)]).softmax(0) for i in range(12)], 1)
    tokens = c.flatten(2)[0]
    energy = tokens @ tokens.T
    weights = (energy.max(1, keepdim=True).values - energy).exp()
    by_channel = (weights / weights.sum(1, keepdim=True)) @ tokens
    a = block.conv51(a + block.sa.gamma * by_place.view(1, 16, 3, 4))
    c = block.conv52(c + block.sc.gamma * by_channel.view(1, 16, 3, 4))
    torch.testing.assert_close(block(x), linear(a + c, block.conv8[1]))


def test_axial_attention_runs_along_columns_then_rows() -> None:
    block, x = opened(AxialTransformer(8, 1, 2)), maps(8)

    def along(lines: Tensor, part: Any) -> Tensor:
        """Each line, (N, C), by itself."""
        out = []
        for line in lines:
            q, k, v = part.norm1(line) @ part.qkv.weight.chunk(3)[0].T, *(part.norm1(line) @ w.T for w in part.qkv.weight.chunk(3)[1:])
            heads = [(q[:, h] @ k[:, h].T / 2).softmax(1) @ v[:, h] for h in (slice(0, 4), slice(4, 8))]
            line = line + part.proj(torch.cat(heads, 1))
            out.append(line + part.mlp(part.norm2(line)))
        return torch.stack(out)

    columns = along(x[0].permute(2, 1, 0), block.columns[0])  # (W, H, C)
    rows = along(columns.transpose(0, 1), block.rows[0])  # (H, W, C)
    torch.testing.assert_close(block(x)[0], rows.permute(2, 0, 1))


@pytest.mark.parametrize(("length", "edge"), [(5, 3), (4, 3), (8, 0)])
def test_mirrored_is_reflection_padding(length: int, edge: int) -> None:
    line = torch.arange(float(length)).view(1, 1, 1, length)
    assert mirrored(torch.arange(length), edge).tolist() == F.pad(line, (edge, edge, 0, 0), "reflect").flatten().tolist()


def test_mirrored_takes_maps_smaller_than_its_edge() -> None:
    assert mirrored(torch.arange(3), 5).tolist() == [1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1]
    assert mirrored(torch.arange(1), 3).tolist() == [0] * 7


def test_acmix_is_a_window_attention_and_a_convolution() -> None:
    block, x = opened(ACmix(4, 3, 2)), maps(4, 4, 5)
    block.rate1.fill_(0.7)
    block.rate2.fill_(0.2)
    block.dep_conv.weight.normal_()
    q, k, v = (linear(x, conv) for conv in (block.conv1, block.conv2, block.conv3))
    place = torch.stack(torch.meshgrid(torch.linspace(-1, 1, 4), torch.linspace(-1, 1, 5), indexing="ij")[::-1])[None].double()
    pad = [1, 1, 1, 1]
    out = torch.zeros_like(x)
    for head in (slice(0, 2), slice(2, 4)):
        pe = F.conv2d(place, block.conv_p.weight)
        windows = [F.pad(t, pad, "reflect") for t in (k[:, head], v[:, head], pe)]
        for i in range(4):
            for j in range(5):
                near, values, there = (w[0, :, i : i + 3, j : j + 3].flatten(1) for w in windows)
                query = q[0, head, i, j] * 2**-0.5
                weights = (query @ (near + pe[0, :, i, j, None] - there)).softmax(0)
                out[0, head, i, j] = values @ weights
    parts = torch.cat([t.view(1, 2, 2, 4, 5) for t in (q, k, v)], 1)  # (B, 3 heads, d, H, W)
    shared = torch.einsum("tn,bndhw->bdthw", block.fc.weight[:, :, 0, 0], parts).flatten(1, 2)
    convolved = F.conv2d(shared, block.dep_conv.weight, block.dep_conv.bias, padding=1, groups=2)
    torch.testing.assert_close(block(x), 0.7 * out + 0.2 * convolved, rtol=1e-5, atol=1e-6)


def test_acmix_starts_with_shifts() -> None:
    block, x = ACmix(4, 3, 2).double(), torch.randn(1, 18, 5, 5, dtype=torch.double)
    # Output channel c is of group c // 2 of the nine maps each; tap t moves its map by t's place in the 3x3 kernel.
    padded = F.pad(x, [1] * 4)
    moved = torch.stack([padded[:, t, t % 9 // 3 : t % 9 // 3 + 5, t % 3 : t % 3 + 5] for t in range(18)], 1)
    sums = moved.unflatten(1, (2, 9)).sum(2)
    torch.testing.assert_close(block.dep_conv(x), sums[:, [0, 0, 1, 1]])


def test_shifts_move_by_one_pixel_and_repeat_the_border() -> None:
    x = torch.arange(4 * 6.0).view(1, 4, 2, 3)
    a, b, c, d = shifted(x, (2, 3))[0]
    assert a.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert b.tolist() == [[9, 10, 11], [9, 10, 11]]
    assert c.tolist() == [[12, 12, 13], [15, 15, 16]]
    assert d.tolist() == [[19, 20, 20], [22, 23, 23]]


@pytest.mark.parametrize("residual", [True, False])
def test_s2_attention(residual: bool) -> None:
    block, x = opened(S2Attention(8, residual)), maps(8)
    y = x
    if residual:
        centred = x - x.mean(1, keepdim=True)
        y = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
        y = y * block.norm.weight[:, None, None] + block.norm.bias[:, None, None]
    a, b, c = linear(y, block.mlp1).chunk(3, 1)
    a, b = shifted(a, (2, 3)), shifted(b, (3, 2))
    described = (a + b + c).mean((2, 3))
    logits = F.gelu(described @ block.split_attention.mlp1.weight.T) @ block.split_attention.mlp2.weight.T
    e = logits.view(1, 3, 8).exp()
    mixed = sum((e[:, i] / e.sum(1))[..., None, None] * m for i, m in enumerate((a, b, c)))
    torch.testing.assert_close(block(x), linear(mixed, block.mlp2) + (x if residual else 0))


def test_external_attention_normalises_twice() -> None:
    block, x = opened(ExternalAttention(6, 5)), maps(6)
    logits = torch.einsum("sc,bchw->bshw", block.keys.weight[:, :, 0], linear(x, block.conv1)).exp()
    weights = logits / logits.sum((2, 3), keepdim=True)
    weights = (weights / weights.sum(1, keepdim=True)).float().double()
    y = torch.einsum("cs,bshw->bchw", block.values.weight[:, :, 0], weights)
    torch.testing.assert_close(block(x), F.relu(x + block.bn(linear(y, block.conv2))), rtol=1e-5, atol=1e-5)


ORACLES = {SwinBlock: (SwinTransformerBlock, ("mlp.fc1", "mlp.0")), SwinV2Block: (SwinTransformerBlockV2, ("mlp.fc1", "mlp.0"))}


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("kind", ORACLES)
def test_swin_blocks_equal_torchvisions(kind: Any, shift: bool) -> None:
    block = kind(8, 2, 4, shift)
    for parameter in block.parameters():
        parameter.normal_(std=0.3)
    oracle = ORACLES[kind][0](8, 2, [4, 4], [2 * shift, 2 * shift])
    state = {k.replace("mlp.fc1", "mlp.0").replace("mlp.fc2", "mlp.3"): v for k, v in block.state_dict().items()}
    state["attn.relative_position_index"] = state["attn.relative_position_index"].flatten()
    if kind is SwinV2Block:
        q, v = state.pop("attn.q_bias"), state.pop("attn.v_bias")
        state["attn.qkv.bias"] = torch.cat((q, torch.zeros(8), v))
        state["attn.relative_coords_table"] = oracle.attn.relative_coords_table
    oracle.load_state_dict(state)
    oracle, block = oracle.eval().double(), block.eval().double()
    for size in ((8, 12), (9, 14)):  # whole windows, and padded ones
        x = maps(8, *size)
        torch.testing.assert_close(block(x), oracle(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), rtol=1e-5, atol=1e-6)


def test_swin_blocks_start_as_the_authors() -> None:
    for block in (SwinBlock(64), SwinV2Block(64)):
        weights = [m.weight for m in block.modules() if isinstance(m, nn.Linear)]
        assert all(0.019 < w.std() < 0.021 for w in weights if w.numel() > 2000)
    assert 0.015 < SwinBlock(64).attn.relative_position_bias_table.std() < 0.025
    x = torch.randn(1, 64, 9, 9)
    assert torch.equal(SwinV2Block(64)(x), x)
    assert SwinBlock(96).attn.heads == 3


@pytest.mark.parametrize(("kind", "inner"), [(C3Swin, SwinBlock), (C3SwinV2, SwinV2Block)])
def test_every_second_inner_block_is_shifted(kind: Any, inner: type) -> None:
    block = kind(16, 32, 3)
    assert [type(m) for m in block.m] == [inner] * 3
    assert [m.shift > 0 for m in block.m] == [False, True, False]


def test_c3gc_has_a_context_at_the_end_of_each_branch() -> None:
    block = opened(C3GC(8, 16, 2))
    y = block.cv1(x := maps(8))
    for part in block.m:
        assert isinstance(part.gc, GCBlock)
        y = y + part.gc(part.cv2(part.cv1(y)))
    torch.testing.assert_close(block(x), block.cv3(torch.cat((y, block.cv2(x)), 1)))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ACmix(8, 4), "kernel_att must be odd, not 4"),
        (lambda: S2Attention(3), "needs 4 channels or more, one for each direction, not 3"),
        (lambda: SwinBlock(20, 3), "SwinBlock: 3 heads do not divide 20 channels; 2 would"),
        (lambda: SwinV2Block(20, 2, 0), "SwinV2Block: window_size must be at least 1, not 0"),
        (lambda: AxialTransformer(8, 0), "depth must be at least 1, not 0"),
    ],
)
def test_refuses_what_it_cannot_serve(make: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()
