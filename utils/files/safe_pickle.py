"""A pickle reader that runs nothing: classes and functions in a file become inert objects and are never imported.

A pickle is a program for a small stack machine. This is that machine without its dangerous instructions: `GLOBAL` pushes a name,
and `REDUCE` passes its arguments to one of the caller's functions or refuses the file. Size and work are bounded.
"""

from __future__ import annotations

import pickletools
import struct
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

MAX_OPCODES = 1_000_000
"""yolov5n.pt has 35 000. A model with four times its layers, with EMA and optimizer, stays well below this."""

_KEYS = (str, int, float, bool, bytes, type(None))  # nothing nested: hashing a deep tuple would overflow the C stack
_OLD_PYTHON = {"__builtin__", "copy_reg", "commands", "posix", "nt"}
_INERT = {"collections", "pathlib", "argparse", "datetime", "enum", "_codecs", "__builtin__", "builtins"}
_INERT_BUILTINS = {"set", "frozenset", "list", "dict", "tuple", "int", "float", "str", "bool"} | {
    *("bytearray", "complex", "object", "slice", "range")
}


class RefusedError(ValueError):
    """The pickle is damaged, too large, or uses something that weights do not need."""


class Name(NamedTuple):
    """The name of a class or function in the file; nothing is imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True)
class InertObject:
    """An object of the file: class name, arguments and state, without behaviour."""

    type: Name
    args: tuple[Any, ...]
    state: Any = None


class Array(list[Any]):
    """The numbers of a NumPy array, filled when its state is read."""


Rebuild = Callable[..., Any]


class PickleReader:
    """Reads one pickle after another from `file`.

    Args:
        calls: replacements by the name of the function in the file.
        persistent: turns a persistent id (in torch files: a storage) into a value.
        fill: takes the state of an `Array`.
    """

    def __init__(
        self,
        file: BinaryIO,
        calls: Mapping[Name, Rebuild],
        persistent: Callable[[object], Any],
        fill: Callable[[Array, Any], None],
    ) -> None:
        self.file, self.calls, self.persistent, self.fill = file, calls, persistent, fill
        self.budget = MAX_OPCODES

    def load(self) -> Any:
        """Return the next pickle's value.

        Raises:
            RefusedError: see there. Nothing of the file is run.
        """
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # invalid escapes in old strings
                for opcode, arg, _ in pickletools.genops(self.file):
                    self.charge(1)
                    if opcode.name in _PUSHES:
                        self.stack.append(arg)
                    elif opcode.name in _STEPS:
                        _STEPS[opcode.name](self, arg)
                    elif opcode.name not in ("PROTO", "FRAME", "STOP"):
                        raise RefusedError(f"its pickle uses {opcode.name}, which checkpoints do not use")
            (value,) = self.stack
        except RefusedError:
            raise
        except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, struct.error) as error:
            raise RefusedError(f"its pickle is damaged ({error})") from error
        return value

    def charge(self, work: int) -> None:
        """Count `work` items; a file that exceeds `MAX_OPCODES` is refused."""
        self.budget -= work
        if self.budget < 0:
            raise RefusedError(f"its pickle takes more than {MAX_OPCODES} steps")

    def _push(self, value: Any) -> None:
        self.stack.append(value)

    def _mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def _items(self) -> list[Any]:
        """Everything above the last mark."""
        items, self.stack = self.stack, self.marks.pop()
        return items

    def _tuple(self, length: int) -> None:
        items = tuple(self.stack[-length:])
        if len(items) != length:
            raise IndexError("stack underflow")
        self.stack[-length:] = [items]

    def _append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is set:
            target.update(_keys(items))
        elif type(target) is list:
            target.extend(items)
        else:
            raise RefusedError("its pickle appends to something other than a list")

    def _set(self, items: list[Any]) -> None:
        target = {} if isinstance(self.stack[-1], InertObject) else self.stack[-1]  # what a subclass of dict holds is ignored
        if type(target) is not dict or len(items) % 2:
            raise RefusedError("its pickle sets items of something other than a dict")
        target.update(zip(_keys(items[::2]), items[1::2], strict=True))

    def _dict(self, _: Any) -> None:
        items = self._items()
        self.stack.append({})
        self._set(items)

    def _put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def _global(self, text: str) -> None:
        module, _, name = text.partition(" ")
        self.stack.append(named(module, name))

    def _reduce(self, _: Any) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Name) or type(args) is not tuple:
            raise RefusedError("its pickle calls something other than a function")
        if function not in self.calls:
            raise RefusedError(f"its pickle calls {function}, which weights do not need")
        self.stack.append(self.calls[function](*args))

    def _new(self, _: Any) -> None:
        args, kind = self.stack.pop(), self.stack.pop()
        if not isinstance(kind, Name) or type(args) is not tuple:
            raise RefusedError("its pickle builds an object of something other than a class")
        self.stack.append(self.calls[kind](*args) if kind in self.calls else InertObject(kind, args))

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Array):
            self.fill(target, state)
        elif isinstance(target, InertObject):
            target.state = state
        elif type(target) is not dict:  # the _metadata attribute of state_dicts is ignored
            raise RefusedError("its pickle sets the state of something other than an object")


def named(module: object, name: object) -> Name:
    """Return the inert name; of the standard library only harmless names are accepted."""
    if type(module) is not str or type(name) is not str:
        raise RefusedError("its pickle has a name that is not a string")
    top = module.partition(".")[0]
    builtin = top in ("builtins", "__builtin__")
    python = top in sys.stdlib_module_names or top in _OLD_PYTHON
    harmless = top in _INERT and (name in _INERT_BUILTINS or not builtin)
    if (python and not harmless) or "." in name:
        raise RefusedError(f"it names {module}.{name}, which is not allowed in a checkpoint")
    return Name(module, name)


def is_small(value: object) -> bool:
    """Whether it is an integer of its own hash: larger ones can all have the same, and take quadratic time in a dict."""
    return type(value) is int and abs(value) < 1 << 60


def _keys(items: list[Any]) -> list[Any]:
    if any(type(item) not in _KEYS for item in items):
        raise RefusedError("its pickle has a key that is neither a string nor a number")
    if any(type(item) is int and not is_small(item) for item in items):
        raise RefusedError("its pickle has a key that is too large a number")
    return items


_PUSHES = (
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
    | {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
    | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
)
_STEPS: dict[str, Callable[[PickleReader, Any], Any]] = {
    "NONE": lambda m, _: m._push(None),
    "NEWTRUE": lambda m, _: m._push(True),
    "NEWFALSE": lambda m, _: m._push(False),
    "EMPTY_LIST": lambda m, _: m._push([]),
    "EMPTY_TUPLE": lambda m, _: m._push(()),
    "EMPTY_DICT": lambda m, _: m._push({}),
    "EMPTY_SET": lambda m, _: m._push(set()),
    "MARK": PickleReader._mark,
    "POP": lambda m, _: m.stack.pop() if m.stack else m._items(),
    "POP_MARK": lambda m, _: m._items(),
    "DUP": lambda m, _: m._push(m.stack[-1]),
    "TUPLE1": lambda m, _: m._tuple(1),
    "TUPLE2": lambda m, _: m._tuple(2),
    "TUPLE3": lambda m, _: m._tuple(3),
    "TUPLE": lambda m, _: m._push(tuple(m._items())),
    "LIST": lambda m, _: m._push(m._items()),
    "DICT": PickleReader._dict,
    "FROZENSET": lambda m, _: m._push(frozenset(_keys(m._items()))),
    "APPEND": lambda m, _: m._append([m.stack.pop()]),
    "APPENDS": lambda m, _: m._append(m._items()),
    "ADDITEMS": lambda m, _: m._append(m._items()),
    "SETITEM": lambda m, _: m._set([m.stack.pop(-2), m.stack.pop()]),
    "SETITEMS": lambda m, _: m._set(m._items()),
    "GET": lambda m, index: m._push(m.memo[index]),
    "BINGET": lambda m, index: m._push(m.memo[index]),
    "LONG_BINGET": lambda m, index: m._push(m.memo[index]),
    "PUT": PickleReader._put,
    "BINPUT": PickleReader._put,
    "LONG_BINPUT": PickleReader._put,
    "MEMOIZE": lambda m, _: m._put(len(m.memo)),
    "GLOBAL": PickleReader._global,
    "INST": PickleReader._global,  # only to name what is refused: using it fails
    "STACK_GLOBAL": lambda m, _: m._push(named(m.stack.pop(-2), m.stack.pop())),
    "REDUCE": PickleReader._reduce,
    "NEWOBJ": PickleReader._new,
    "BUILD": PickleReader._build,
    "BINPERSID": lambda m, _: m._push(m.persistent(m.stack.pop())),
}
