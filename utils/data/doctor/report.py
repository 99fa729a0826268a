"""A diagnosis as text for the terminal, and as JSON."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator

from utils.data.doctor.diagnosis import Diagnosis
from utils.data.doctor.findings import SEVERITIES, FindingGroup

_CLASSES = 12
_COLUMNS = ("images", "labelled", "background", "unusable", "absent", "boxes", "crowd", "dropped", "boxes_an_image")


def as_json(found: Diagnosis) -> str:
    """Return everything as one JSON object; bytes of a file name that are not text become \\udc80 to \\udcff."""
    counts = {f"{severity}s": found.count(severity) for severity in SEVERITIES}
    return json.dumps({"clean": found.clean, **counts, **dataclasses.asdict(found)}, indent=2) + "\n"


def as_text(found: Diagnosis, limit: int, *, everything: bool = False) -> Iterator[str]:
    """Yield lines: the figures, then the findings in groups with at most `limit` examples of each."""
    names = ", ".join(split.name for split in found.splits)
    yield f"{found.source}: {len(found.names)} classes, {_counted(len(found.splits), 'split')} ({names})"
    yield ""
    columns = [column for column in _COLUMNS if column != "crowd" or any(split.crowd for split in found.splits)]
    counts = [[split.name, *(str(getattr(split, column)) for column in columns)] for split in found.splits]
    yield from _table([["", *(column.replace("_", " ") for column in columns)], *counts])
    yield ""
    for split in found.splits:
        formats = ", ".join(f"{count} {kind}" for kind, count in split.image_formats.items())
        labels = ", ".join(f"{count} .{kind}" for kind, count in split.label_formats.items()) or "none"
        (w0, w1, w2), (h0, h1, h2), (b0, b1, b2) = split.width, split.height, split.box_side
        yield f"{split.name}: {formats or 'no image'}; labels: {labels}"
        if split.images:
            yield f"    image width {w0:g} to {w2:g} (median {w1:g}), height {h0:g} to {h2:g} (median {h1:g})"
        if split.boxes:
            yield f"    box side {b0:g} to {b2:g} (median {b1:g}) pixels at --imgsz {found.imgsz}"
    yield ""
    total = [sum(split.classes[number] for split in found.splits) for number in found.names]
    order = sorted(found.names, key=lambda number: -total[number])  # the most frequent classes first
    shown = order if everything else order[:_CLASSES]
    boxes = [[found.names[number], *(str(split.classes[number]) for split in found.splits)] for number in shown]
    yield from _table([["boxes of class", *(split.name for split in found.splits)], *boxes])
    if len(order) > len(shown):
        yield f"... and {len(order) - len(shown)} more classes (--all)"
    yield ""
    for group in found.groups:
        yield from _group(group, found.root, limit)
    summary = ", ".join(_counted(found.count(severity), severity) for severity in SEVERITIES)
    yield f"nothing is wrong ({summary})" if found.clean else summary


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _table(rows: list[list[str]]) -> Iterator[str]:
    """Columns of equal width: the first to the left, figures to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]).rstrip()


def _group(group: FindingGroup, root: str, limit: int) -> Iterator[str]:
    where = f"{group.split}: " if group.split else ""
    advice = f" ({group.advice})" if group.advice else ""
    inside = os.path.join(root, "")  # noqa: PTH118
    yield f"{group.severity.upper():<8}{where}{group.title}: {group.count}{advice}"
    for finding in group.findings[:limit]:
        line = f":{finding.row}" if finding.row else ""
        yield f"        {finding.path.removeprefix(inside)}{line}: {finding.text.replace(inside, '')}"
    left = group.count - min(limit, len(group.findings))
    if left > 0 and limit:
        kept = " (--all)" if len(group.findings) > limit else ""
        yield f"        ... and {left} more{kept}"
    yield ""
