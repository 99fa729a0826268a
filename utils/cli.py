"""Frozen settings from a command line: a strict parser made from dataclass fields.

Imports nothing heavy, so that ``--help`` and a mistyped flag respond at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from utils.device import share_processors
from utils.errors import StopError, UserError, nearest
from utils.foreign_flags import IGNORED, REFUSED, without_ignored
from utils.log import LOG, escaped
from utils.signals import ignore_signals

C = TypeVar("C")

MAX_MESSAGE = 4000


def option(default: Any, help: str, *aliases: str, **argument: Any) -> Any:
    """Declare a dataclass field that is also a flag.

    The flag is the field's name with hyphens; `aliases` are further spellings (``"--img"``). `argument` goes to
    ``ArgumentParser.add_argument``; without a ``type`` there, the default's type is used, and a bool becomes a switch.
    ``positional=True`` makes it a positional argument; with ``nargs="*"`` it takes any number of values.
    """
    return dataclasses.field(default=default, metadata={"help": help, "aliases": aliases, "argument": argument})


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def _add(parser: _Parser, field: dataclasses.Field[Any]) -> None:
    argument = dict(field.metadata["argument"])
    flags = ["--" + field.name.replace("_", "-"), *field.metadata["aliases"]]
    text = field.metadata["help"].replace("%", "%%")
    if isinstance(field.default, bool) and not argument:
        parser.add_argument(*flags, dest=field.name, action="store_true", help=text)
        return
    if argument.pop("positional", False):
        argument.setdefault("nargs", "?")
        parser.add_argument(field.name, default=argparse.SUPPRESS, help=text, **argument)
        return
    if "action" not in argument:
        argument.setdefault("type", type(field.default) if field.default is not None else str)
    shown = f"{text} [{field.default}]" if field.default not in (None, "", ()) else text
    parser.add_argument(*flags, dest=field.name, default=argparse.SUPPRESS, help=shown, **argument)


def parse(config: Callable[..., C], argv: Sequence[str] | None = None, *, description: str = "") -> tuple[C, frozenset[str]]:
    """Parse `argv` into the dataclass `config`.

    Returns:
        The frozen settings, and the names of the fields given on the command line.

    Raises:
        UserError: for an unknown flag (with the nearest known one, or what replaces a flag of YOLOv5) or a value of the wrong type.
    """
    values = _parsed([config], argv, description)
    return config(**values), _given(values)


def parse_with(
    config: Callable[..., C], extra: Callable[..., Any], argv: Sequence[str] | None = None, *, description: str = ""
) -> tuple[C, frozenset[str], dict[str, Any]]:
    """Parse `argv` like `parse`, with the fields of the dataclass `extra` as further flags.

    Returns:
        The frozen settings, the names of their fields given on the command line, and the given values of `extra`, which the
        caller merges over those of a file.
    """
    values = _parsed([config, extra], argv, description)
    names = {field.name for field in dataclasses.fields(extra)}  # type: ignore[arg-type]
    own = {k: v for k, v in values.items() if k not in names}
    return config(**own), _given(own), {k: v for k, v in values.items() if k in names}


def _parsed(configs: Sequence[Callable[..., Any]], argv: Sequence[str] | None, description: str) -> dict[str, Any]:
    parser = _Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for config in configs:
        for field in dataclasses.fields(config):  # type: ignore[arg-type]
            if "help" in field.metadata:
                _add(parser, field)
    # --batch_size is --batch-size; values are unchanged
    arguments = [re.sub(r"^--[^=]*", lambda flag: flag[0].replace("_", "-"), a) for a in (sys.argv[1:] if argv is None else argv)]
    known, unknown = parser.parse_known_args(arguments)
    left, ignored = without_ignored(unknown)
    for flag in ignored:
        LOG.warning("%s is ignored: %s", flag, IGNORED[flag])
    if left and (reason := REFUSED.get(left[0])):
        raise UserError(f"{left[0]} is not supported: {reason}")
    if left:
        flags = (f for action in parser._actions for f in action.option_strings)
        raise UserError(f"unknown argument {left[0]!r}{nearest(left[0], flags)} (--help lists every flag)")
    return {k: tuple(v) if isinstance(v, list) else v for k, v in vars(known).items()}


def _given(values: dict[str, Any]) -> frozenset[str]:
    return frozenset(k for k, v in values.items() if v is not False)


def check_minimum(config: Any, **minimum: int) -> None:
    """Refuse settings below their minimum.

    Raises:
        UserError: names the flag.
    """
    for name, low in minimum.items():
        if getattr(config, name) < low:
            raise UserError(f"--{name.replace('_', '-')} must be >= {low}, got {getattr(config, name)}")


def check_thresholds(config: Any) -> None:
    """Refuse thresholds outside 0 to 1.

    Raises:
        UserError: names the flag.
    """
    for name in ("conf_thres", "iou_thres"):
        if not 0 <= getattr(config, name) <= 1:
            raise UserError(f"--{name.replace('_', '-')} must be in 0..1, got {getattr(config, name)}")


def _shown(message: str) -> str:
    return escaped(message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]} ... ({len(message)} characters)")


def run(main: Callable[[], object]) -> NoReturn:
    """Run a script's `main` and exit.

    The status is 0 for success, and after one message on stderr 2 for a `UserError`, 75 (retry later) for a `StopError`, 130 for Ctrl-C.
    """
    share_processors()
    try:
        _check_working_folder()
        main()
    except UserError as error:
        sys.stderr.write(f"error: {_shown(str(error))}\n")
        sys.exit(2)
    except StopError as error:
        ignore_signals()
        sys.stderr.write(f"{_shown(str(error))}\n")
        sys.exit(75)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    sys.exit(0)


def _check_working_folder() -> None:
    """torch cannot be imported in a folder that has been deleted."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise UserError("the working folder has been deleted; change to another one") from error
