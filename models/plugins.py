"""Plug-ins: Python files of a user that register modules."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path

from utils.errors import UserError

# Exceptions of a user's file that become a one-line error message.
_FAILURES = (
    *(SyntaxError, ImportError, NameError, AttributeError, TypeError, ValueError, RuntimeError, LookupError, ArithmeticError),
    *(AssertionError, OSError),
)


class _Loader(SourceFileLoader):
    """Loads a file without writing ``__pycache__`` to the user's folder."""

    def set_data(self, path: str, data: object, *, _mode: int = 0o666) -> None:
        """Discard the bytecode."""


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
    loader = _Loader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None, "the loader is given"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except _FAILURES as error:
        del sys.modules[name]
        raise UserError(f"plug-in {_line(path, error)}: {type(error).__name__}: {error}") from error


def _line(path: Path, error: BaseException) -> str:
    """``file:line`` of the innermost line of the user's file in the traceback."""
    if isinstance(error, SyntaxError):
        return f"{path}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).name == path.name]
    return f"{path}:{lines[-1]}" if lines else str(path)
