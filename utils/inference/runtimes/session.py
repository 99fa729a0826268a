"""What a runtime offers, and what all of them need: their package, and one error for whatever fails in them."""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from utils.errors import UserError
from utils.inference.runtimes.metadata import Metadata

MAX_FILE_BYTES = 4 << 30
"""Larger files are refused before they are read; YOLOv5x6 has 560 MB."""

FAILURES = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError, OSError, ImportError)
"""What runtimes and exporters raise for a file or a model that they cannot handle."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

Shape = tuple[int | None, int | None, int | None, int | None]
"""(B, C, H, W) of the input; None where a size is free."""


class Session(Protocol):
    """An exported file, loaded by its runtime.

    Attributes:
        metadata: what the file says of itself.
        shape: of the input.
    """

    metadata: Metadata
    shape: Shape

    def __call__(self, images: Tensor) -> Tensor:
        """Compute the output of (B, C, H, W) float32 images in 0..1, B, H and W being those of `shape` where it has them."""


def require(module: str, purpose: str, install: str) -> Any:
    """Import the package of a format.

    Raises:
        UserError: it is not installed; gives the line that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{purpose} needs the package {module}: {install}") from error


@contextlib.contextmanager
def one_error(what: str, *more: type[Exception]) -> Iterator[None]:
    """Turn whatever a runtime raises inside, also the exceptions of its own in `more`, into a `UserError`: `what`, and the reason."""
    try:
        yield
    except UserError:
        raise
    except FAILURES + more as error:
        raise UserError(f"{what} ({reason(error)})") from error


def reason(error: BaseException) -> str:
    """The first lines of a runtime's message, in one line and without colours."""
    text = " ".join(_COLOURS.sub("", str(error)).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]} ..."


def check_size(path: Path) -> None:
    """Refuse what is no file, or too large.

    Raises:
        UserError: it is.
    """
    try:
        size = path.stat().st_size if path.is_file() else -1
    except (OSError, ValueError):  # a name that is too long, or holds a NUL
        size = -1
    if size < 0:
        raise UserError(f"no weights {str(path)!r}: there is no such file")
    if size > MAX_FILE_BYTES:
        raise UserError(f"{path}: has {size / 1e9:.1f} GB; at most {MAX_FILE_BYTES / 1e9:.1f} are read")


def free_unless_fixed(shape: Any, dynamic: bool | None, where: str) -> Shape:
    """The input's shape from metadata; None for what is free.

    Raises:
        UserError: the entry is no shape.
    """
    if dynamic or shape is None:
        return (None, 3, None, None)
    if not isinstance(shape, list | tuple) or len(shape) != 4 or not all(type(side) is int and side > 0 for side in shape):
        raise UserError(f"{where}: its metadata gives the shape {str(shape)[:80]}; expected batch, channels, height, width")
    b, c, h, w = shape
    return (b, c, h, w)
