"""Find the file that a name means, where tools wrote the name otherwise than the file system has it.

Label tools encode names as in a URL ("photo%200002"), macOS decomposes accents (Unicode NFD), Windows ignores case. A name means the
file that is called so; else the only one that is the same but for encoding and normal form; else the only one that also differs in case.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote

from utils.images.reading import IMAGE_SUFFIXES


class FolderListings:
    """The names in each folder, listed once, so that a hundred thousand look-ups need a few calls."""

    def __init__(self) -> None:
        self._names: dict[str, frozenset[str]] = {}
        self._by_name: dict[str, Mapping[str, list[str]]] = {}
        self._by_stem: dict[str, Mapping[str, list[str]]] = {}
        self._folders: dict[tuple[str, str], str | None] = {}

    def names(self, folder: str) -> frozenset[str]:
        """Return the names in `folder`; none where it cannot be listed."""
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(os.listdir(folder or "."))  # noqa: PTH208 - of a string
            except (OSError, ValueError):  # ValueError: an invalid path
                self._names[folder] = frozenset()
        return self._names[folder]

    def find(self, folder: str, name: str) -> str | None:
        """Return the name in `folder` that `name` means."""
        names = self.names(folder)
        if name in names or not names:
            return name if name in names else None
        if folder not in self._by_name:
            self._by_name[folder] = _grouped((name, name) for name in names)
        alike = self._by_name[folder].get(_folded(name))
        return _chosen(name, [(n, n) for n in alike]) if alike else None

    def find_stem(self, folder: str, stem: str, suffixes: Container[str] = IMAGE_SUFFIXES) -> str | None:
        """Return the file in `folder` that `stem` means, with one of `suffixes` (in lower case); of several the first by name."""
        if not self.names(folder):
            return None
        if folder not in self._by_stem:
            self._by_stem[folder] = _grouped((os.path.splitext(name)[0], name) for name in self.names(folder))  # noqa: PTH122
        alike = self._by_stem[folder].get(_folded(stem))
        if not alike:
            return None
        split = [(*os.path.splitext(n), n) for n in alike]  # noqa: PTH122
        return _chosen(stem, sorted((own, name) for own, suffix, name in split if suffix.lower() in suffixes))

    def find_path(self, base: str, relative: str) -> Path | None:
        """Return the file or folder below `base` that a path means; None without one."""
        parent, name = os.path.split(relative.rstrip("/"))
        if (base, parent) not in self._folders:
            self._folders[base, parent] = self._find_folder(base, parent)
        folder = self._folders[base, parent]
        if folder is not None and (found := self.find(folder, name)):
            return Path(folder, found)
        return self.find_path(base, unquote(relative)) if "%2F" in relative.upper() else None

    def _find_folder(self, base: str, relative: str) -> str | None:
        first = relative.partition("/")[0]
        if first not in ("", ".", "..") and self.names(base) and self.find(base, first) is None:
            return None  # without a call to the system: lists can name millions of folders that are not there
        folder = os.path.join(base, relative) if relative else base  # noqa: PTH118
        if self.names(folder):
            return folder
        folder = base
        for part in Path(relative).parts:
            same = part if part in ("..", os.sep) else self.find(folder, part)
            if same is None:
                return None
            folder = os.path.join(folder, same)  # noqa: PTH118
        return folder


def normalised(name: str) -> str:
    """Return a name without percent-encoding, in Unicode's composed normal form."""
    return unicodedata.normalize("NFC", unquote(name))


def _folded(name: str) -> str:
    return normalised(name).casefold()


def _grouped(names: Iterable[tuple[str, str]]) -> Mapping[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, name in names:
        groups.setdefault(_folded(key), []).append(name)
    return groups


def _chosen(wanted: str, candidates: list[tuple[str, str]]) -> str | None:
    """Return the name of the candidate (key, name) that `wanted` means; None without one, or with several that are equally like it."""
    for like in (lambda key: key == wanted, lambda key: normalised(key) == normalised(wanted), lambda _: True):
        keys = {key for key, _ in candidates if like(key)}
        if keys:
            return next(name for key, name in candidates if key in keys) if len(keys) == 1 else None
    return None
