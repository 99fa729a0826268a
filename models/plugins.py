"""Plug-ins: Python files of a user that register modules."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from utils.errors import UserError

# Exceptions of a user's file that become a one-line error message.
_FAILURES = (
    *(SyntaxError, ImportError, NameError, AttributeError, TypeError, ValueError, RuntimeError, LookupError, ArithmeticError),
    *(AssertionError, OSError),
)


def load_plugins(paths: Sequence[str | Path]) -> None:
    """Import plug-in files, which register modules with `models.registry.register`. Each file is imported once.

    Raises:
        UserError: a file is not there, is not Python, or raises; names it and the line.
    """
    import models.build  # noqa: F401  registers the shipped modules first, so that a duplicate names the user's file

    for path in paths:
        _load(Path(path))


def _load(path: Path) -> None:
    if path.suffix != ".py" or not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises on a name that is too long
        raise UserError(f"plug-in {path}: {'no such file' if path.suffix == '.py' else 'not a .py file'}")
    name = f"attune_plugin_{path.stem}_{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:8]}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "the suffix is .py"
    assert spec.loader is not None, "the suffix is .py"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _beside(path):
            spec.loader.exec_module(module)
    except _FAILURES as error:
        del sys.modules[name]
        raise UserError(f"plug-in {_line(path, error)}: {type(error).__name__}: {error}") from error


@contextmanager
def _beside(path: Path) -> Iterator[None]:
    """Imports find files in the folder of `path`, after all others, and later imports do, too; no ``__pycache__`` is written there."""
    folder, written = str(path.resolve().parent), sys.dont_write_bytecode
    if folder not in sys.path:
        sys.path.append(folder)
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = written


def _line(path: Path, error: BaseException) -> str:
    """``file:line`` of the innermost line of the user's file in the traceback."""
    if isinstance(error, SyntaxError):
        return f"{path}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).name == path.name]
    return f"{path}:{lines[-1]}" if lines else str(path)
