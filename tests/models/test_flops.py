"""Operations and parameters."""

from __future__ import annotations

import functools
import inspect

import pytest
import torch
from torch import nn

from models import activations
from models.flops import count_operations, gflops, parameters, uncounted


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


def test_a_transposed_convolution_by_hand() -> None:
    """Each of the 20 x 30 pixels meets every weight."""
    assert gflops(nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (20, 30), ch=4) == 2 * (20 * 30) * (4 * 3 * 9) / 1e9


def test_matrix_products_count() -> None:
    for product, terms in (
        (lambda: torch.rand(4, 5) @ torch.rand(5, 6), 4 * 5 * 6),
        (lambda: torch.rand(7, 4, 5) @ torch.rand(7, 5, 6), 7 * 4 * 5 * 6),
        (lambda: torch.rand(4, 5) @ torch.rand(5), 4 * 5),
        (lambda: torch.rand(5) @ torch.rand(5), 5),
        (lambda: torch.addmv(torch.rand(4), torch.rand(4, 5), torch.rand(5)), 4 * 5),
        (lambda: torch.baddbmm(torch.rand(7, 4, 6), torch.rand(7, 4, 5), torch.rand(7, 5, 6)), 7 * 4 * 5 * 6),
        (lambda: torch.einsum("bij,bjk->bik", torch.rand(7, 4, 5), torch.rand(7, 5, 6)), 7 * 4 * 5 * 6),
        (lambda: nn.functional.linear(torch.rand(2, 4, 5), torch.rand(6, 5), torch.rand(6)), 2 * 4 * 5 * 6),
    ):
        with count_operations() as operations:
            product()
        assert operations.total == 2 * terms
        with torch.inference_mode(), count_operations() as operations:  # where composite operators arrive whole
            product()
        assert operations.total == 2 * terms


@pytest.mark.parametrize("device", ["meta", "cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("training", [False, True])
def test_attention_and_norms_count_the_same_wherever_they_run(device: str, training: bool) -> None:
    """Heads of 12 numbers, which fused kernels of a GPU pad to 16; 10 queries, 20 keys."""
    q, k, v = (torch.rand(2, 3, n, d, device=device) for n, d in ((10, 12), (20, 12), (20, 8)))
    with count_operations() as operations:
        nn.functional.scaled_dot_product_attention(q, k, v)
    assert operations.total == 2 * 2 * 3 * 10 * 20 * (12 + 8)
    attention = nn.MultiheadAttention(24, 2, batch_first=True, device=device).train(training)
    x = torch.rand(2, 10, 24, device=device)
    with torch.no_grad(), count_operations() as operations:
        attention(x, x, x)
    assert operations.total == 2 * 2 * (10 * 24 * 24 * 4 + 2 * 10 * 10 * 24)
    norm = nn.BatchNorm2d(4, device=device).train(training)
    with count_operations() as operations:
        norm(torch.rand(2, 4, 5, 6, device=device))
    assert operations.total == 2 * (2 * 4 * 5 * 6)
    assert torch.backends.mha.get_fastpath_enabled()


def test_fourier_transforms_are_counted() -> None:
    """2.5 N log2 N a map of N = 64 real numbers, there and back, 4 maps."""
    x = torch.rand(1, 4, 8, 8)
    with count_operations() as operations:
        torch.fft.irfft2(torch.fft.rfft2(x), s=(8, 8))
    assert operations.giga * 1e9 == pytest.approx(2 * 4 * 2.5 * 64 * 6)
    with count_operations() as operations:
        torch.fft.fft2(x.to(torch.complex64))
    assert operations.giga * 1e9 == pytest.approx(4 * 5 * 64 * 6)


@pytest.mark.parametrize("name", activations._TABLE)
def test_activations_are_not_worth_counting(name: str) -> None:
    layer = activations._TABLE[name]
    for keywords in [{}, {"inplace": True}] if "inplace" in inspect.signature(layer).parameters else [{}]:
        activation = layer(**keywords)
        assert uncounted(functools.partial(activation, torch.rand(1, 4, 8, 8))) == []


def test_what_is_not_counted_is_named() -> None:
    conv = nn.Conv2d(4, 4, 3)
    x = torch.rand(1, 4, 8, 8)
    assert uncounted(lambda: conv(x).softmax(1).amax((2, 3))) == []
    assert uncounted(lambda: torch.fft.rfft2(x)) == []
    assert uncounted(lambda: nn.functional.grid_sample(x, torch.zeros(1, 2, 2, 2), align_corners=False)) == []
    assert uncounted(lambda: torch.cdist(x, x)) == ["aten._cdist_forward"]


def test_copies_and_creations_are_not_worth_counting() -> None:
    x = torch.rand(1, 4, 8, 8)
    patches = nn.functional.unfold(x, 2)
    assert uncounted(lambda: nn.functional.fold(patches, (8, 8), 2)) == []
    assert uncounted(lambda: (nn.functional.unfold(x, 2), torch.diag_embed(x), torch.linspace(0, 1, 8))) == []
