"""Versions that a result depends on: digests of files and of Attune's source, and the installed libraries."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterable
from pathlib import Path

from utils.config import ROOT
from utils.errors import UserError
from utils.files.safe_open import open_regular


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hex. Half a millisecond a photo.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


def source_files(*folders: str) -> list[Path]:
    """All Python files below folders of the repository.

    Raises:
        FileNotFoundError: a folder has no Python files.
    """
    found = [sorted((ROOT / folder).rglob("*.py")) for folder in folders]
    if empty := [folder for folder, files in zip(folders, found, strict=True) if not files]:
        raise FileNotFoundError(f"{ROOT / empty[0]}: no Python files")
    return [path for files in found for path in files]


def source_digest(files: Iterable[Path]) -> str:
    """SHA-256 over source files and their paths below the repository, in sorted order; the first 16 hex digits.

    Raises:
        FileNotFoundError: a file is missing.
    """
    total = hashlib.sha256()
    for path in sorted(files):
        total.update(f"{path.relative_to(ROOT)}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:16]


def library_versions(*distributions: str) -> dict[str, str]:
    """Installed versions by distribution name, "unknown" for what is not installed."""
    found = {}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found
