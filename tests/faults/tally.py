"""What a group of injected faults came to, and what every group needs to find out."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Tally:
    """The count of a group.

    Attributes:
        group: its name, that of its file.
        injected: faults tried.
        survived: those after which everything was as specified.
        steps_lost: steps of training that had to be given up, beyond what the specification allows.
        checkpoints_lost: checkpoints that should have been there and were not.
        bytes_changed: bytes of the user's files that differ afterwards.
        executed: untrusted payloads that ran.
        failures: what was not as specified, in words.
        seconds: how long the group took; the harness fills it in.
    """

    group: str
    injected: int = 0
    survived: int = 0
    steps_lost: int = 0
    checkpoints_lost: int = 0
    bytes_changed: int = 0
    executed: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def fault(self, ok: bool, what: str) -> None:
        """Count one fault; `what` names it, and says what went wrong where it did."""
        self.injected += 1
        if ok:
            self.survived += 1
        else:
            self.failures.append(what)

    @property
    def as_specified(self) -> bool:
        """Whether every fault was survived and nothing was lost, changed or executed."""
        lost = self.steps_lost, self.checkpoints_lost, self.bytes_changed, self.executed
        return self.injected == self.survived and not any(lost) and not self.failures


COLUMNS = ("group", "injected", "survived", "steps_lost", "checkpoints_lost", "bytes_changed", "executed", "seconds")


def total(tallies: list[Tally]) -> Tally:
    """The sum over groups."""
    result = Tally("total")
    for tally in tallies:
        for name in COLUMNS[1:]:
            setattr(result, name, getattr(result, name) + getattr(tally, name))
        result.failures += tally.failures
    return result


def header() -> str:
    """The first line of the table."""
    return "group     " + "".join(f"{name.replace('_', ' '):>18}" for name in COLUMNS[1:])


def line(tally: Tally) -> str:
    """The group's line in the table."""
    counts = "".join(f"{getattr(tally, name):>18}" for name in COLUMNS[1:-1])
    return f"{tally.group:<10}{counts}{tally.seconds:>18.1f}"


Snapshot = dict[str, tuple[int, bytes]]
"""Relative path -> size and digest of a file, or 0 and the target of a link."""


def snapshot(folder: Path) -> Snapshot:
    """Remember every file and link below `folder`."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = (0, os.fsencode(path.readlink()))
        elif path.is_file():
            content = path.read_bytes()
            found[str(path.relative_to(folder))] = (len(content), hashlib.sha256(content).digest())
    return found


def bytes_changed(before: Snapshot, folder: Path) -> int:
    """Bytes of the files below `folder` that were added, removed or written since `before`; a file counts whole, at least 1."""
    after = snapshot(folder)
    odd = [name for name in before | after if before.get(name) != after.get(name)]
    return sum(max(1, before.get(name, (0,))[0], after.get(name, (0,))[0]) for name in odd)
