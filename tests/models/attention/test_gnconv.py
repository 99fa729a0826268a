"""gnConv, its global-local filter and HorBlock against the paper's equations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.attention.gnconv import GlobalLocalFilter, GnConv, HorBlock


@torch.no_grad()
def test_order_three_by_hand() -> None:
    block = GnConv(8, order=3, s=1 / 3).double()
    x = torch.randn(2, 8, 5, 6, dtype=torch.double)
    projected = F.conv2d(x, block.proj_in.weight, block.proj_in.bias)
    p0, q = projected[:, :2], projected[:, 2:]
    q = F.conv2d(q, block.dwconv.weight, block.dwconv.bias, padding=3, groups=14) / 3
    p = p0 * q[:, :2]
    p = block.pws[0](p) * q[:, 2:6]
    p = block.pws[1](p) * q[:, 6:14]
    torch.testing.assert_close(block(x), block.proj_out(p))


@pytest.mark.parametrize(("channels", "order", "parameters"), [(128, 3, 71_200), (256, 5, 266_200), (512, 3, 997_000)])
def test_cost_is_the_published_one(channels: int, order: int, parameters: int) -> None:
    assert sum(p.numel() for p in GnConv(channels, order).parameters()) == pytest.approx(parameters, rel=2e-3)


@torch.no_grad()
def test_global_half_is_a_circular_convolution() -> None:
    block = GlobalLocalFilter(4, 5, 4).double()
    spectrum = torch.fft.rfft2(torch.randn(2, 5, 6, dtype=torch.float64))
    block.complex_weight.copy_(torch.view_as_real(spectrum))
    x = torch.randn(1, 4, 5, 6, dtype=torch.float64)
    normed = F.layer_norm(x.permute(0, 2, 3, 1), (4,), eps=1e-6).permute(0, 3, 1, 2)
    kernel = torch.fft.irfft2(spectrum, s=(5, 6))
    expected = torch.zeros(1, 2, 5, 6, dtype=torch.float64)
    for dy in range(5):
        for dx in range(6):
            expected += kernel[:, dy, dx].view(1, 2, 1, 1) * normed[:, 2:].roll((dy, dx), (2, 3))
    near = F.conv2d(normed[:, :2], block.dw.weight, padding=1, groups=2)
    joined = torch.stack((near[:, 0], expected[:, 0], near[:, 1], expected[:, 1]), 1)
    expected = F.layer_norm(joined.permute(0, 2, 3, 1), (4,), eps=1e-6).permute(0, 3, 1, 2)
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-5)  # its transforms are in float32


def test_filter_is_itself_at_the_native_size_and_resized_elsewhere() -> None:
    block = GlobalLocalFilter(6)
    assert torch.equal(torch.view_as_real(block.spectrum(14, 14)), block.complex_weight)
    resized = torch.view_as_real(block.spectrum(27, 28))
    assert resized.shape == (3, 27, 15, 2)
    torch.testing.assert_close(resized[:, ::2, ::2], block.complex_weight)  # align_corners: every second row is a native one


@torch.no_grad()
def test_block_is_two_scaled_residuals() -> None:
    block = HorBlock(8, order=2, layer_scale=0.5).double().eval()
    x = torch.randn(1, 8, 4, 5, dtype=torch.float64)
    first = x + 0.5 * block.gnconv(F.layer_norm(x.permute(0, 2, 3, 1), (8,), eps=1e-6).permute(0, 3, 1, 2))
    tokens = F.layer_norm(first.permute(0, 2, 3, 1), (8,), eps=1e-6)
    tokens = F.gelu(tokens @ block.pwconv1.weight.T + block.pwconv1.bias) @ block.pwconv2.weight.T + block.pwconv2.bias
    torch.testing.assert_close(block(x), first + 0.5 * tokens.permute(0, 3, 1, 2))


def test_default_starts_close_to_the_identity() -> None:
    x = torch.randn(1, 16, 6, 6)
    torch.testing.assert_close(HorBlock(16)(x), x, atol=1e-4, rtol=0)


def test_drop_path_drops_whole_samples_in_training_only() -> None:
    block = HorBlock(8, order=2, layer_scale=1.0, drop_path=0.5)
    x = torch.randn(64, 8, 3, 3)
    kept = (block.train()(x) - x).abs().amax((1, 2, 3)) > 1e-6
    assert 0.5 < kept.float().mean() < 0.95  # either of two branches survives: 3 in 4
    torch.testing.assert_close(block.eval()(x), block(x))


@pytest.mark.parametrize("channels", [4, 12, 20, 24, 40])
@pytest.mark.parametrize("gf", [False, True])
def test_every_width_a_scaled_yolo_has(channels: int, gf: bool) -> None:
    block = GnConv(channels, order=5, gf=gf)
    x = torch.randn(1, channels, 7, 9)
    block(x).sum().backward()
    assert block(x).shape == x.shape
    assert all(p.grad is not None and p.grad.isfinite().all() for p in block.parameters())


def test_refuses_order_zero() -> None:
    with pytest.raises(ValueError, match="order must be at least 1, not 0"):
        GnConv(8, order=0)


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("gnconv", GnConv(32, 2)),
        ("gnconv_gf", GnConv(32, 4, gf=True)),
        ("gf", GlobalLocalFilter(24)),
        ("horblock", HorBlock(32, 3)),
        ("horblock_gf", HorBlock(32, 4, gf=True)),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_names_and_shapes_are_the_authors(authors: Callable[[str], dict[str, Any]], name: str, block: nn.Module) -> None:
    assert {key: tuple(tensor.shape) for key, tensor in block.state_dict().items()} == authors(name)
