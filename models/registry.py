"""Names of modules, and the rule by which a YAML row becomes constructor arguments and an output width.

Module classes are independent of YAML; registration gives the name and the rule by which arguments follow from a row. The builder
contains no module names. A module of your own::

    from models.registry import preserve, register

    @register(preserve, example=(4,))
    class MyBlock(nn.Module):
        def __init__(self, channels: int, ratio: int = 16) -> None: ...
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from models.arguments import as_keyword, first_integer, repeats_width, signature_of
from utils.errors import UserError, nearest

if TYPE_CHECKING:
    from torch import nn

    Build = Callable[..., nn.Module]

B = TypeVar("B", bound="Build")

MAX_CHANNELS = 65536  # and classes: a typo must not exhaust memory

Width = int | tuple[int, ...]
"""Channels of a row's output; a tuple for a pyramid, whose output is a list of maps."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One row of a model YAML, its sources resolved.

    Attributes:
        index: position in the table, from 0.
        sources: positions of the rows it reads; -1 is the image.
        repeats: as in the YAML, before the depth multiple.
        name: module name.
        args: the row's arguments as they stand in the YAML.
        origin: identity of the row, equal in a base model and its variants; an inserted or replacing row has its own.
        gate: ``"zero"`` for a block behind a gate that starts closed, ``"learned"`` for one in the place of another whose gate is
            learned, else ``""``.
        replaced: the base's row that a gated row fades in for, without index and sources, which are this row's; else None.
        keywords: the arguments of a row that gives them as a mapping.
    """

    index: int
    sources: tuple[int, ...]
    repeats: int
    name: str
    args: tuple[Any, ...]
    origin: str
    gate: str = ""
    keywords: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    replaced: Row | None = None

    def __str__(self) -> str:
        return f"row {self.index} ({self.name})"


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """Size of a model: how a row's nominal repeats and widths become actual ones.

    Attributes:
        depth: factor on repeats above 1.
        width: factor on channels.
        divisor: widths are rounded up to a multiple of it.
        outputs: anchors x (classes + 5); a row of exactly that width is not scaled.
    """

    depth: float = 1.0
    width: float = 1.0
    divisor: int = 8
    outputs: int = 0

    def repeats(self, nominal: int) -> int:
        """Actual number of repeats."""
        return max(round(nominal * self.depth), 1) if nominal > 1 else nominal

    def channels(self, nominal: int) -> int:
        """Actual number of channels."""
        return nominal if nominal == self.outputs else math.ceil(nominal * self.width / self.divisor) * self.divisor


@dataclasses.dataclass(frozen=True, slots=True)
class LayerPlan:
    """What to build for a row.

    Attributes:
        args: constructor arguments.
        out: width of the output.
        repeats: how many instances follow each other, in an ``nn.Sequential`` if more than one.
        again: constructor arguments of the second and later instances, if they differ.
        build: called instead of the registered class, for some forms of a row.
    """

    args: tuple[Any, ...]
    out: Width
    repeats: int = 1
    again: tuple[Any, ...] | None = None
    build: Build | None = None


Rule = Callable[[Row, Sequence[Width], Scale], LayerPlan]
"""(row with its arguments resolved, widths of its inputs, size of the model) -> LayerPlan."""


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A registered module.

    Attributes:
        name: the name in YAML.
        build: the class, or a function that returns an instance.
        rule: how a row becomes a plan.
        example: row arguments for the conformance checks.
        inputs: input widths for the conformance checks.
        exempt: conformance checks that do not apply: name -> reason.
    """

    name: str
    build: Build
    rule: Rule
    example: tuple[Any, ...]
    inputs: tuple[Width, ...]
    exempt: Mapping[str, str] = dataclasses.field(default_factory=dict)


_ENTRIES: dict[str, Entry] = {}


def register(
    rule: Rule,
    *,
    name: str | None = None,
    aliases: Sequence[str] = (),
    example: Sequence[Any] = (),
    inputs: Sequence[Width] = (32,),
    exempt: Mapping[str, str] | None = None,
) -> Callable[[B], B]:
    """Class decorator: register a module under its class name or `name`, and under `aliases`.

    The other arguments are the attributes of `Entry`.

    Raises:
        UserError: the name is taken.
    """

    def add(build: B) -> B:
        names = (name or build.__name__, *aliases)
        for text in names:
            if text in _ENTRIES:
                taken = _ENTRIES[text].build
                raise UserError(f"module name {text!r} is registered twice: by {_place(taken)} and by {_place(build)}; rename one")
        for text in names:
            _ENTRIES[text] = Entry(text, build, rule, tuple(example), tuple(inputs), dict(exempt or {}))
        return build

    return add


def _place(build: Build) -> str:
    return f"{build.__module__}.{build.__qualname__}"


def lookup(name: str) -> Entry:
    """Return the entry of a module name.

    Raises:
        UserError: unknown name; ends with the nearest known one.
    """
    if name not in _ENTRIES:
        known = "python -m models.show --modules lists all; --plugins my_block.py adds your own"
        raise UserError(f"unknown module {name!r}{nearest(name, _ENTRIES)} ({known})")
    return _ENTRIES[name]


