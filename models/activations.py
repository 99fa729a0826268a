"""Activations that a YAML names: ``nn.SiLU``, ``nn.LeakyReLU(0.1)``. Looked up and parsed, never evaluated."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from torch import nn

from utils.errors import UserError, nearest

_TABLE: dict[str, type[nn.Module]] = {
    layer.__name__: layer
    for layer in (
        *(nn.SiLU, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Mish, nn.GELU, nn.ELU, nn.CELU),
        *(nn.SELU, nn.PReLU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softsign, nn.LogSigmoid, nn.Identity),
    )
}
_CALL = re.compile(r"(?:torch\.)?(?:nn\.)?(?P<name>[A-Za-z_]\w*)(?:\((?P<args>[^()]*)\))?")
_ARGUMENT = re.compile(r"(?:(?P<key>[A-Za-z_]\w*)\s*=\s*)?(?P<value>[^=]+)")
_LITERALS: dict[str, Any] = {"True": True, "False": False, "None": None}


def is_activation(text: str) -> bool:
    """Whether a row's string argument is an activation rather than a word such as ``nearest``."""
    match = _CALL.fullmatch(text.strip())
    return text.strip().startswith(("nn.", "torch.nn.")) or (match is not None and match["args"] is not None)


def parse_activation(text: str) -> Callable[[], nn.Module]:
    """Turn an activation expression into a function that creates instances.

    Raises:
        UserError: not of the form ``name(literals)``, an unknown name, or wrong arguments.
    """
    match = _CALL.fullmatch(text.strip())
    if match is None:
        raise UserError(f"activation {text!r} is not of the form nn.Name or nn.Name(numbers)")
    if match["name"] not in _TABLE:
        raise UserError(f"unknown activation {match['name']!r}{nearest(match['name'], _TABLE)} (known: {', '.join(_TABLE)})")
    layer, (args, keywords) = _TABLE[match["name"]], _arguments(text, match["args"] or "")
    signature = inspect.signature(layer)
    try:
        bound = signature.bind(*args, **keywords)
    except TypeError as error:
        raise UserError(f"activation {text!r}: {error}") from error
    return lambda: layer(*bound.args, **bound.kwargs)


def _arguments(text: str, inside: str) -> tuple[list[Any], dict[str, Any]]:
    args: list[Any] = []
    keywords: dict[str, Any] = {}
    for part in filter(None, (p.strip() for p in inside.split(","))):
        match = _ARGUMENT.fullmatch(part)
        if match is None or (keywords and not match["key"]):
            raise UserError(f"activation {text!r}: cannot read the argument {part!r}")
        value = _literal(text, match["value"].strip())
        if match["key"]:
            keywords[match["key"]] = value
        else:
            args.append(value)
    return args, keywords


def _literal(text: str, value: str) -> Any:
    if value in _LITERALS:
        return _LITERALS[value]
    for number in (int, float):
        with suppress(ValueError):
            if math.isfinite(found := number(value)):
                return found
    raise UserError(f"activation {text!r}: {value!r} is not a number, True, False or None")
