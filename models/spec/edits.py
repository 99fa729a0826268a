"""Variants: a base table and edits -> a table, renumbered.

Edits use the row numbers of the base file, so they never shift each other. The base's rows become slots; an edit changes the
chain of rows in one slot, and rows that read a slot read the last row of its chain.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from models.registry import Row
from models.spec.rows import parse_from, parse_module, source
from utils.errors import UserError, nearest

_KEYS = {
    "after": {"after", "insert", "from", "gate"},
    "replace": {"replace", "with", "from", "gate"},
    "remove": {"remove"},
}


@dataclasses.dataclass(slots=True, eq=False)
class _Node:
    """A row to be renumbered; its sources are slots, None for the row before it in its own slot."""

    row: Row
    sources: list[int | None]


@dataclasses.dataclass(slots=True)
class _Slot:
    """A row of the base and the rows inserted after it. `heir` is the slot that readers read if the slot is empty."""

    head: _Node | None
    inserted: list[_Node]
    heir: int
    several: bool
    edited: str = ""

    @property
    def chain(self) -> list[_Node]:
        return ([self.head] if self.head else []) + self.inserted


def apply_edits(base: Sequence[Row], edits: object, where: str) -> tuple[Row, ...]:
    """Apply a list of edits to the rows of a base.

    An edit is one of ``{after: N, insert: [repeats, module, args], gate: zero}``, ``{replace: N, with: [repeats, module, args]}``,
    ``{replace: N, from: [...]}`` and ``{remove: N}``; the first two take `from` too, as a key or in front of the repeats. `gate` starts the
    model as the base: with ``zero``, training fades a replacing block in and then removes the replaced one; with ``learned``, both stay.

    Raises:
        UserError: names the edit by its number, counted from 1, and the base row.
    """
    if not isinstance(edits, list):
        raise UserError(f"{where}: 'edits' is a list of edits, not {edits!r}")
    slots = [_Slot(_Node(row, list(row.sources)), [], row.sources[0], len(row.sources) > 1) for row in base]
    taken = {row.origin for row in base}
    for number, edit in enumerate(edits, 1):
        _apply(slots, base, edit, taken, f"{where}: edit {number}")
    return _flatten(slots, where)


def _apply(slots: list[_Slot], base: Sequence[Row], edit: object, taken: set[str], place: str) -> None:
    kind = next((k for k in _KEYS if isinstance(edit, dict) and k in edit), None)
    if not isinstance(edit, dict) or kind is None:
        raise UserError(f"{place}: expected 'after: N, insert: ...', 'replace: N, with: ...' or 'remove: N', found {edit!r}")
    for key in edit:
        if key not in _KEYS[kind]:
            raise UserError(f"{place}: unknown key {key!r}{nearest(key, _KEYS[kind])}")
    at = edit[kind]
    if isinstance(at, bool) or not isinstance(at, int) or not 0 <= at < len(base):
        raise UserError(f"{place}: {kind}: {at!r} is not a row of the base (0 to {len(base) - 1})")
    place = f"{place} ({kind} {at}, {base[at].name})"
    if kind == "after":
        _insert(slots, base[at], edit, taken, place)
        return
    if slots[at].edited:
        raise UserError(f"{place}: another edit {slots[at].edited} this row already")
    if kind == "replace":
        slots[at].head = _replacement(base[at], len(base) - 1, edit, taken, place)
        slots[at].edited = "replaces"
    else:
        slots[at].head = None
        slots[at].edited = "removes"


def _insert(slots: list[_Slot], row: Row, edit: dict[str, Any], taken: set[str], place: str) -> None:
    at, slot = row.index, slots[row.index]
    gate = _gate(edit, ("zero",), place)
    if at == len(slots) - 1:
        raise UserError(f"{place}: nothing can follow the last row")
    module, numbers = _module(edit, "insert", place)
    repeats, name, args, keywords = parse_module(module, place)
    targets = [source(n, at + 1, at + 1, place) for n in numbers or [-1]]
    sources = [None if target == at else target for target in targets]
    origin = _unique(f"{row.origin}+{name}", taken)
    slot.inserted.append(_Node(Row(at, (), repeats, name, args, origin, gate, keywords), sources))


def _replacement(row: Row, last: int, edit: dict[str, Any], taken: set[str], place: str) -> _Node:
    if "with" not in edit and ("from" not in edit or "gate" in edit):
        raise UserError(f"{place}: says neither 'with' what nor 'from' where" if "from" not in edit else f"{place}: a gate needs 'with'")
    module, numbers = _module(edit, "with", place) if "with" in edit else (None, parse_from(edit["from"], place))
    sources: list[int | None] = [source(n, row.index, row.index, place) for n in numbers or []] or list(row.sources)
    if module is None:
        return _Node(row, sources)
    repeats, name, args, keywords = parse_module(module, place)
    gate, origin = _gate(edit, ("zero", "learned"), place), _unique(f"{row.origin}={name}", taken)
    if gate and (numbers or row.gate or row.index == last):
        why = "it has a gate itself" if row.gate else "it is the head" if row.index == last else "'from' gives the new block other inputs"
        raise UserError(f"{place}: gate: {gate} cannot fade this row out: {why}")
    old = dataclasses.replace(row, index=0, sources=()) if gate else None
    return _Node(Row(row.index, (), repeats, name, args, origin, gate, keywords, old), sources)


def _gate(edit: dict[str, Any], kinds: tuple[str, ...], place: str) -> str:
    gate = edit.get("gate") or ""
    if gate not in ("", *kinds):
        raise UserError(f"{place}: gate: {gate!r} is unknown; there is {' and '.join(kinds)}")
    return str(gate)


def _module(edit: dict[str, Any], key: str, place: str) -> tuple[list[Any], list[int] | None]:
    """``[repeats, module, args]`` and the `from` numbers, which may be given in front of it or as a key of the edit."""
    row = edit.get(key)
    if not isinstance(row, list) or len(row) not in {3, 4}:
        raise UserError(f"{place}: {key!r} has the form [repeats, module, args] or [from, repeats, module, args], not {row!r}")
    if len(row) == 4 and "from" in edit:
        raise UserError(f"{place}: 'from' is given twice")
    given = row[0] if len(row) == 4 else edit.get("from")
    return row[-3:], None if given is None else parse_from(given, place)


def _unique(text: str, taken: set[str]) -> str:
    origin, number = text, 1
    while origin in taken:
        number += 1
        origin = f"{text}.{number}"
    taken.add(origin)
    return origin


def _tail(slots: list[_Slot], at: int, reader: str) -> _Node | None:
    """The node that readers of a slot read now, or None for the image."""
    while at >= 0:
        if slots[at].chain:
            return slots[at].chain[-1]
        at = _heir(slots, at, reader)
    return None


def _heir(slots: list[_Slot], at: int, reader: str) -> int:
    if slots[at].several:
        raise UserError(f"{reader} reads row {at}, which is removed and had several inputs; give it another 'from'")
    return slots[at].heir


def _flatten(slots: list[_Slot], where: str) -> tuple[Row, ...]:
    rows: list[Row] = []
    places: dict[int, int] = {}
    for at, slot in enumerate(slots):
        before: _Node | None = None
        for node in slot.chain:
            reader = f"{where}: {node.row.name} of base row {node.row.index}"
            sources = []
            for s in node.sources:
                target = before if s is None and before else _tail(slots, _heir(slots, at, reader) if s is None else s, reader)
                sources.append(places[id(target)] if target else -1)
            places[id(node)] = len(rows)
            rows.append(dataclasses.replace(node.row, index=len(rows), sources=tuple(sources)))
            before = node
    if not rows:
        raise UserError(f"{where}: the edits remove every row")
    return tuple(rows)
