"""Blocks that mix positions as they are commonly written: tokens, permuted lines, windows by unfold and fold."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention.criss_cross import CrissCross
from models.attention.efficient import EMSA
from models.attention.external import ExternalAttention
from models.attention.linear_attention import AFT, UFOAttention
from models.attention.mobilevit import MobileViTv2Attention
from models.attention.repmlp import RepMLP
from models.attention.s2 import S2Attention
from models.layers.csp import C3TR


def unfolded(kind: type[nn.Module]) -> type[nn.Module]:
    """An MLP over the positions of windows that unfold cuts and fold joins."""

    class Unfolded(kind):  # type: ignore[misc, valid-type]
        def forward(self, x: Tensor) -> Any:
            batch, channels, height, width = x.shape
            size = self.size
            padded = F.pad(x, (0, -width % size, 0, -height % size))
            patches = F.unfold(padded, size, stride=size)  # (B, C * size^2, windows)
            cut = patches.view(batch, channels, size, size, -1).permute(0, 4, 2, 3, 1).reshape(-1, size, size, channels)
            mixed = self.mix(cut).view(batch, -1, size, size, channels).permute(0, 4, 2, 3, 1)
            return F.fold(mixed.reshape(patches.shape), padded.shape[2:], size, stride=size)[..., :height, :width]

    return Unfolded


def on_tokens(conv: nn.Module, tokens: Tensor) -> Tensor:
    """A 1x1 convolution as a linear layer of tokens, (B, N, C) -> (B, N, C')."""
    bias = conv.get_parameter("bias") if conv.bias is not None else None
    return F.linear(tokens, conv.get_parameter("weight").flatten(1), bias)


def tokens_of(x: Tensor) -> Tensor:
    return x.flatten(2).permute(0, 2, 1).contiguous()


def maps_of(tokens: Tensor, x: Tensor) -> Tensor:
    return tokens.permute(0, 2, 1).reshape(x.shape)


class MaskedCrissCross(CrissCross):
    """Lines in the place of images, products of matrices, and a mask of infinities, as the authors have it."""

    def _once(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        columns, rows = [], []
        for t in (self.query_conv(x), self.key_conv(x), self.value_conv(x)):
            columns.append(t.permute(0, 3, 1, 2).contiguous().view(batch * width, -1, height))
            rows.append(t.permute(0, 2, 1, 3).contiguous().view(batch * height, -1, width))
        mask = -torch.diag(torch.full((height,), float("inf"))).unsqueeze(0).repeat(batch * width, 1, 1)
        mask = torch.where(mask.isnan(), 0.0, mask)
        down = (torch.bmm(columns[0].permute(0, 2, 1), columns[1]) + mask).view(batch, width, height, height).permute(0, 2, 1, 3)
        across = torch.bmm(rows[0].permute(0, 2, 1), rows[1]).view(batch, height, width, width)
        weights = torch.cat((down, across), 3).softmax(3)
        by_column = weights[..., :height].permute(0, 2, 1, 3).contiguous().view(batch * width, height, height)
        by_row = weights[..., height:].contiguous().view(batch * height, width, width)
        from_column = torch.bmm(columns[2], by_column.permute(0, 2, 1)).view(batch, width, -1, height).permute(0, 2, 3, 1)
        from_row = torch.bmm(rows[2], by_row.permute(0, 2, 1)).view(batch, height, -1, width).permute(0, 2, 1, 3)
        return self.gamma * (from_column + from_row) + x


class TokenUFO(UFOAttention):
    """Linear layers of tokens, heads permuted."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = tokens_of(x)
        batch, count, channels = tokens.shape
        qkv = on_tokens(self.qkv, tokens).view(batch, count, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).contiguous().unbind(0)  # (B, heads, N, d)
        context = k.transpose(2, 3) @ v
        context = context / context.norm(dim=3, keepdim=True) * self.gamma
        y = q / q.norm(dim=3, keepdim=True) * self.gamma @ context
        return maps_of(on_tokens(self.proj, y.transpose(1, 2).reshape(batch, count, channels)), x)


class FullAFT(AFT):
    """The biases as an N x N matrix for each head, a product with all pixels."""

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        q, k, v = self.qkv(x).flatten(2).chunk(3, 1)  # (B, C, N)
        weights = (k - k.amax(2, keepdim=True)).exp()
        near = F.unfold(torch.eye(height * width).view(-1, 1, height, width), self.rel.shape[2], padding=self.rel.shape[2] // 2)
        matrix = torch.einsum("jti,ht->hij", near, self._kernel().flatten(1)) + 1  # exp(bias): 1 outside the window
        total, norm = (torch.einsum("hij,bhcj->bhci", matrix, t.unflatten(1, (self.heads, -1))) for t in (weights * v, weights))
        y = q.sigmoid() * (total / norm).flatten(1, 2)
        return self.proj(y.view(batch, channels, height, width))


class TokenExternal(ExternalAttention):
    """Linear layers of tokens."""

    def forward(self, x: Tensor) -> Tensor:
        logits = on_tokens(self.keys, on_tokens(self.conv1, tokens_of(x)))  # (B, N, memory)
        weights = logits.softmax(1)
        weights = weights / (1e-9 + weights.sum(2, keepdim=True))
        y = maps_of(on_tokens(self.values, weights), x)
        return F.relu(self.bn(self.conv2(y)) + x)


class TokenEMSA(EMSA):
    """Linear layers of tokens, heads permuted, PyTorch's instance norm."""

    def forward(self, x: Tensor) -> Tensor:
        batch, channels = x.shape[:2]
        n = self.norm(x)
        q = on_tokens(self.q, tokens_of(n)).view(batch, -1, self.heads, channels // self.heads).permute(0, 2, 1, 3)
        small = on_tokens(self.kv, tokens_of(self.sr_norm(self.sr(n))))
        k, v = small.view(batch, -1, 2, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        weights = self.mix(q @ k.permute(0, 1, 3, 2) / q.shape[3] ** 0.5).softmax(-1)
        y = (F.instance_norm(weights) @ v).permute(0, 2, 1, 3).contiguous().view(batch, -1, channels)
        return x + maps_of(on_tokens(self.proj, y), x)


class UnfoldedMobileViTv2(MobileViTv2Attention):
    """Patches by unfold, joined by fold."""

    def forward(self, x: Tensor) -> Tensor:
        p, (batch, channels, height, width) = self.patch_size, x.shape
        *layers, norm = self.layers
        y = F.unfold(self.local(x), p, stride=p).reshape(batch, channels, p * p, -1)
        for layer in layers:
            z = layer.norm1(y)
            context = (layer.key(z) * layer.score(z).softmax(3)).sum(3, keepdim=True)
            y = y + layer.out(F.relu(layer.value(z)) * context)
            y = y + layer.fc2(F.silu(layer.fc1(layer.norm2(y))))
        return self.proj(F.fold(norm(y).reshape(batch, channels * p * p, -1), (height, width), p, stride=p))


class GroupedRepMLP(RepMLP):
    """The fully connected layer as a grouped 1x1 convolution."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.fc.__class__ = nn.Conv2d


class WrittenS2(S2Attention):
    """Shifts written into copies, channels last."""

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = self.mlp1(x if self.norm is None else self.norm(x)).chunk(3, 1)
        a, b = (_written(t.permute(0, 2, 3, 1), axes).permute(0, 3, 1, 2) for t, axes in ((a, (1, 2)), (b, (2, 1))))
        y = self.mlp2(self.split_attention([a, b, c]))
        return y if self.norm is None else x + y


def _written(x: Tensor, axes: tuple[int, int]) -> Tensor:
    y, parts = x.clone(), x.tensor_split(4, 3)
    for target, part, axis, forwards in zip(y.tensor_split(4, 3), parts, (*axes[:1] * 2, *axes[1:] * 2), (True, False) * 2, strict=True):
        last = part.shape[axis] - 1
        to, source = (1, 0) if forwards else (0, 1)
        target.narrow(axis, to, last).copy_(part.narrow(axis, source, last))
    return y


class ModuleC3TR(C3TR):
    """PyTorch's MultiheadAttention, which computes the attention weights too."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv1(x)
        tokens = y.flatten(2).permute(2, 0, 1)  # (N, B, C)
        tokens = tokens + self.m.linear(tokens)
        for layer in self.m.tr:
            tokens = layer.ma(layer.q(tokens), layer.k(tokens), layer.v(tokens))[0] + tokens
            tokens = layer.fc2(layer.fc1(tokens)) + tokens
        y = tokens.permute(1, 2, 0).reshape(y.shape)
        return self.cv3(torch.cat((y, self.cv2(x)), 1))
