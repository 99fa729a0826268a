"""A line of YAML that asks for more than any machine has is refused before anything is allocated."""

from __future__ import annotations

import resource
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import build_model, registry, size_limit
from utils.errors import UserError

HEAD = [[[0, 0, 0], 1, "Detect", ["nc", "anchors"]]]


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kB


@pytest.mark.parametrize(
    "row",
    [
        [-1, 1, "Conv", [65000, 3000]],
        [-1, 1, "Conv", [64, 10**6]],
        [-1, 1, "Conv", [65536, 65535]],
        [-1, 1, "HorNet", [64, [1000, 10000, 1000, 1000]]],
        [-1, 1, "CoTNet", {"depths": [100000, 1, 1, 1]}],
        [-1, 1000, "C3", [64]],
        [-1, 1, "C3", [65536]],
    ],
    ids=str,
)
def test_too_large(row: list[Any]) -> None:
    before = peak()
    with pytest.raises(UserError):
        build_model({"nc": 2, "anchors": 3, "depth_multiple": 100, "backbone": [row], "head": HEAD})
    assert peak() - before < 3_000_000


def test_the_sum_of_many_rows_is_counted_before_it_is_allocated() -> None:
    before = peak()
    with pytest.raises(UserError, match=r"row 4 \(Conv\): asks for more than 536870912 weights"):  # 4096 * 4096 * 9 each: 3.6 fit
        build_model({"nc": 2, "anchors": 3, "backbone": [[-1, 1, "Conv", [4096, 3]]] * 7, "head": HEAD})
    assert peak() - before < 400_000


def test_a_module_that_cannot_be_counted_without_memory_is_built_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size_limit, "UNCOUNTED", 100)

    @registry.register(registry.preserve, name="Reads", example=())
    class Reads(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(channels) * float(torch.ones(1)))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale.view(-1, 1, 1)

    backbone = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Reads", []]]
    try:
        model = build_model({"nc": 2, "anchors": 3, "backbone": backbone, "head": [[[1, 1, 1], 1, "Detect", ["nc", "anchors"]]]})
    finally:
        del registry._ENTRIES["Reads"]
    assert torch.equal(model.model[1].scale, torch.ones(16))


def test_counting_does_not_change_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"nc": 2, "anchors": 3, "backbone": [[-1, 1, "Conv", [16, 3]]] * 5, "head": HEAD}
    before = build_model(table).state_dict()
    monkeypatch.setattr(size_limit, "UNCOUNTED", 1000)
    monkeypatch.setattr(size_limit, "MAX_MODULES", 30)  # it has 22, which are not counted twice
    after = build_model(table).state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_says_which_row() -> None:
    with pytest.raises(UserError, match=r"row 0 \(Conv\): asks for more than 536870912 weights"):
        build_model({"nc": 2, "anchors": 3, "backbone": [[-1, 1, "Conv", [65000, 3000]]], "head": HEAD})


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: F.interpolate(x, scale_factor=5000),
        lambda x: F.interpolate(x, (20_000, 20_000)),
        lambda x: F.interpolate(x, size=20_000),
        lambda x: F.pad(x, (0, 0, 20_000, 20_000, 0, 5000)),
        lambda x: F.conv2d(x, torch.zeros(1, 3, 1, 1), padding=20_000),
        lambda x: F.conv_transpose2d(x, torch.zeros(3, 1, 1, 1), stride=5000),
        lambda x: x.repeat(1, 5000, 50, 50),
        lambda x: x.reshape(192, 1) @ torch.zeros(1, 10**6),
    ],
)
def test_activations_are_bounded_before_they_are_computed(compute, monkeypatch):
    """PyTorch's own function is never reached: the resident memory stays as it is."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="numbers for a small image"), size_limit.activations_bounded():
        compute(torch.zeros(1, 3, 8, 8))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 3_000_000  # kB


def test_work_is_bounded_in_all():
    x, limits = torch.rand(1, 4, 6, 8), size_limit.activations_bounded()
    with limits:
        F.conv2d(x, torch.rand(6, 2, 1, 1), groups=2)
        assert limits.work == 6 * 6 * 8 * 2
        F.linear(x, torch.rand(5, 8))
        assert limits.work == 576 + 4 * 6 * 5 * 8
    with limits:
        F.scaled_dot_product_attention(x, x, x)
        assert limits.work == 1536 + 4 * 6 * 6 * 8 * 4
        x.transpose(2, 3) @ x
        assert limits.work == 6144 + 4 * 8 * 8 * 6
    head = [[[3, 3, 3], 1, "Detect", ["nc", "anchors"]]]
    with pytest.raises(UserError, match=r"row 2 \(Conv\): needs more than 6.87e\+10 multiplications"):  # 38.7e9 are needed there
        build_model({"nc": 2, "anchors": 3, "backbone": [[-1, 1, "Conv", [1024, 3]]] * 3 + [[-1, 1, "Conv", [64, 3, 64]]], "head": head})


def test_what_is_small_is_computed_as_without_a_limit():
    x, weight = torch.rand(1, 4, 6, 7), torch.rand(4, 2, 3, 3)
    run = [
        lambda: F.interpolate(x, scale_factor=(2, 3)),
        lambda: F.pad(x, (1, 2, 3, 4)),
        lambda: F.conv_transpose2d(x, weight, stride=2, groups=2),
        lambda: F.conv2d(x, weight.transpose(0, 1), padding="same"),
        lambda: x.transpose(2, 3) @ x,
        lambda: x.repeat(1, 2, 1, 1),
        lambda: torch.max(x, 1),
    ]
    for function in run:
        plain = function()
        with size_limit.activations_bounded():
            bounded = function()
        for a, b in zip(plain, bounded, strict=True):
            assert torch.equal(a, b)
