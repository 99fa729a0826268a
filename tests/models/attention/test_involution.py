"""Involution against its definition, pixel by pixel."""

from __future__ import annotations

import pytest
import torch

from models.attention.involution import Involution
from tests.models.written_out import convolved, linear, relu, settled


@pytest.mark.parametrize("s", [1, 2])
def test_each_pixel_is_summed_with_a_kernel_of_its_own(s: int) -> None:
    block = Involution(6, 6, 3, s, channels=2).double().eval()
    assert block.groups == 3
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64)
    kernels, y = block.kernels(x), block(x)
    assert y.shape == ((2, 6, 5, 7) if s == 1 else (2, 6, 3, 4))
    for i, j, c in ((0, 0, 0), (1, 2, 3), (2, 3, 5)):
        total = torch.zeros(2, dtype=torch.float64)
        for u in range(3):
            for v in range(3):
                row, column = s * i + u - 1, s * j + v - 1
                if 0 <= row < 5 and 0 <= column < 7:
                    total = total + kernels[:, c // 2, 3 * u + v, i, j] * x[:, c, row, column]
        torch.testing.assert_close(y[:, c, i, j], total)


def test_at_stride_two_kernels_come_from_the_mean_of_four_pixels() -> None:
    block = settled(Involution(4, 4, 3, 2))
    x = torch.randn(1, 4, 4, 6, dtype=torch.float64)
    mean = (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4
    torch.testing.assert_close(block.kernels(x).flatten(1, 2), linear(convolved(mean, block.reduce, act=relu), block.span))


def test_weights_start_as_the_authors() -> None:
    block = Involution(256, 256, 7)
    assert block.reduce[0].weight.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.03)
    assert block.span.weight.std().item() == pytest.approx((2 / (49 * 16)) ** 0.5, rel=0.03)
    assert not block.span.bias.any()


def test_groups_divide_the_width_and_another_width_is_made_before() -> None:
    assert [Involution(c, c).groups for c in (16, 24, 40, 64, 7)] == [1, 2, 4, 4, 1]
    block = Involution(8, 12, 3, 2)
    assert block.widen.conv.weight.shape == (12, 8, 1, 1)
    with pytest.raises(ValueError, match="k must be odd"):
        Involution(8, 8, 4)
