"""Constructor arguments: checks against a signature, and of ranges inside constructors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from utils.errors import UserError

MIN_WIDTH = 64
"""Minimum nominal width of a row of a YOLO."""

_WORDS: dict[Any, str] = {int: "an integer", float: "a number", bool: "true or false", str: "a string", NoneType: "null"}


def signature_of(name: str, build: Callable[..., object]) -> str:
    """Return ``Name(arguments with their defaults)``."""
    signature = inspect.signature(build)
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return f"{name}{signature.replace(parameters=bare, return_annotation=signature.empty)}"


def called(name: str, build: Callable[..., object], args: Sequence[Any], keywords: Mapping[str, Any]) -> str:
    """Return ``it is Name(signature), called with (arguments)``, the end of a message about arguments."""
    given = ", ".join([*(repr(a) for a in args), *(f"{k}={v!r}" for k, v in keywords.items())])
    return f"it is {signature_of(name, build)}, called with ({given})"


def first_integer(args: Sequence[Any]) -> int:
    """The first argument of a row if it is an integer, else 0."""
    return args[0] if args and isinstance(args[0], int) and not isinstance(args[0], bool) else 0


def repeats_width(args: Sequence[Any]) -> bool:
    """Whether a row's first argument is a width: reductions, orders, kernel sizes and numbers of heads are smaller."""
    return first_integer(args) >= MIN_WIDTH


def as_keyword(name: str, build: Callable[..., object], value: object) -> str:
    """Return ``; if it is reduction, write {reduction: value}`` for the parameter after the width, if there is one, and the signature."""
    hint = "".join(f"; if it is {p}, write {{{p}: {value}}}" for p in list(inspect.signature(build).parameters)[1:2])
    return f"{hint}; it is {signature_of(name, build)}"


def require_fit(name: str, build: Callable[..., object], args: Sequence[Any], keywords: Mapping[str, Any]) -> None:
    """Compare arguments with a signature: their number, names and, where annotated, types.

    Raises:
        UserError: an argument does not fit; ends with the signature.
    """
    signature = inspect.signature(build)
    try:
        bound = signature.bind(*args, **keywords)
    except TypeError as error:
        raise UserError(f"{error}; {called(name, build, args, keywords)}") from error
    try:
        hints = get_type_hints(build.__init__ if isinstance(build, type) else build)  # type: ignore[misc]
    except (NameError, TypeError, AttributeError, SyntaxError):
        hints = {}  # annotations of a plug-in that only a type checker understands
    for key, value in bound.arguments.items():
        parameter, hint = signature.parameters[key], hints.get(key, Any)
        optional = value is None and parameter.default is None  # "size: int = None", as many write it
        if optional or parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD} or _fits(value, hint):
            continue
        near = f" ({int(value)} would fit)" if isinstance(value, float) and value.is_integer() and _fits(int(value), hint) else ""
        raise UserError(f"{key} must be {_words(hint)}, not {value!r}{near}; {called(name, build, args, keywords)}")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value has a type; types that a row cannot contain are not checked."""
    from torch import nn  # imported here because reading a table needs no torch

    origin, inside = get_origin(hint), get_args(hint)
    if origin in {Union, UnionType}:
        return any(_fits(value, h) for h in inside)
    if hint in {int, float}:
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    if hint in {bool, str, NoneType} or (isinstance(hint, type) and origin is None and issubclass(hint, nn.Module)):
        return isinstance(value, hint)
    if origin in {tuple, list, Sequence}:
        if not isinstance(value, tuple | list):
            return False
        each = inside if origin is tuple and Ellipsis not in inside else (inside[:1] or (Any,)) * len(value)
        return len(each) == len(value) and all(_fits(v, h) for v, h in zip(value, each, strict=True))
    return True


def _words(hint: Any) -> str:
    origin, inside = get_origin(hint), get_args(hint)
    if origin in {Union, UnionType}:
        return " or ".join(_words(h) for h in inside)
    if origin is tuple and Ellipsis not in inside:
        return f"[{', '.join(_words(h) for h in inside)}]"
    if origin in {tuple, list, Sequence}:
        return f"[{_words(inside[0])}, ...]"
    return _WORDS.get(hint) or inspect.formatannotation(hint)


def positive(owner: object, **numbers: int | None) -> None:
    """Require numbers >= 1; None is ignored.

    Raises:
        ValueError: names the class of `owner`, the argument and the number.
    """
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ValueError(f"{type(owner).__name__}: {name} must be at least 1, not {number}")


def odd(owner: object, **numbers: int | None) -> None:
    """Require odd numbers >= 1, such as kernel sizes.

    Raises:
        ValueError: as `positive`; suggests numbers that fit.
    """
    positive(owner, **numbers)
    for name, number in numbers.items():
        if number is not None and number % 2 == 0:
            raise ValueError(f"{type(owner).__name__}: {name} must be odd, not {number}; {number - 1} or {number + 1} would fit")


def multiple(owner: object, factor: int, **numbers: int) -> None:
    """Require multiples of `factor`.

    Raises:
        ValueError: as `positive`; suggests numbers that fit.
    """
    positive(owner, **numbers)
    for name, number in numbers.items():
        if number % factor:
            below = number // factor * factor
            fit = f"{below} or {below + factor}" if below else str(factor)
            raise ValueError(f"{type(owner).__name__}: {name} must be a multiple of {factor}, not {number}; {fit} would fit")


def four_stages(owner: object, depths: Sequence[int], normed: Sequence[int] = ()) -> None:
    """Require the numbers of blocks of four stages, and indices of their outputs.

    Raises:
        ValueError: another number of stages, a stage without a block, or an output that does not exist.
    """
    if not set(normed) <= {0, 1, 2, 3}:
        raise ValueError(f"{type(owner).__name__}: normed must be outputs from 0 to 3, not {list(normed)}")
    if len(depths) != 4 or min(depths) < 1:
        raise ValueError(f"{type(owner).__name__}: depths must be four numbers of blocks, each at least 1, not {list(depths)}")
