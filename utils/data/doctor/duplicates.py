"""Pictures that are there more than once: in two splits, which spoils the result, or in one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np

from utils.data.doctor.decode import Look
from utils.data.doctor.findings import Group, Split
from utils.data.doctor.image_hash import SIDE, Likenesses, find_alike

_SAME_FILE = "the same file as"
_SAME_BYTES = "the same bytes as"


class _Album:
    """The pictures of all splits under running numbers."""

    def __init__(self, splits: Sequence[Split], distance: int) -> None:
        self.members = [number for number, split in enumerate(splits) for look in split.looks.values() if not look.fault]
        self.paths = [path for split in splits for path, look in split.looks.items() if not look.fault]
        self.looks: list[Look] = [look for split in splits for look in split.looks.values() if not look.fault]
        self._files: list[dict[str, str]] = [{} for _ in splits]
        self._bytes: list[dict[bytes, str]] = [{} for _ in splits]
        for member, path, look in zip(self.members, self.paths, self.looks, strict=True):
            self._files[member].setdefault(os.path.realpath(path), path)
            self._bytes[member].setdefault(look.digest, path)
        self.alike: Likenesses = find_alike(
            np.array([look.bits for look in self.looks], np.uint64),
            np.array([look.thumb for look in self.looks], np.uint8).reshape(-1, SIDE, SIDE),
            np.array(self.members, np.int64),
            len(splits),
            distance=distance,
        )

    def match(self, number: int, member: int) -> tuple[str, str] | None:
        """Return how a picture is like one of a split, and that one's path; None when none is."""
        path, partner = self.paths[number], int(self.alike.partner[number, member])
        same = self._files[member].get(os.path.realpath(path))
        if same and member != self.members[number]:
            return _SAME_FILE, same
        equal = self._bytes[member].get(self.looks[number].digest)
        if equal and equal != path:
            return _SAME_BYTES, equal
        if partner < 0 or self.looks[partner].digest == self.looks[number].digest:
            return None
        return f"looks like ({self.alike.distance[number, member]} of 64 bits differ)", self.paths[partner]


def between_and_inside(splits: Sequence[Split], distance: int) -> Iterator[Group]:
    """Compare all pictures with each other; up to `distance` bits of 64 may differ."""
    album = _Album(splits, distance)
    for late, split in enumerate(splits):
        mine = [number for number, member in enumerate(album.members) if member == late]
        for early in range(late):
            yield _leaks(album, mine, early, split.name, splits[early].name)
        yield from _repetitions(album, mine, late, split.name)


def _leaks(album: _Album, mine: list[int], early: int, name: str, other: str) -> Group:
    group = Group("error", "leak", name, "", "")
    kinds = {_SAME_FILE: 0, _SAME_BYTES: 0, "": 0}
    for number in mine:
        if match := album.match(number, early):
            kinds[match[0] if match[0] in kinds else ""] += 1
            group.add(album.paths[number], "the same file" if match[1] == album.paths[number] else " ".join(match))
    parts = (f"{kinds[_SAME_FILE]} the same files", f"{kinds[_SAME_BYTES]} copies", f"{kinds['']} that look the same")
    group.title = f"images that are in {other} too"
    group.advice = f"of {len(mine)}; {', '.join(part for part in parts if part[0] != '0')}: what is measured on {name} is too good"
    return group


def _repetitions(album: _Album, mine: list[int], member: int, name: str) -> Iterator[Group]:
    copies = Group("warning", "copy", name, "images that are there twice", "they count twice")
    similar = Group("warning", "similar", name, "images that look like another", "frames of one video, or one photo saved twice?")
    for number in mine:
        match = album.match(number, member)
        if match and match[0] == _SAME_BYTES:
            copies.add(album.paths[number], " ".join(match))
        elif match:
            partner = int(album.alike.partner[number, member])
            if partner < number or album.alike.partner[partner, member] != number:  # a pair is named once
                similar.add(album.paths[number], " ".join(match))
    yield copies
    yield similar
