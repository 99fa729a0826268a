"""Duplicate images: in two splits, which invalidates the result, or in one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np

from utils.data.doctor.findings import FindingGroup, ScannedSplit
from utils.data.doctor.image_hash import SIDE, DecodedImage, NearestMatches, find_similar

_SAME_FILE = "the same file as"
_SAME_BYTES = "the same bytes as"


class _SplitImages:
    """The decoded images of all splits, numbered."""

    def __init__(self, splits: Sequence[ScannedSplit], distance: int) -> None:
        found = [(i, path, image) for i, split in enumerate(splits) for path, image in split.images.items() if not image.fault]
        self.members = [member for member, _, _ in found]
        self.paths = [path for _, path, _ in found]
        self.images: list[DecodedImage] = [image for _, _, image in found]
        self._files: list[dict[str, str]] = [{} for _ in splits]
        self._bytes: list[dict[bytes, str]] = [{} for _ in splits]
        for member, path, image in found:
            self._files[member].setdefault(os.path.realpath(path), path)
            self._bytes[member].setdefault(image.digest, path)
        self.similar: NearestMatches = find_similar(
            np.array([image.bits for image in self.images], np.uint64),
            np.array([image.thumb for image in self.images], np.uint8).reshape(-1, SIDE, SIDE),
            np.array(self.members, np.int64),
            len(splits),
            distance=distance,
        )

    def match(self, number: int, member: int) -> tuple[str, str] | None:
        """Return how an image matches one of a split, and the path of that one; None without a match."""
        path, partner = self.paths[number], int(self.similar.partner[number, member])
        same = self._files[member].get(os.path.realpath(path))
        if same and member != self.members[number]:
            return _SAME_FILE, same
        equal = self._bytes[member].get(self.images[number].digest)
        if equal and equal != path:
            return _SAME_BYTES, equal
        if partner < 0 or self.images[partner].digest == self.images[number].digest:
            return None
        return f"looks like ({self.similar.distance[number, member]} of 64 bits differ)", self.paths[partner]


def duplicate_groups(splits: Sequence[ScannedSplit], distance: int) -> Iterator[FindingGroup]:
    """Compare all images with each other, between splits and inside each; up to `distance` bits of 64 may differ."""
    images = _SplitImages(splits, distance)
    for late, split in enumerate(splits):
        mine = [number for number, member in enumerate(images.members) if member == late]
        for early in range(late):
            yield _leaks(images, mine, early, split.name, splits[early].name)
        copies = FindingGroup("warning", "copy", split.name, "images that are there twice", "they count twice")
        similar = FindingGroup("warning", "similar", split.name, "images that look like another")
        similar.advice = "frames of one video, or one photo saved twice?"
        for number in mine:
            match = images.match(number, late)
            if match and match[0] == _SAME_BYTES:
                copies.add(images.paths[number], " ".join(match))
            elif match:
                partner = int(images.similar.partner[number, late])
                if partner < number or images.similar.partner[partner, late] != number:  # a pair is named once
                    similar.add(images.paths[number], " ".join(match))
        yield copies
        yield similar


def _leaks(images: _SplitImages, mine: list[int], early: int, name: str, other: str) -> FindingGroup:
    group = FindingGroup("error", "leak", name, f"images that are in {other} too")
    kinds = {_SAME_FILE: 0, _SAME_BYTES: 0, "": 0}
    for number in mine:
        if match := images.match(number, early):
            kinds[match[0] if match[0] in kinds else ""] += 1
            group.add(images.paths[number], "the same file" if match[1] == images.paths[number] else " ".join(match))
    parts = (f"{kinds[_SAME_FILE]} the same files", f"{kinds[_SAME_BYTES]} copies", f"{kinds['']} that look the same")
    group.advice = f"of {len(mine)}; {', '.join(part for part in parts if part[0] != '0')}: what is measured on {name} is too good"
    return group
