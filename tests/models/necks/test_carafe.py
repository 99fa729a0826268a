"""CARAFE against its definition, pixel by pixel."""

from __future__ import annotations

import torch
from torch import nn

from models.necks.carafe import CARAFE


def test_each_output_pixel_is_a_mean_around_its_input_pixel() -> None:
    block = CARAFE(3, 3, 2, compressed=4).double()
    nn.init.normal_(block.encode.weight)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    y = block(x)
    assert y.shape == (2, 3, 8, 10)
    logits = block.encode(block.compress(x))
    assert logits.shape[1] == 4 * 25
    # The authors: pixel_shuffle of the logits, then a softmax over the 25 taps of each output pixel.
    taps = nn.functional.pixel_shuffle(logits, 2).softmax(1)
    for i, j in ((0, 0), (1, 4), (5, 7), (7, 9)):
        total = torch.zeros(2, 3, dtype=torch.float64)
        for u in range(5):
            for v in range(5):
                row, column = i // 2 + u - 2, j // 2 + v - 2
                if 0 <= row < 4 and 0 <= column < 5:
                    total = total + taps[:, 5 * u + v, None, i, j] * x[:, :, row, column]
        torch.testing.assert_close(y[:, :, i, j], total)


def test_kernels_are_normalised_and_start_nearly_flat() -> None:
    block = CARAFE(64)
    kernels = block.kernels(torch.randn(1, 64, 6, 6))
    assert kernels.shape == (1, 4, 25, 6, 6)
    torch.testing.assert_close(kernels.sum(2), torch.ones(1, 4, 6, 6))
    assert (kernels - 1 / 25).abs().max().item() < 0.005
    assert block.k_up == 5
    assert CARAFE(8, 1, 3, 7).k_up == 7
