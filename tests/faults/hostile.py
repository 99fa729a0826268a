"""Untrusted files and URLs that try to run something, to write elsewhere, or to take memory and time without end.

Each must be refused by a `UserError` whose message says why, within 2 seconds of computing and 1 GB, and the canary that every
payload would touch must not be there afterwards; or, where the file is data with a trap in it, the trap must be inert.
"""

from __future__ import annotations

import os
import re
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.effort import too_long
from tests.faults.hostile_archives import archives
from tests.faults.hostile_images import images
from tests.faults.hostile_names import traps
from tests.faults.hostile_pickles import pickles
from tests.faults.hostile_reports import reports
from tests.faults.hostile_texts import texts
from tests.faults.hostile_work import work
from tests.faults.tally import Tally, bytes_changed, snapshot
from utils.errors import UserError

SECONDS = 8.0
"""Several times what the slowest takes: what it catches grows with the square of its input. Exact bounds are counts, in unit tests."""
MEGABYTES = 1000


class Attack(NamedTuple):
    """What is tried: a name, what reads it, and a pattern of the refusal; None where nothing is refused and `use` itself checks."""

    name: str
    use: Callable[[], object]
    refusal: str | None


def attacks(folder: Path, canary: Path) -> Iterator[Attack]:
    """Lay out every hostile file below `folder`."""
    for kind in (pickles, texts, archives, reports, traps, work, images):
        place = folder / kind.__name__
        place.mkdir()
        for entry in kind(place, canary):
            yield Attack(*entry)


def run(folder: Path, *, short: bool) -> Tally:
    """Try every attack, or every fifth."""
    tally = Tally("hostile")
    canary, here, precious = folder / "canary", folder / "work", folder / "precious"
    for place in (here, precious):
        place.mkdir()
    (precious / "file").write_bytes(b"untouched")
    os.environ["ATTUNE_CANARY"] = str(canary)
    os.chdir(here)
    before = snapshot(precious)
    warm_up(folder)
    for number, attack in enumerate(attacks(here, canary)):
        if short and number % 5:
            continue
        tally.fault(*try_attack(attack))
        if canary.exists():
            tally.executed += 1
            tally.failures.append(f"{attack.name}: its payload ran")
            canary.unlink()
    tally.bytes_changed = bytes_changed(before, precious)
    return tally


def warm_up(folder: Path) -> None:
    """Import everything once, so that the first attack is not charged for it."""
    from models import build_model
    from utils.data.scan import load_index  # noqa: F401

    build_model("yolov5n", 1)


def try_attack(attack: Attack) -> tuple[bool, str]:
    """Whether it went as it should, and if not, how."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    try:
        attack.use()
        refusal = None
    except UserError as error:
        refusal = str(error)
    except Exception as error:  # noqa: BLE001  a traceback is what is looked for
        return False, f"{attack.name}: {type(error).__name__}: {str(error)[:200]}"
    seconds = time.process_time() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1000
    if (refusal is None) != (attack.refusal is None):
        return False, f"{attack.name}: {'was not refused' if refusal is None else 'was refused: ' + refusal[:200]}"
    if refusal and not re.search(attack.refusal or "", refusal):
        return False, f"{attack.name}: refused, but not for {attack.refusal!r}: {refusal[:200]}"
    if too_long(seconds, SECONDS) or grown > MEGABYTES:
        return False, f"{attack.name}: took {seconds:.1f} s and {grown:.0f} MB"
    return True, attack.name
