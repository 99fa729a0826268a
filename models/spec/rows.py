"""One row of a YAML table: ``[from, repeats, module, args]``, checked and with its sources resolved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models.registry import Row
from utils.errors import UserError

FORM = "[from, repeats, module, args]"
MAX_REPEATS = 1000  # a typo must not build for an hour


def parse_table(rows: object, where: str) -> tuple[Row, ...]:
    """Resolve the rows of a classic table; origins are the rows' indices.

    Raises:
        UserError: names the row.
    """
    if not isinstance(rows, list) or not rows:
        raise UserError(f"{where}: expected a list of rows {FORM}")
    table = []
    for index, row in enumerate(rows):
        place = f"{where}: row {index}"
        if not isinstance(row, list) or len(row) != 4:
            raise UserError(f"{place}: expected {FORM}, found {row!r}")
        repeats, name, args, keywords = parse_module(row[1:], place)
        sources = tuple(source(f, index, index, f"{place} ({name})") for f in parse_from(row[0], f"{place} ({name})"))
        table.append(Row(index, sources, repeats, name, args, str(index), keywords=keywords))
    return tuple(table)


def unread(rows: Sequence[Row]) -> str:
    """Say which rows lead to no output of the last row, the head; ``""`` if all do."""
    needed = {rows[-1].index}
    for row in reversed(rows):
        needed |= set(row.sources) if row.index in needed else set()
    dead = [f"{row.index} ({row.name})" for row in rows if row.index not in needed]
    if not dead:
        return ""
    subject = f"row {dead[0]} is" if len(dead) == 1 else f"rows {', '.join(dead)} are"
    return f"{subject} read by no row that leads to the head; were rows inserted without renumbering the head?"


def parse_module(row: Sequence[Any], place: str) -> tuple[int, str, tuple[Any, ...], dict[str, Any]]:
    """Check ``[repeats, module, args]``; args may be, or end with, a mapping of names to values. Returns repeats, name, args, keywords."""
    repeats, name, args = row
    if not isinstance(name, str):
        raise UserError(f"{place}: the module's name is text, not {name!r}; rows have the form {FORM}")
    if isinstance(repeats, bool) or not isinstance(repeats, int) or not 1 <= repeats <= MAX_REPEATS:
        raise UserError(f"{place} ({name}): repeats must be an integer from 1 to {MAX_REPEATS}, got {repeats!r}")
    if isinstance(args, dict):
        args = [args]
    if not isinstance(args, list):
        raise UserError(f"{place} ({name}): its arguments are a list, not {args!r}")
    *first, keywords = args if args and isinstance(args[-1], dict) else [*args, {}]
    if not all(isinstance(key, str) for key in keywords):
        raise UserError(f"{place} ({name}): argument names are text, found {list(keywords)}")
    return repeats, name, freeze(first), {key: freeze(value) for key, value in keywords.items()}


def joined(args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """The arguments as a YAML has them: a list, a mapping, or a list that ends with a mapping."""
    named = {key: thaw(value) for key, value in keywords.items()}
    return [*thaw(args), named] if args and named else named or thaw(args)


def freeze(value: Any) -> Any:
    """Turn lists into tuples, recursively."""
    return tuple(freeze(v) for v in value) if isinstance(value, list | tuple) else value


def thaw(value: Any) -> Any:
    """Turn tuples into lists, recursively, for YAML."""
    return [thaw(v) for v in value] if isinstance(value, list | tuple) else value


def parse_from(value: object, place: str) -> list[int]:
    """Check a row's `from`: one row number or a list of them."""
    given = value if isinstance(value, list) else [value]
    numbers = [n for n in given if isinstance(n, int) and not isinstance(n, bool)]
    if not given or len(numbers) != len(given):
        raise UserError(f"{place}: 'from' is a row number or a list of them, not {value!r}")
    return numbers


def source(number: int, index: int, rows: int, place: str) -> int:
    """Resolve one `from` number of row `index`: negative ones count back; the result is below `rows`, and -1 is the image."""
    absolute = index + number if number < 0 else number
    if not -1 <= absolute < rows:
        late = "is not before it" if absolute >= rows else "is before the first row"
        raise UserError(f"{place}: 'from' {number} {late} (rows before it: 0 to {rows - 1}; -1 is the one just before)")
    return absolute


def relative(target: int, index: int) -> int:
    """The `from` number by which row `index` reads row `target`: -1 for the one before, else the number itself."""
    if target == index - 1:
        return -1
    return target if target >= 0 else -1 - index
