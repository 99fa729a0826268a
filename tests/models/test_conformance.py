"""What every registered module has to do, asked of each one that there is."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import list_modules
from models.folding import fold_norms
from models.registry import Plan, Row, Scale, lookup

# Functions stand for one size of a network each; its class is built here, small, and they are tested beside it.
NAMES = [name for name in list_modules() if isinstance(lookup(name).build, type)]
SIZES = ((13, 20), (7, 7), (32, 8))
each_module = pytest.mark.parametrize("name", NAMES)


def build(name: str) -> tuple[nn.Module, Plan]:
    entry = lookup(name)
    row = Row(len(entry.inputs), tuple(range(len(entry.inputs))), 1, name, entry.example, "x")
    plan = entry.rule(row, entry.inputs, Scale())
    return entry.build(*plan.args), plan


def example_input(name: str, size: tuple[int, int], batch: int = 2) -> Any:
    widths = lookup(name).inputs

    def tensor(width: Any) -> Any:
        return torch.randn(batch, width, *size) if isinstance(width, int) else [tensor(w) for w in width]

    tensors = [tensor(width) for width in widths]
    return tensors[0] if len(tensors) == 1 else tensors


def tensors_of(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else [t for v in value for t in tensors_of(v)]


def mapped(value: Any, change: Any) -> Any:
    return change(value) if isinstance(value, Tensor) else [mapped(v, change) for v in value]


def assert_equal(a: Any, b: Any, tolerance: float = 0.0) -> None:
    for x, y in zip(tensors_of(a), tensors_of(b), strict=True):
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)


@each_module
def test_the_declared_width_is_the_real_one_at_any_size(name: str) -> None:
    module, plan = build(name)
    for size in SIZES:
        output = module(example_input(name, size))
        found = [t.shape[1] for t in tensors_of(output)]
        if plan.out:
            assert found == ([plan.out] if isinstance(plan.out, int) else list(plan.out))


@each_module
def test_a_batch_of_one_trains_and_gradients_reach_every_parameter(name: str) -> None:
    module, plan = build(name)
    for parameter in module.parameters():
        if not parameter.any():  # a branch that starts closed hides what is behind it
            nn.init.normal_(parameter, std=0.1)
    # A backbone's last map needs more than one pixel, of which a batch norm could take no statistics.
    size = (13, 20) if isinstance(plan.out, int) else (40, 72)
    output = module.train()(example_input(name, size, batch=1))
    if not (parameters := dict(module.named_parameters())):
        return
    torch.stack([(t * torch.randn_like(t)).sum() for t in tensors_of(output)]).sum().backward()
    without = [n for n, p in parameters.items() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()]
    assert not without


@each_module
def test_the_input_is_not_written(name: str) -> None:
    module, _ = build(name)
    if name in {"nn.SiLU", "nn.ReLU"}:
        assert not getattr(module, "inplace", False)
    given = example_input(name, (7, 7))
    before = copy.deepcopy(given)
    for mode in (True, False):
        module.train(mode)(given)
        assert_equal(given, before)


@each_module
def test_no_state_between_calls(name: str) -> None:
    module = build(name)[0].eval()
    given = example_input(name, (13, 20))
    first = module(given)
    module(example_input(name, (7, 7), batch=3))
    assert_equal(module(given), first)


@each_module
def test_copies_and_saved_weights_compute_the_same(name: str) -> None:
    module, other = build(name)[0].eval(), build(name)[0].eval()
    given = example_input(name, (7, 7))
    other.load_state_dict(module.state_dict())
    assert_equal(copy.deepcopy(module)(given), module(given))
    assert_equal(other(given), module(given))


@each_module
def test_bfloat16_autocast_is_finite(name: str) -> None:
    module = build(name)[0].train()
    with torch.autocast("cpu", torch.bfloat16):
        output = module(example_input(name, (13, 20)))
    assert all(t.isfinite().all() for t in tensors_of(output))


@each_module
def test_channels_last_computes_the_same(name: str) -> None:
    module = build(name)[0].eval()
    given = example_input(name, (13, 20))
    expected = module(given)
    assert_equal(module(mapped(given, lambda t: t.to(memory_format=torch.channels_last))), expected, 1e-5)


@each_module
def test_an_image_of_a_batch_does_not_see_the_others(name: str) -> None:
    module = build(name)[0].eval()
    given = example_input(name, (7, 7))
    assert_equal(module(mapped(given, lambda t: t[:1])), mapped(module(given), lambda t: t[:1]), 1e-5)


@each_module
def test_folding_norms_changes_nothing(name: str) -> None:
    module = build(name)[0].eval()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    given = example_input(name, (7, 7))
    expected = module(given)
    fold_norms(nn.ModuleList([module]))
    if callable(getattr(module, "fuse", None)) or name in {"C3", "CBAM", "CoXt"}:
        assert not any(isinstance(m, nn.BatchNorm2d) for m in module.modules())
    assert_equal(module(given), expected, 1e-4)


@each_module
@pytest.mark.filterwarnings("ignore:`torch.jit.trace:FutureWarning")
def test_a_trace_takes_other_sizes(name: str) -> None:
    module = build(name)[0].eval()
    traced = torch.jit.trace(module, (example_input(name, (16, 24)),), check_trace=False, strict=False)
    given = example_input(name, (8, 32))
    assert_equal(traced(given), module(given), 1e-5)


@each_module
def test_the_docstring_gives_shapes(name: str) -> None:
    build_of = lookup(name).build
    if build_of.__module__.startswith("models.") and isinstance(build_of, type):
        assert "Shape:" in (build_of.__doc__ or ""), f"{name} has no 'Shape:'"


def test_there_is_something_to_test() -> None:
    wanted: Sequence[str] = ("Conv", "C3", "SPPF", "CoordAtt", "Detect", "Concat", "nn.Upsample", "Focus", "C3TR", "BottleneckCSP")
    assert set(wanted) <= set(NAMES)
