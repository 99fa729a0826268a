"""MLPs over positions, each against its formula in float64 at its native size, and in windows of any map."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention.mlp_mixers import GatedMLP, MLPMixer, ResMLP, SparseMLP, VisionPermutator
from models.attention.repmlp import RepMLP
from models.attention.windows import unwindowed, windows
from models.folding import fold_norms
from tests.models.written_out import opened, randomized

pytestmark = pytest.mark.usefixtures("no_gradients")


def maps(channels: int, side: int = 4) -> Tensor:
    return torch.randn(2, channels, side, side, dtype=torch.float64)


def normed(x: Tensor, norm: Any) -> Tensor:
    mean, var = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
    return (x - mean) / (var + norm.eps).sqrt() * norm.weight + norm.bias


def tokens_of(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def along(weights: Any, tokens: Tensor) -> Tensor:
    """A linear layer over the positions."""
    return torch.einsum("st,btc->bsc", weights.weight, tokens) + weights.bias[:, None]


def test_mixer() -> None:
    block, x = randomized(MLPMixer(6, 4)), maps(6)
    t = tokens_of(x)
    u = t + along(block.tokens.fc2, F.gelu(along(block.tokens.fc1, normed(t, block.norm1))))
    y = u + F.gelu(normed(u, block.norm2) @ block.channels.fc1.weight.T + block.channels.fc1.bias) @ block.channels.fc2.weight.T
    torch.testing.assert_close(tokens_of(block(x)), y + block.channels.fc2.bias)
    assert block.tokens.fc1.weight.shape == (8, 16)


def test_gated_mlp() -> None:
    block, x = randomized(GatedMLP(6, 4)), maps(6)
    t = tokens_of(x)
    z = F.gelu(normed(t, block.norm) @ block.proj_in.weight.T + block.proj_in.bias)
    gate = along(block.spatial, normed(z[..., 12:], block.gate_norm))
    torch.testing.assert_close(tokens_of(block(x)), t + (z[..., :12] * gate) @ block.proj_out.weight.T + block.proj_out.bias)
    fresh = GatedMLP(6, 4)
    assert fresh.spatial.bias.eq(1).all()
    assert fresh.spatial.weight.abs().max() < 1e-4


def test_resmlp() -> None:
    block, x = randomized(ResMLP(6, 4)), maps(6)
    t = tokens_of(x)
    z = t + block.scale1.gamma * along(block.tokens, t * block.aff1.gamma + block.aff1.bias)
    inner = F.gelu((z * block.aff2.gamma + block.aff2.bias) @ block.channels.fc1.weight.T + block.channels.fc1.bias)
    y = z + block.scale2.gamma * (inner @ block.channels.fc2.weight.T + block.channels.fc2.bias)
    torch.testing.assert_close(tokens_of(block(x)), y)


def test_sparse_mlp() -> None:
    block, x = randomized(SparseMLP(6, 4)), maps(6)
    high = torch.einsum("ij,bcjw->bciw", block.along_height.weight, x) + block.along_height.bias[:, None]
    wide = torch.einsum("ij,bchj->bchi", block.along_width.weight, x) + block.along_width.bias
    joined = torch.cat((high, wide, x), 1)
    fused = torch.einsum("oc,bchw->bohw", block.fuse_channels.weight, joined) + block.fuse_channels.bias[:, None, None]
    torch.testing.assert_close(block(x), fused)


def test_vision_permutator() -> None:
    block, x = randomized(VisionPermutator(8, 4)), maps(8)
    high, wide = torch.zeros_like(x), torch.zeros_like(x)
    for segment in range(4):  # two channels each
        own = slice(2 * segment, 2 * segment + 2)
        for k in range(4):
            column = x[:, own, :, k].transpose(1, 2).flatten(1) @ block.mlp_h.weight.T  # (row, channel of the segment)
            high[:, own, :, k] = column.view(2, 4, 2).transpose(1, 2)
            row = x[:, own, k].transpose(1, 2).flatten(1) @ block.mlp_w.weight.T
            wide[:, own, k] = row.view(2, 4, 2).transpose(1, 2)
    parts = (high, wide, torch.einsum("oc,bchw->bohw", block.mlp_c.weight, x))
    pooled = sum(parts).mean((2, 3))  # type: ignore[union-attr]
    first, _, second = block.reweigh
    logits = F.gelu(pooled @ first.weight.T + first.bias) @ second.weight.T + second.bias
    weights = logits.view(2, 8, 3).softmax(2)
    total = sum(weights[:, :, i, None, None] * part for i, part in enumerate(parts))
    y = torch.einsum("oc,bchw->bohw", block.proj.weight, total) + block.proj.bias[:, None, None]
    torch.testing.assert_close(block(x), y)


def test_repmlp_and_its_merged_form() -> None:
    block, x = opened(RepMLP(4, 3, 2)), maps(4, 3)
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_()  # type: ignore[union-attr]
    first, _, second = block.global_perceptron
    part = x + ((x.mean((2, 3)) @ first.weight.T + first.bias).relu() @ second.weight.T + second.bias)[..., None, None]
    groups = part.reshape(2, 2, 18)  # two channels of nine pixels each
    mixed = torch.cat([groups[:, g] @ block.fc.weight[18 * g : 18 * g + 18, :, 0, 0].T for g in (0, 1)], 1)
    y = block.fc_bn(mixed[..., None, None]).view(2, 4, 3, 3)
    for conv, norm in block.local:
        y = y + norm(F.conv2d(part, conv.weight, padding=conv.padding, groups=2))
    torch.testing.assert_close(block(x), y)
    large = torch.randn(1, 4, 7, 5, dtype=torch.float64)
    expected = block(large)
    fold_norms(nn.ModuleList([block]))
    assert not list(block.local)
    torch.testing.assert_close(block(x), y)
    torch.testing.assert_close(block(large), expected)


def test_windows_are_cut_and_joined() -> None:
    x = torch.arange(2 * 5 * 7.0).view(1, 2, 5, 7)
    cut = windows(x, 3)
    assert cut.shape == (1, 6, 9, 2)
    assert cut[0, 1, :, 0].tolist() == x[0, 0, :3, 3:6].flatten().tolist()
    assert torch.equal(unwindowed(cut, 3, x), x)
    block = MLPMixer(4, 4).eval()
    wide = torch.randn(1, 4, 8, 12)
    torch.testing.assert_close(block(wide)[..., 4:8, 8:12], block(wide[..., 4:8, 8:12]))
