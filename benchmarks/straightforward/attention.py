"""Windows by unfold and fold, and an explicit softmax of Q K."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention.acmix import ACmix
from models.attention.bot import MHSA
from models.attention.cat import CAB
from models.attention.convnext import ConvNextBlock
from models.attention.cot import CoT, CoXt
from models.attention.gnconv import GnConv
from models.attention.involution import Involution
from models.attention.outlook import OutlookAttention
from models.necks.carafe import CARAFE


class UnfoldedCoT(CoT):
    """k*k copies of the values by unfold, multiplied by the weights and summed."""

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        size, static = self.kernel_size, self.key_embed(x)
        weights = self.embed(self.joined(x, static)).reshape(batch * self.groups, 1, -1, size * size, height, width)
        values = F.unfold(self.conv1x1(x), size, padding=size // 2)
        values = values.reshape(batch * self.groups, self.share, -1, size * size, height, width)
        dynamic = (values * weights).sum(3).reshape(batch, channels, height, width)
        return self.fused(F.silu(self.bn(dynamic)), static)


class UnfoldedCoXt(UnfoldedCoT, CoXt):
    """The same in two groups."""


class UnfoldedGnConv(GnConv):
    """The 7x7 depthwise convolution by unfold."""

    def forward(self, x: Tensor) -> Tensor:
        gate, rest = self.proj_in(x).split((self.widths[0], sum(self.widths)), 1)
        batch, total, height, width = rest.shape
        patches = F.unfold(rest, 7, padding=3).reshape(batch, total, 49, height, width)
        weight, bias = self.dwconv.weight, self.dwconv.bias
        mixed = (patches * weight.reshape(1, total, 49, 1, 1)).sum(2) + bias.view(1, total, 1, 1)
        first, *others = (mixed * self.scale).split(self.widths, 1)
        x = gate * first
        for widen, other in zip(self.pws, others, strict=True):
            x = widen(x) * other
        return self.proj_out(x)


class ExplicitMHSA(MHSA):
    """softmax(Q K + Q R) V; relative logits by padding and reshaping, then expanded over the other axis."""

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        q, k, v = self.to_qkv(x).chunk(3, 1)
        q, k, v = (t.reshape(batch, self.heads, self.dim_head, height * width).permute(0, 1, 3, 2).contiguous() for t in (q, k, v))
        q = q * self.dim_head**-0.5
        logits = torch.einsum("bnid,bnjd->bnij", q, k)
        q = q.reshape(batch, self.heads, height, width, self.dim_head)
        by_column = _relative(q, self.pos_emb.rel_width)  # (B, n, H, W, W)
        by_row = _relative(q.transpose(2, 3), self.pos_emb.rel_height)  # (B, n, W, H, H)
        by_column = by_column[:, :, :, None].expand(-1, -1, -1, height, -1, -1).permute(0, 1, 2, 4, 3, 5)
        by_row = by_row[:, :, :, None].expand(-1, -1, -1, width, -1, -1).permute(0, 1, 4, 2, 5, 3)
        logits = logits + by_column.reshape(logits.shape) + by_row.reshape(logits.shape)
        out = torch.einsum("bnij,bnjd->bnid", logits.softmax(-1), v)
        return out.permute(0, 1, 3, 2).reshape(batch, -1, height, width)


def _relative(q: Tensor, table: Tensor) -> Tensor:
    """Convert logits of offsets to logits of positions: (B, n, Y, X, d) with (2X - 1, d) -> (B, n, Y, X, X)."""
    batch, heads, rows, length, _ = q.shape
    by_offset = torch.einsum("bnyxd,rd->bnyxr", q, table).reshape(batch, heads * rows, length, 2 * length - 1)
    padded = F.pad(F.pad(by_offset, (0, 1)).flatten(2), (0, length - 1))
    return padded.reshape(batch, heads * rows, length + 1, 2 * length - 1)[:, :, :length, length - 1 :].reshape(
        batch, heads, rows, length, length
    )


class ExplicitCAB(CAB):
    """Windows and patches by unfold and fold, explicit softmax(Q K) V, norms on permuted maps."""

    def forward(self, x: Tensor) -> Tensor:
        for first, cross, last in zip(self.pre_ipsa_blocks, self.cpsa_blocks, self.post_ipsa_blocks, strict=True):
            for block, attend in ((first, _inner), (cross, _across), (last, _inner)):
                x = x + _mixed(block, x, attend)
                x = x + block.mlp(block.norm2(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2).contiguous()
        return x


def _mixed(block: nn.Module, x: Tensor, attend: object) -> Tensor:
    patch, (batch, channels, height, width) = block.patch_size, x.shape
    x = block.norm1(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()
    x = F.pad(x, (0, -width % patch, 0, -height % patch))
    patches = F.unfold(x, patch, stride=patch)  # (B, C * P * P, patches)
    count = patches.shape[2]
    out = attend(block.attn, patches.reshape(batch, channels, patch * patch, count))
    return F.fold(out.reshape(batch, -1, count), x.shape[2:], patch, stride=patch)[..., :height, :width]


def _inner(attn: nn.Module, patches: Tensor) -> Tensor:
    """Attention between the pixels of a patch: (B, C, P * P, patches) -> the same."""
    batch, channels, pixels, count = patches.shape
    tokens = patches.permute(0, 3, 2, 1).reshape(batch * count, pixels, channels)
    q, k, v = attn.qkv(tokens).chunk(3, -1)
    q, k, v = (t.reshape(batch * count, pixels, attn.heads, -1).permute(0, 2, 1, 3).contiguous() for t in (q, k, v))
    bias = attn.relative_position_bias_table[attn.relative_position_index].permute(2, 0, 1)
    logits = q * q.shape[-1] ** -0.5 @ k.transpose(2, 3) + bias
    out = (logits.softmax(-1) @ v).permute(0, 2, 1, 3).reshape(batch * count, pixels, channels)
    return attn.proj(out).reshape(batch, count, pixels, channels).permute(0, 3, 2, 1).contiguous()


def _across(attn: nn.Module, patches: Tensor) -> Tensor:
    """Attention between the patches of a channel: (B, C, P * P, patches) -> the same."""
    batch, channels, pixels, count = patches.shape
    tokens = patches.permute(0, 1, 3, 2).reshape(batch * channels, count, pixels)
    q, k, v = attn.qkv(tokens).chunk(3, -1)
    logits = q * pixels**-0.5 @ k.transpose(1, 2)
    out = attn.proj(logits.softmax(-1) @ v)
    return out.reshape(batch, channels, count, pixels).permute(0, 1, 3, 2).contiguous()


class UnfoldedInvolution(Involution):
    """Copies all k * k neighbours, as the authors' version without CUDA."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.widen(x)
        kernels = self.kernels(x)
        batch, groups, taps, height, width = kernels.shape
        neighbours = F.unfold(x, self.k, padding=self.k // 2, stride=self.s).reshape(batch, groups, -1, taps, height, width)
        return (neighbours * kernels.unsqueeze(2)).sum(3).flatten(1, 2)


class UnfoldedCARAFE(CARAFE):
    """Copies all k * k neighbours, and a matrix product for each pixel."""

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        kernels = self.kernels(x).flatten(3).permute(0, 3, 2, 1)  # (B, H * W, k * k, scale * scale)
        neighbours = F.unfold(x, self.k_up, padding=self.k_up // 2).reshape(batch, channels, self.k_up**2, -1).permute(0, 3, 1, 2)
        out = (neighbours @ kernels).permute(0, 2, 3, 1).reshape(batch, -1, height, width)
        return F.pixel_shuffle(out, self.scale)


class UnfoldedACmix(ACmix):
    """The windows of keys, positions and values by unfold of the mirrored maps."""

    def _attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        batch, channels, height, width = q.shape
        size, edge = self.kernel_att, self.kernel_att // 2
        q, k, v = (t.reshape(batch * self.head, -1, height, width) for t in (q, k, v))
        rows = torch.linspace(-1, 1, height).to(q)[:, None].expand(height, width)
        columns = torch.linspace(-1, 1, width).to(q).expand(height, width)
        position = F.conv2d(torch.stack((columns, rows))[None], self.conv_p.weight)

        def windows(t: Tensor) -> Tensor:
            near = F.unfold(F.pad(t, [edge] * 4, mode="reflect"), size)
            return near.reshape(len(t), -1, size * size, height, width)

        near = windows(k) + position[:, :, None] - windows(position)
        weights = (q[:, :, None] * q.shape[1] ** -0.5 * near).sum(1).softmax(1)
        return (windows(v) * weights[:, None]).sum(2).reshape(batch, channels, height, width)


class FoldedOutlook(OutlookAttention):
    """unfold, a product, fold."""

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        size, taps = self.kernel_size, self.kernel_size**2
        values = F.unfold(self.v(x), size, padding=size // 2)
        values = values.reshape(batch, self.heads, -1, taps, height * width).permute(0, 1, 4, 3, 2)
        logits = self.attn(x).reshape(batch, self.heads, taps, taps, height * width).permute(0, 1, 4, 2, 3)
        mixed = (logits * (channels // self.heads) ** -0.5).softmax(4) @ values
        mixed = mixed.permute(0, 1, 4, 3, 2).reshape(batch, -1, height * width)
        return self.proj(F.fold(mixed, (height, width), size, padding=size // 2))


class ConvolvedConvNextBlock(ConvNextBlock):
    """The norm by its formula and the MLP by 1x1 convolutions, without a change of the layout."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.dwconv(x)
        mean = y.mean(1, keepdim=True)
        y = (y - mean) / ((y - mean).square().mean(1, keepdim=True) + self.norm.eps).sqrt()
        y = y * self.norm.weight.view(-1, 1, 1) + self.norm.bias.view(-1, 1, 1)
        y = F.gelu(F.conv2d(y, self.pwconv1.weight[..., None, None], self.pwconv1.bias))
        y = F.conv2d(y, self.pwconv2.weight[..., None, None], self.pwconv2.bias)
        return x + self.gamma.view(-1, 1, 1) * y
