"""Concatenation whose gradients are dense."""

from __future__ import annotations

import torch

from models.layers.join import join


def test_values_and_gradients_are_those_of_cat() -> None:
    maps = [torch.randn(2, width, 3, 5).contiguous(memory_format=torch.channels_last).requires_grad_() for width in (2, 4)]
    seen: list[torch.Tensor] = []
    scaled = [m * 3 for m in maps]
    for m in scaled:
        m.register_hook(seen.append)
    joined, weight = join(*scaled), torch.randn(2, 6, 3, 5).contiguous(memory_format=torch.channels_last)
    assert torch.equal(joined, torch.cat(scaled, 1))
    (joined * weight).sum().backward()
    assert torch.equal(torch.cat([m.grad for m in maps if m.grad is not None], 1), 3 * weight)
    assert all(g.is_contiguous(memory_format=torch.channels_last) for g in seen)


def test_maps_of_two_precisions_get_gradients_of_their_own() -> None:
    low, high = torch.ones(1, 1, 1, 1, dtype=torch.bfloat16, requires_grad=True), torch.ones(1, 1, 1, 1, requires_grad=True)
    join(low, high).sum().backward()
    assert low.grad is not None
    assert low.grad.dtype is torch.bfloat16
    assert high.grad is not None
    assert high.grad.dtype is torch.float32