def list_modules() -> list[str]:
    """Names of all registered modules, sorted."""
    return sorted(_ENTRIES, key=str.lower)


def only(row: Row, inputs: Sequence[Width]) -> int:
    """Width of the one plain input of a row.

    Raises:
        UserError: several inputs, or one with several outputs.
    """
    if len(inputs) != 1:
        raise UserError(f"takes one input, but 'from' gives {len(inputs)}")
    return plain(row, inputs)[0]


def plain(row: Row, inputs: Sequence[Width]) -> tuple[int, ...]:
    """Widths of a row's inputs, each a single map.

    Raises:
        UserError: an input has several outputs, from which ``Feature`` picks one.
    """
    for source, width in zip(row.sources, inputs, strict=True):
        if not isinstance(width, int):
            raise UserError(f"reads row {source}, which has {len(width)} outputs; pick one with [{source}, 1, Feature, [0]]")
    return tuple(width for width in inputs if isinstance(width, int))


def nominal_width(row: Row) -> int:
    """The output width that a row names as its first argument.

    Raises:
        UserError: it is missing, or not a positive integer.
    """
    width = row.args[0] if row.args else None
    if isinstance(width, int) and not isinstance(width, bool) and 1 <= width <= MAX_CHANNELS:
        return width
    form = f"; it is {signature_of(row.name, _ENTRIES[row.name].build)}" if row.name in _ENTRIES else ""
    if not row.args:
        raise UserError(f"its first argument, the output width, is missing{form}")
    raise UserError(f"its first argument is the output width, a positive integer, not {width!r} (at most {MAX_CHANNELS}){form}")


def preserve(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:
    """C -> C, and C is the first constructor argument: attention. The row may repeat its nominal width, see `own_arguments`."""
    width = only(row, inputs)
    return LayerPlan((width, *own_arguments(row, width, scale)), width, scale.repeats(row.repeats))


def own_arguments(row: Row, width: int, scale: Scale) -> tuple[Any, ...]:
    """The arguments of a row that keeps its width, without the nominal width, which it may repeat first, once or twice: ``SE, [1024]``.

    Raises:
        UserError: both readings are possible: a number of 64 or more that is another width, a smaller one that is the width, or
            anything after the second repetition, which constructors of (input width, output width, ...) have.
    """
    args = row.args
    while len(row.args) - len(args) < 2 and repeats_width(args) and scale.channels(args[0]) == width:
        args = args[1:]
    repeated = len(row.args) - len(args)
    if args and repeated == 2:
        reading = f"its width is given twice, so {args[0]!r} and what follows are in the order of another constructor"
    elif repeats_width(args):
        place = ("first", "second")[repeated]
        reading = f"its {place} argument repeats the width of its input: {args[0]} is {scale.channels(args[0])} here, not {width}"
    elif not repeated and first_integer(args) * scale.width == width:
        reading = f"its first argument, {args[0]}, is the width of its input, which needs no argument"
    else:
        return args
    raise UserError(reading + (as_keyword(row.name, _ENTRIES[row.name].build, args[0]) if row.name in _ENTRIES else ""))


def project(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:
    """C -> the first argument, scaled: convolutions. The second and later repeats have the new width as input."""
    width, out = only(row, inputs), scale.channels(nominal_width(row))
    return LayerPlan((width, out, *row.args[1:]), out, scale.repeats(row.repeats), (out, out, *row.args[1:]))


def stack(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:
    """Like `project`, but the third constructor argument is `repeats`, the number of inner blocks: CSP."""
    width, out = only(row, inputs), scale.channels(nominal_width(row))
    return LayerPlan((width, out, scale.repeats(row.repeats), *row.args[1:]), out)


def concat(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:  # noqa: ARG001
    """Widths add up."""
    return LayerPlan(row.args, sum(plain(row, inputs)))


def untouched(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:
    """C -> C, and no constructor argument is a width: upsampling, pooling."""
    return LayerPlan(row.args, only(row, inputs), scale.repeats(row.repeats))


def levels(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:  # noqa: ARG001
    """The first constructor argument is the widths of all inputs, or of all outputs of the one input: detection heads."""
    widths = inputs[0] if len(inputs) == 1 and isinstance(inputs[0], tuple) else plain(row, inputs)
    return LayerPlan((widths, *row.args), 0)


def pyramid(widths: Callable[..., Sequence[int]], *, scaled: bool = False) -> Rule:
    """One input, several outputs: a backbone. C is the first constructor argument; `widths` returns the output widths.

    With `scaled`, the row's first argument is a nominal width, which the model's width multiple scales.
    """

    def rule(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:
        args = row.args
        if scaled and args:
            args = (scale.channels(nominal_width(row)), *args[1:])
        args = (only(row, inputs), *args)
        return LayerPlan(args, tuple(widths(*args, **row.keywords)))

    return rule
