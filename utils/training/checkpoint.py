"""Attune's own checkpoints: plain data and tensors, written atomically, with a checksum.

A checkpoint is a zip of torch.save that ``torch.load(weights_only=True)`` reads too; `utils.files.checksum` verifies it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils.errors import StorageError, UserError
from utils.files.atomic import atomic_write
from utils.files.checksum import has_valid_checksum, write_checksum
from utils.files.safe_open import open_regular
from utils.files.torch_file import read_torch_file

VERSION = 1
LAST, PREVIOUS = "last.pt", "last.prev.pt"
"""The checkpoint to resume from, and the one before it in case the first is damaged."""
_FIRST_KEY = b"}q\x00(X\x06\x00\x00\x00attune"  # in pickle's encoding
_PLAIN = (type(None), bool, int, float, str)


def save_checkpoint(path: str | Path, payload: dict[str, Any], *, previous: Path | None = None) -> None:
    """Write `payload` to `path` atomically.

    Args:
        path: of the file.
        payload: dicts with str or int keys, lists, tuples, numbers, strings, None and tensors; ``"attune"`` is put first.
        previous: where the checkpoint that is replaced goes; by default it is deleted.

    Raises:
        TypeError: `payload` contains a value of another type.
        StorageError: the file cannot be written; the old one is unchanged.
    """
    path = Path(path)
    _check_plain(payload, "checkpoint")
    try:
        with atomic_write(path, previous=previous) as file:
            torch.save({"attune": VERSION, **payload}, file)
            write_checksum(file)
    except (OSError, RuntimeError) as error:
        reason = error.__context__ if isinstance(error.__context__, OSError) else error  # torch hides a full disk behind its own error
        raise StorageError(f"{path}: the checkpoint cannot be written ({reason}); the previous file is unchanged") from error


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, on the CPU.

    Raises:
        UserError: unreadable, damaged (even by one flipped bit), not a checkpoint of Attune, or one of a newer version.
    """
    path = Path(path)
    try:
        whole = has_valid_checksum(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if not whole:
        raise UserError(f"{path}: not an intact checkpoint of Attune (its checksum is missing or wrong); use an earlier one")
    payload = read_torch_file(path)
    version = payload.get("attune") if isinstance(payload, dict) else None
    if version != VERSION:
        raise UserError(f"{path}: checkpoint version {version} is not supported (this program reads version {VERSION}); update Attune")
    return payload


def is_checkpoint(path: str | Path) -> bool:
    """Whether the file begins like a checkpoint of Attune; `load_checkpoint` verifies the rest."""
    try:
        with open_regular(path) as file:
            return _FIRST_KEY in file.read(1024)
    except OSError:
        return False


def _check_plain(value: object, where: str) -> None:
    """Refuse when saving what loading would refuse."""
    if isinstance(value, Tensor):
        plain = value.layout is torch.strided and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    else:
        plain = type(value) in _PLAIN or isinstance(value, dict | list | tuple)
    if not plain:
        raise TypeError(f"{where}: {type(value).__name__} cannot be stored in a checkpoint")
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) not in (str, int):
                raise TypeError(f"{where}: key {key!r} is neither str nor int")
            _check_plain(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            _check_plain(item, f"{where}[{number}]")
