"""Plain data from untrusted files as the types the program expects: one check for checkpoints, plans and results."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any


def typed(hint: Any, value: Any, where: str = "") -> Any:
    """Return `value` as the type `hint`, or refuse it.

    Args:
        hint: bool, int, float, str, None, Any, a union of such, ``tuple[X, ...]``, ``Mapping[str, X]``, or a dataclass of these.
        value: plain data. A list counts as a tuple, and None as the float NaN, which JSON does not have. A dataclass needs every
            field without a default, and no others.
        where: what the value is, for the message.

    Raises:
        TypeError: it is something else; names what.
    """
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        return _one_of(options, value, where)
    if origin is tuple and type(value) in (list, tuple):
        return tuple(typed(options[0], item, f"{where}[{number}]") for number, item in enumerate(value))
    if isinstance(origin, type) and issubclass(origin, Mapping) and type(value) is dict and all(type(key) is str for key in value):
        return {key: typed(options[1], item, f"{where}[{key!r}]") for key, item in value.items()}
    if dataclasses.is_dataclass(hint) and type(value) is dict:
        return _dataclass(hint, value, where)
    if hint is float and (value is None or (type(value) is int and abs(value) < 1 << 63)):
        return math.nan if value is None else float(value)
    if (hint is None or hint is type(None)) and value is None:
        return None
    if hint not in (bool, int, float, str) or type(value) is not hint or (hint is int and abs(value) >= 1 << 63):
        raise TypeError(f"{where or 'it'} is {value!r:.100}")
    return value


def _one_of(options: tuple[Any, ...], value: Any, where: str) -> Any:
    """`value` as the first option that it is; None is None before it is NaN."""
    for option in sorted(options, key=lambda option: option is not type(None)):
        try:
            return typed(option, value, where)
        except TypeError:
            continue
    raise TypeError(f"{where or 'it'} is {value!r:.100}")


def _dataclass(kind: Any, values: dict[str, Any], where: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    needed = [n for n, f in fields.items() if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]
    for name in (*needed, *values):
        if name not in values or name not in fields:
            raise TypeError(f"{where and f'{where}: '}{name!r:.100} is {'missing' if name in fields else 'unknown'}")
    hints = _hints(kind)
    return kind(**{name: typed(hints[name], value, name) for name, value in values.items()})


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)
