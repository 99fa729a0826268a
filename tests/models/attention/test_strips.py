"""Gates from strips and large kernels, each against its formula in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention.large_kernel import LSK, LSKA
from models.attention.prior import CPCA
from models.attention.strip import CAA, ELA
from models.attention.synergy import SCSA
from tests.models.written_out import opened

pytestmark = pytest.mark.usefixtures("no_gradients")


def maps(channels: int, height: int = 9, width: int = 11) -> Tensor:
    return torch.randn(2, channels, height, width, dtype=torch.double)


def grouped(x: Tensor, groups: int, norm: nn.Module) -> Tensor:
    """A group norm of (B, C, ...), written out."""
    y = x.reshape(2, groups, -1)
    y = (y - y.mean(2, keepdim=True)) / (y.var(2, keepdim=True, correction=0) + norm.eps).sqrt()
    shape = (-1, *[1] * (x.dim() - 2))
    return y.reshape(x.shape) * norm.weight.view(shape) + norm.bias.view(shape)


def test_ela() -> None:
    block, x = opened(ELA(8, 5, 4)), maps(8)
    rows = grouped(F.conv1d(x.mean(3), block.conv_h.weight, padding=2, groups=8), 4, block.gn_h).sigmoid()
    columns = grouped(F.conv1d(x.mean(2), block.conv_w.weight, padding=2, groups=8), 4, block.gn_w).sigmoid()
    torch.testing.assert_close(block(x), torch.einsum("bchw,bch,bcw->bchw", x, rows, columns))


def test_caa() -> None:
    block, x = opened(CAA(6, 5)), maps(6)
    y = F.conv2d(x, torch.full((6, 1, 7, 7), 1 / 49, dtype=torch.double), padding=3, groups=6)  # zeros beyond the border count
    y = F.silu(block.bn1(F.conv2d(y, block.conv1.weight)))
    # A row strip and a column strip are one kernel of their product, but for the bias of the first.
    y = F.conv2d(y, block.h_conv.weight, block.h_conv.bias, padding=(0, 2), groups=6)
    y = F.conv2d(y, block.v_conv.weight, block.v_conv.bias, padding=(2, 0), groups=6)
    torch.testing.assert_close(block(x), x * F.silu(block.bn2(F.conv2d(y, block.conv2.weight))).sigmoid())


def test_cpca_sums_inside_one_sigmoid() -> None:
    block, x = opened(CPCA(8, 2)), maps(8)

    def mlp(v: Tensor) -> Tensor:
        return F.relu(v @ block.fc1.weight[:, :, 0, 0].T + block.fc1.bias) @ block.fc2.weight[:, :, 0, 0].T + block.fc2.bias

    y = x * (mlp(x.mean((2, 3))) + mlp(x.amax((2, 3)))).sigmoid()[..., None, None]
    near = total = F.conv2d(y, block.near.weight, block.near.bias, padding=2, groups=8)
    for k, (across, down) in zip((7, 11, 21), block.strips, strict=True):
        z = F.conv2d(near, across.weight, across.bias, padding=(0, k // 2), groups=8)
        total = total + F.conv2d(z, down.weight, down.bias, padding=(k // 2, 0), groups=8)
    torch.testing.assert_close(block(x), y * F.conv2d(total, block.conv.weight, block.conv.bias))


def test_scsa_by_place_then_by_channel() -> None:
    block, x = opened(SCSA(8, 2, 4)), maps(8, 8, 12)

    def line(means: Tensor, norm: nn.Module) -> Tensor:
        quarters = [
            F.conv1d(means[:, 2 * i : 2 * i + 2], block.strips[i].weight, block.strips[i].bias, padding=k // 2, groups=2)
            for i, k in enumerate((3, 5, 7, 9))
        ]
        return grouped(torch.cat(quarters, 1), 4, norm).sigmoid()

    y = torch.einsum("bchw,bch,bcw->bchw", x, line(x.mean(3), block.norm_h), line(x.mean(2), block.norm_w))
    tokens = grouped(y.unflatten(3, (3, 4)).unflatten(2, (2, 4)).mean((3, 5)), 1, block.norm).flatten(2)  # (B, C, 6)
    q, k, v = (tokens * conv.weight.view(1, -1, 1) for conv in (block.q, block.k, block.v))
    gates = []
    for head in (slice(0, 4), slice(4, 8)):
        weights = (torch.einsum("bin,bjn->bij", q[:, head], k[:, head]) / 2).softmax(2)
        gates.append((weights @ v[:, head]).mean(2))
    torch.testing.assert_close(block(x), y * torch.cat(gates, 1).sigmoid()[..., None, None])


@pytest.mark.parametrize(
    ("kernel", "near", "far", "dilation"), [(7, 3, 3, 2), (11, 3, 5, 2), (23, 5, 7, 3), (35, 5, 11, 3), (41, 5, 13, 3), (53, 5, 17, 3)]
)
def test_lska_has_the_strips_of_the_papers_table(kernel: int, near: int, far: int, dilation: int) -> None:
    block = LSKA(4, kernel)
    assert block.conv0h.kernel_size == (1, near)
    assert block.conv0v.kernel_size == (near, 1)
    assert block.conv_spatial_h.kernel_size == (1, far)
    assert block.conv_spatial_h.dilation == (1, dilation)
    assert block.conv_spatial_v.kernel_size == (far, 1)


def test_lska_is_a_product_of_large_kernels() -> None:
    block, x = opened(LSKA(4, 11)), maps(4, 20, 21)
    for conv in (block.conv0h, block.conv0v, block.conv_spatial_h, block.conv_spatial_v):
        conv.bias.zero_()
    spread = torch.zeros(4, 9, 9, dtype=torch.double)  # five taps, two apart
    spread[:, ::2, ::2] = torch.einsum("ci,cj->cij", block.conv_spatial_v.weight[:, 0, :, 0], block.conv_spatial_h.weight[:, 0, 0])
    small = torch.einsum("ci,cj->cij", block.conv0v.weight[:, 0, :, 0], block.conv0h.weight[:, 0, 0])
    y = F.conv2d(F.conv2d(x, small[:, None], padding=1, groups=4), spread[:, None], padding=4, groups=4)
    torch.testing.assert_close(block(x), x * F.conv2d(y, block.conv1.weight, block.conv1.bias))


def test_lsk_chooses_between_two_fields() -> None:
    block, x = opened(LSK(8)), maps(8)
    near = F.conv2d(x, block.conv0.weight, block.conv0.bias, padding=2, groups=8)
    far = F.conv2d(near, block.conv_spatial.weight, block.conv_spatial.bias, padding=9, dilation=3, groups=8)
    a, b = block.conv1(near), block.conv2(far)
    pooled = torch.stack((torch.cat((a, b), 1).mean(1), torch.cat((a, b), 1).max(1).values), 1)
    share = F.conv2d(pooled, block.conv_squeeze.weight, block.conv_squeeze.bias, padding=3).sigmoid()
    torch.testing.assert_close(block(x), x * block.conv(a * share[:, 0, None] + b * share[:, 1, None]))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: LSKA(8, 5), "kernel_size must be 7 or more, not 5"),
        (lambda: LSKA(8, 12), "kernel_size must be odd, not 12"),
        (lambda: ELA(8, 4), "kernel_size must be odd, not 4"),
        (lambda: SCSA(6), "channels must be a multiple of 4, not 6"),
        (lambda: SCSA(8, kernels=(3, 5, 6, 9)), "kernels must be odd, not 6"),
    ],
)
def test_refuses_what_it_cannot_serve(make: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()
