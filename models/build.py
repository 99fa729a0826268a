"""Building a network from rows: one loop without module names."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

import models.attention
import models.backbones
import models.heads
import models.layers
import models.necks
import models.yoloair  # noqa: F401  all register their modules
from models.activations import is_activation, parse_activation
from models.arguments import called, require_fit
from models.gate import Gate, Replacement
from models.layers.conv import set_activation
from models.registry import Entry, LayerPlan, Row, Scale, Width, lookup
from models.size_limit import OversizeError, bounded
from models.spec.model_spec import ModelSpec
from utils.errors import UserError

# Raised by a constructor or forward pass when a row's arguments do not fit; each becomes a message that names the row.
MISFITS = (TypeError, ValueError, RuntimeError, ArithmeticError, AssertionError, LookupError, AttributeError)
_WORDS: dict[str, Any] = {"None": None, "null": None, "True": True, "False": False}


@contextmanager
def row_errors(spec: ModelSpec, row: Row) -> Iterator[None]:
    """Turn exceptions inside into a `UserError` that names the model and the row."""
    try:
        yield
    except OversizeError as error:
        raise OversizeError(f"{spec.where}: {row}: {error}") from error
    except MISFITS as error:
        raise UserError(f"{spec.where}: {row}: {' '.join(str(error).split())}") from error


def build_layers(spec: ModelSpec, seed: int = 0) -> tuple[nn.ModuleList, list[Width]]:
    """Build the rows of a spec, with weights that depend only on `seed` and each row's origin.

    Returns:
        The layers, and the width of each one's output.

    Raises:
        UserError: unknown module, or arguments or inputs that do not fit; names the row.
    """
    per_level = spec.anchors if isinstance(spec.anchors, int) else len(spec.anchors[0]) // 2
    scale = dataclasses.replace(spec.scale, outputs=per_level * (spec.nc + 5))
    try:
        activation = None if spec.activation is None else parse_activation(spec.activation)
    except UserError as error:
        raise UserError(f"{spec.where}: {error}") from error
    words = {**_WORDS, "nc": spec.nc, "anchors": spec.anchors}

    def build() -> tuple[nn.ModuleList, list[Width]]:
        layers, widths = nn.ModuleList(), list[Width]()
        for row in spec.rows:
            with row_errors(spec, row):
                entry = lookup(row.name)
                inputs = [widths[s] if s >= 0 else spec.ch for s in row.sources]
                layer, width = _build_row(_resolved(row, words), entry, inputs, scale, seed)
                if activation is not None:
                    set_activation(layer, activation)
            layers.append(layer)
            widths.append(width)
        return layers, widths

    with bounded(build):
        return build()


def _resolved(row: Row, words: dict[str, Any]) -> Row:
    keywords = {key: _value(value, words) for key, value in row.keywords.items()}
    old = row.replaced and dataclasses.replace(_resolved(row.replaced, words), index=row.index, sources=row.sources)
    return dataclasses.replace(row, args=_value(row.args, words), keywords=keywords, replaced=old)


def _value(argument: Any, words: dict[str, Any]) -> Any:
    """Resolve an argument: a keyword, an activation, a number that YAML reads as a string (1e-3), or itself."""
    if isinstance(argument, tuple):
        return tuple(_value(a, words) for a in argument)
    if not isinstance(argument, str):
        return argument
    if argument in words:
        return words[argument]
    if is_activation(argument):
        return parse_activation(argument)()
    try:
        return float(argument)
    except ValueError:
        return argument


def _build_row(row: Row, entry: Entry, inputs: list[Width], scale: Scale, seed: int) -> tuple[nn.Module, Width]:
    plan = entry.rule(row, inputs, scale)
    full = dataclasses.replace(scale, depth=1.0)
    if row.repeats > 1 and entry.rule(row, inputs, full) == entry.rule(dataclasses.replace(row, repeats=1), inputs, full):
        raise UserError(f"repeats is {row.repeats}, but {row.name} cannot be repeated; write 1")  # a concatenation, a head, a backbone
    digest = hashlib.sha256(f"{seed}/{row.origin}".encode()).digest()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int.from_bytes(digest[:8], "big"))
        layer = _instantiate(row, entry, plan)
    if row.replaced is not None:
        old, width = _build_row(row.replaced, lookup(row.replaced.name), inputs, scale, seed)
        if width != plan.out or not isinstance(width, int):
            raise UserError(
                f"a gate needs a block of the width of {row.replaced.name}, which it replaces: {width}; this one gives {plan.out}"
            )
        layer = Replacement(old, layer, learned=row.gate == "learned")
    elif row.gate:
        if plan.out != inputs[0] or len(inputs) != 1:
            raise UserError(f"a gate needs a block that keeps its input's width, {inputs[0]}; this one gives {plan.out}")
        layer = Gate(layer)
    return layer, plan.out


def _instantiate(row: Row, entry: Entry, plan: LayerPlan) -> nn.Module:
    build = plan.build or entry.build
    every = [plan.args] + [plan.again or plan.args] * (plan.repeats - 1)
    require_fit(entry.name, build, plan.args, row.keywords)
    # A module among the arguments (an activation) may hold state: each instance gets its own.
    try:
        layers = [build(*copy.deepcopy(args), **copy.deepcopy(dict(row.keywords))) for args in every]
    except UserError:
        raise
    except MISFITS as error:
        raise UserError(f"{error}; {called(entry.name, build, plan.args, row.keywords)}") from error
    for layer in layers:
        _require_registered(layer)
    return layers[0] if len(layers) == 1 else nn.Sequential(*layers)


def _require_registered(layer: nn.Module) -> None:
    """Refuse weights that PyTorch does not know of, such as those of a list of layers."""
    known = {id(parameter) for parameter in layer.parameters()}
    for part in layer.modules():
        for key, value in vars(part).items():
            if key not in {"_parameters", "_modules"} and any(id(weight) not in known for weight in _weights(value)):
                found = f"{type(part).__name__} keeps weights in {key!r}, which would be neither trained nor saved"
                raise UserError(f"{found}; use nn.ModuleList, nn.ModuleDict or nn.Parameter")


def _weights(value: Any) -> list[Tensor]:
    """Trainable tensors in an attribute of a module."""
    if isinstance(value, nn.Module):
        return list(value.parameters())
    if isinstance(value, Tensor):
        return [value] if value.requires_grad else []
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [weight for item in items for weight in _weights(item)]
