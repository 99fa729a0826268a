"""Ten thousand inputs that are nearly right: each ends in a result or a `UserError`, within two seconds, and writes nothing.

Case n of a kind is the same in every run; ``python -m tests.faults.fuzz KIND N`` repeats it with its traceback.
"""

from __future__ import annotations

import logging
import os
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.effort import too_long
from tests.faults.fuzz_kinds import KINDS
from tests.faults.tally import Tally
from utils.errors import UserError

CASES = {"model": 1600, "data": 1000, "hyp": 1000, "labels": 2200, "coco": 1200, "voc": 1000, "official": 700, "own": 900, "flags": 1200}
"""How many of each kind; the short form takes a thirtieth."""
SECONDS = 8.0
"""Several times what the slowest takes: what it catches grows with the square of its input. Exact bounds are counts, in unit tests."""
HANG = 30
GROWTH = 300 << 10
"""kB that the process may have grown in the end: what the kinds load and keep for good."""
ROOM = 6 << 30
"""Bytes of address space; what asks for more is a failure, not the end of the machine."""


class _HangError(BaseException):
    """No handler of errors may take this for one."""


def run(folder: Path, *, short: bool) -> Tally:
    """Try all cases of every kind."""
    tally = Tally("fuzz")
    logging.getLogger("attune").addHandler(logging.NullHandler())
    with _bounded(), _quiet():
        for kind, count in CASES.items():
            place = folder / kind
            place.mkdir()
            reader = KINDS[kind](place)
            _tried(reader, kind, 0, place)  # imports what it needs
            before = _memory()
            for number in range(count // 30 if short else count):
                tally.fault(*_tried(reader, kind, number, place))
            grown = _memory() - before
            if grown > GROWTH:
                tally.failures.append(f"{kind}: the process grew by {grown >> 10} MB")
    return tally


def _tried(reader: Callable[[random.Random], object], kind: str, number: int, place: Path) -> tuple[bool, str]:
    """Whether case `number` went as it should, and if not, how."""
    name = f"{kind} {number}"
    before = _listing(place)
    signal.alarm(HANG)
    start = time.process_time()
    try:
        reader(random.Random(name))
    except UserError as error:
        if not str(error).strip():
            return False, f"{name}: an empty message"
    except (Exception, SystemExit, _HangError) as error:  # noqa: BLE001  a traceback is what is looked for
        return False, f"{name}: {type(error).__name__}: {str(error)[:200]}"
    finally:
        signal.alarm(0)
    seconds = time.process_time() - start
    if too_long(seconds, SECONDS):
        return False, f"{name}: took {seconds:.1f} s"
    if written := _listing(place) - before:
        return False, f"{name}: wrote {sorted(written)[:3]}"
    return True, name


def _listing(place: Path) -> set[str]:
    return {str(path) for path in place.rglob("*")}


def _memory() -> int:
    """Memory that this process holds, in kB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 10


@contextmanager
def _bounded() -> Iterator[None]:
    def hang(*_: object) -> None:
        raise _HangError(f"nothing within {HANG} s")

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits, handler = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGALRM, hang)
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGALRM, handler)


@contextmanager
def _quiet() -> Iterator[None]:
    """Neither the log nor --help is of interest."""
    before = sys.stdout
    with Path(os.devnull).open("w") as nowhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.stdout = nowhere
        try:
            yield
        finally:
            sys.stdout = before


def main(kind: str, number: str) -> None:
    """Repeat one case, letting its error through."""
    with tempfile.TemporaryDirectory() as folder, _bounded():
        result = KINDS[kind](Path(folder))(random.Random(f"{kind} {number}"))
        print(f"{kind} {number}: {result!r:.1000}")


if __name__ == "__main__":
    main(*sys.argv[1:])
