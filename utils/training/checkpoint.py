"""Attune's own checkpoints: plain data and tensors, written whole or not at all, with a checksum.

A checkpoint is a zip of torch.save that ``torch.load(weights_only=True)`` reads too; `utils.files.checksum` tells whether it is whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils.errors import StorageError, UserError
from utils.files.atomic import replacing
from utils.files.checksum import is_whole, seal
from utils.files.torch_file import read_torch_file

VERSION = 1
_FIRST_KEY = b"}q\x00(X\x06\x00\x00\x00attune"  # as the pickle spells it
_PLAIN = (type(None), bool, int, float, str)


def save_checkpoint(path: str | Path, payload: dict[str, Any], *, previous: Path | None = None) -> None:
    """Write `payload` to `path`, which holds either its old or its new content at every instant.

    Args:
        path: of the file.
        payload: dicts with text or whole-number keys, lists, tuples, numbers, text, None and tensors; ``"attune"`` is put first.
        previous: where the checkpoint that is replaced goes; by default it is gone.

    Raises:
        TypeError: something in `payload` is none of these.
        StorageError: the file cannot be written; the old one stands as it was.
    """
    path = Path(path)
    _check_plain(payload, "checkpoint")
    try:
        with replacing(path, previous=previous) as file:
            torch.save({"attune": VERSION, **payload}, file)
            seal(file)
    except (OSError, RuntimeError) as error:
        reason = error.__context__ if isinstance(error.__context__, OSError) else error  # torch hides a full disk behind its own error
        raise StorageError(f"{path}: the checkpoint cannot be written ({reason}); what was there before still is") from error


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, on the CPU.

    Raises:
        UserError: unreadable, damaged (one flipped bit is enough), no checkpoint of Attune, or one of a newer version.
    """
    path = Path(path)
    try:
        whole = is_whole(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if not whole:
        raise UserError(f"{path}: no whole checkpoint of Attune (its checksum is missing or does not fit); take an earlier one")
    payload = read_torch_file(path)
    version = payload.get("attune") if isinstance(payload, dict) else None
    if version != VERSION:
        raise UserError(f"{path}: a checkpoint of version {version}, while this program reads version {VERSION}; update Attune")
    return payload


def is_checkpoint(path: str | Path) -> bool:
    """Whether the file begins as a checkpoint of Attune does; that it is whole is for `load_checkpoint` to find out."""
    try:
        with Path(path).open("rb") as file:
            return _FIRST_KEY in file.read(1024)
    except OSError:
        return False


def _check_plain(value: object, where: str) -> None:
    """What loading would refuse must be found when saving, not when the file is needed."""
    if isinstance(value, Tensor):
        plain = value.layout is torch.strided and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    else:
        plain = type(value) in _PLAIN or isinstance(value, dict | list | tuple)
    if not plain:
        raise TypeError(f"{where}: {type(value).__name__} cannot be stored in a checkpoint")
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) not in (str, int):
                raise TypeError(f"{where}: key {key!r} is neither text nor a whole number")
            _check_plain(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            _check_plain(item, f"{where}[{number}]")
