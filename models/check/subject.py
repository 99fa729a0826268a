"""One registered module under test: building it, example inputs, comparison of outputs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.registry import Entry, LayerPlan, Row, Scale, Width, lookup

Size = tuple[int, int]


class CheckFailed(Exception):  # noqa: N818
    """A module fails a check; the message says why."""


class Skipped(Exception):  # noqa: N818
    """A check does not apply, or a package is missing; the message says which."""


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """A registered module with the example arguments it was registered with.

    Attributes:
        entry: what the registry holds.
        plan: constructor arguments and declared width.
        inputs: widths of its inputs.
    """

    entry: Entry
    plan: LayerPlan
    inputs: tuple[Width, ...]

    def make(self, seed: int = 0) -> nn.Module:
        """Build an instance; parameters near zero (gates, layer scales) are randomized, so that their branches have an effect."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            module = self.entry.build(*self.plan.args)
            with torch.no_grad():
                for parameter in module.parameters():
                    if parameter.is_floating_point() and parameter.numel() and parameter.abs().max() < 1e-3:
                        parameter.normal_(std=0.1)
        return module

    def example(self, size: Size = (13, 20), batch: int = 2, seed: int = 1) -> Any:
        """Return inputs of a size: a tensor, or a list of them."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            tensors = [_random(width, size, batch) for width in self.inputs]
        return tensors[0] if len(tensors) == 1 else tensors


def subject(name: str, inputs: Sequence[Width] | None = None) -> Subject:
    """Look up a module and apply its rule to its example; `inputs` overrides the registered input widths.

    Raises:
        UserError: unknown name, or an example that its rule rejects.
    """
    entry = lookup(name)
    widths = entry.inputs if inputs is None else tuple(inputs)
    row = Row(len(widths), tuple(range(len(widths))), 1, name, entry.example, name)
    return Subject(entry, entry.rule(row, widths, Scale()), widths)


def _random(width: Width, size: Size, batch: int) -> Any:
    return torch.randn(batch, width, *size) if isinstance(width, int) else [_random(w, size, batch) for w in width]


def tensors_of(value: Any) -> list[Tensor]:
    """Return the tensors of an output, which is a tensor or a list of them.

    Raises:
        CheckFailed: it is something else.
    """
    if isinstance(value, Tensor):
        return [value]
    if not isinstance(value, list | tuple):
        raise CheckFailed(f"gives {type(value).__name__}; a module gives a tensor, a backbone a list of them")
    return [tensor for part in value for tensor in tensors_of(part)]


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Apply `change` to every tensor of an input or output."""
    return change(value) if isinstance(value, Tensor) else [mapped(v, change) for v in value]


def run(module: nn.Module, given: Any) -> Any:
    """Call with a copy of the input, so that only the check `input_unchanged` fails for a module that writes to it."""
    return module(mapped(given, Tensor.clone))


def difference(found: Any, expected: Any) -> float:
    """Maximum absolute difference, divided by the maximum expected magnitude or 1; infinite if shapes differ or a value is NaN."""
    worst = 0.0
    pairs = list(zip(tensors_of(found), tensors_of(expected), strict=True))
    for a, b in pairs:
        if a.shape != b.shape:
            return float("inf")
        if not b.numel():
            continue
        a, b = a.detach().double(), b.detach().double()
        error = float((a - b).abs().max() / b.abs().max().clamp(min=1))
        worst = max(worst, float("inf") if math.isnan(error) else error)
    return worst


def require_equal(found: Any, expected: Any, tolerance: float, what: str) -> None:
    """Compare outputs.

    Raises:
        CheckFailed: they differ by more than `tolerance`, relative to the maximum.
    """
    if (error := difference(found, expected)) > tolerance:
        raise CheckFailed(f"{what}: differs by {error:.1e} (allowed {tolerance:.0e})")
