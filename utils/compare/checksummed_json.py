"""JSON files with a checksum, written atomically: what a study remembers between two commands."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files import atomic
from utils.files.safe_open import read_regular

MAX_BYTES = 1 << 26
"""Of a JSON or CSV file of a study."""


def finite(data: Any) -> Any:
    """Plain data with None for NaN and Inf, which JSON does not have; tuples become lists, keys strings."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {str(key): finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [finite(value) for value in data]
    return data


def digest(content: Any) -> str:
    """SHA-256 of plain data, independent of the order of keys."""
    text = json.dumps(finite(content), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write plain data atomically, with a checksum; NaN becomes null.

    Raises:
        UserError: it cannot be written.
    """
    plain = finite(content)
    write_text(path, json.dumps({**plain, "checksum": digest(plain)}, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """Read what `write_json` wrote; None if missing or damaged."""
    try:
        content = json.loads(read_regular(path, MAX_BYTES).decode("utf-8", errors="surrogateescape"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    expected = content.pop("checksum", None)
    return content if expected == digest(content) else None


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, and make its folder.

    Raises:
        UserError: it cannot be written; the earlier file remains.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_text(path, text)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); the earlier file is unchanged") from error
