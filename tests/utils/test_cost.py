"""Operations and parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models import build_model
from utils.cost import count_operations, gflops, parameters, uncounted


@pytest.mark.parametrize(
    ("name", "published"), [("yolov5n", 4.5), ("yolov5s", 16.5), ("yolov5m", 49.0), ("yolov5l", 109.1), ("yolov5x", 205.7)]
)
def test_operations_are_the_published_ones(name: str, published: float) -> None:
    with torch.device("meta"):
        model = build_model(name)
    assert round(gflops(model), 1) == published


def test_a_convolution_by_hand() -> None:
    conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
    assert gflops(conv, (20, 30)) == pytest.approx(2 * 3 * 8 * 9 * 10 * 15 / 1e9)
    assert gflops(nn.Sequential(conv, nn.BatchNorm2d(8)), (20, 30)) == pytest.approx((2 * 3 * 8 * 9 + 2 * 8) * 150 / 1e9)
    assert parameters(conv) == 3 * 8 * 9 + 8


def test_the_model_stays_as_it_is() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Dropout())
    model[1].eval()
    before = model[0].weight.clone()
    gflops(model, 8, ch=1)
    assert [m.training for m in model.modules()] == [True, True, False, True]
    assert torch.equal(model[0].weight, before)


def test_matrix_products_count() -> None:
    with count_operations() as operations:
        torch.rand(4, 5) @ torch.rand(5, 6)
    assert operations.giga == pytest.approx(2 * 4 * 5 * 6 / 1e9)


def test_fourier_transforms_are_counted() -> None:
    """2.5 N log2 N a map of N = 64 real numbers, there and back, 4 maps."""
    x = torch.rand(1, 4, 8, 8)
    with count_operations() as operations:
        torch.fft.irfft2(torch.fft.rfft2(x), s=(8, 8))
    assert operations.giga * 1e9 == pytest.approx(2 * 4 * 2.5 * 64 * 6)
    with count_operations() as operations:
        torch.fft.fft2(x.to(torch.complex64))
    assert operations.giga * 1e9 == pytest.approx(4 * 5 * 64 * 6)


def test_what_is_not_counted_is_named() -> None:
    conv = nn.Conv2d(4, 4, 3)
    x = torch.rand(1, 4, 8, 8)
    assert uncounted(lambda: conv(x).softmax(1).amax((2, 3))) == []
    assert uncounted(lambda: torch.fft.rfft2(x)) == []
    assert uncounted(lambda: nn.functional.grid_sample(x, torch.zeros(1, 2, 2, 2), align_corners=False)) == []
    assert uncounted(lambda: torch.cdist(x, x)) == ["aten._cdist_forward"]
