"""Groups of images that resemble each other, such as the frames of a video: the bootstrap resamples them as a whole."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from utils.errors import UserError
from utils.files.safe_open import read_regular

_MAX_BYTES = 1 << 28


def image_groups(group: str, paths: Sequence[Path]) -> tuple[int, ...]:
    """The number of the group of each image, in the order of their first images.

    Args:
        group: a regular expression, searched in the path of each image: its first pair of parentheses, or without any the whole match,
            names the group. Or ``FILE.csv:COLUMN``, a table with a column ``image`` of paths or file names and one with the groups.

    Raises:
        UserError: an invalid expression or table, an image without a group, or fewer than two groups.
    """
    file, _, column = group.rpartition(":")
    names = _from_table(Path(file), column, paths) if file.endswith(".csv") else _from_pattern(group, paths)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    if len(numbers) < 2:
        found = f"are in one group, {names[0]!r:.80}" if names else "are none"
        raise UserError(f"--group {group}: all {len(paths)} measured images {found}; an interval over images needs at least two groups")
    return tuple(numbers[name] for name in names)


def _from_pattern(group: str, paths: Sequence[Path]) -> list[str]:
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise UserError(f"--group {group}: not a regular expression ({error})") from error
    names = []
    for path in paths:
        if not (match := pattern.search(path.as_posix())):
            raise UserError(f"--group {group}: does not match {path}; every measured image needs a group")
        names.append(match[1] or "" if pattern.groups else match[0])
    return names


def _from_table(file: Path, column: str, paths: Sequence[Path]) -> list[str]:
    try:
        text = read_regular(file, _MAX_BYTES).decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text), strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"--group {file}: cannot be read as a CSV table ({error})") from error
    if not rows or not {"image", column} <= rows[0].keys():
        have = ", ".join(map(str, rows[0])) if rows else "no row"
        raise UserError(f"--group {file}:{column}: needs the columns 'image' and '{column}' (it has {have})")
    groups = {row["image"]: row[column] or "" for row in rows if row["image"]}
    names = []
    for path in paths:
        parts = path.parts
        found = next((key for k in range(len(parts)) if (key := "/".join(parts[k:]).replace("//", "/")) in groups), None)
        if found is None:
            raise UserError(f"--group {file}:{column}: no row for the image {path}")
        names.append(groups[found])
    return names
