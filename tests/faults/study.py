"""Faults of a study: killed at any moment, twice in one folder, damaged results, a missing seed, a full disk."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from tests.faults.tally import Tally, bytes_changed, snapshot
from utils.errors import UserError

KILLS = 20
RESULTS = ("result.json", "last.npz", "best.npz", "results.csv")


def run(folder: Path, *, short: bool) -> Tally:
    """Carry out one study undisturbed, and others with faults; each must end with its bytes."""
    from tests.utils.compare import forked
    from utils.compare import main as study_main
    from utils.data.shapes import write_dataset

    logging.getLogger("attune").addHandler(logging.NullHandler())
    tally = Tally("study")
    data = write_dataset(folder / "shapes", {"train": 8, "val": 4}, size=96, seed=0)
    before = snapshot(data.parent)
    (folder / "models").mkdir()
    cfgs = forked.write_models(folder / "models")
    with contextlib.ExitStack() as stack:
        for name, stand_in in (("LocalExecutor", forked.ForkExecutor), ("measure_costs", _nothing), ("write_report", _nothing)):
            stack.enter_context(mock.patch.object(study_main, name, stand_in))

        def conducted(project: Path, **more: Any) -> None:
            forked.study_of(forked.settings(cfgs, data, project, **more))

        start = time.monotonic()
        conducted(folder / "straight")
        seconds = time.monotonic() - start
        straight = folder / "straight" / "study"
        _kills(tally, conducted, straight, folder / "killed", seconds, 2 if short else KILLS)
        _damage(tally, conducted, straight, folder / "damaged", ("bit",) if short else ("bit", "cut", "empty"))
        _two(tally, conducted, straight, folder / "two")
        _missing(tally, straight, folder / "missing")
        _full(tally, conducted, straight, folder / "full")
    tally.bytes_changed = bytes_changed(before, data.parent)
    return tally


def _nothing(*_: object) -> None:
    """Costs and the report are measured and tested elsewhere."""


def _measured(study: Path) -> dict[str, bytes]:
    """results.csv, and every run's matches and curve."""
    files = [study / "results.csv", *study.rglob("*.npz"), *study.glob("runs/*/*/results.csv")]
    return {str(path.relative_to(study)): path.read_bytes() for path in files}


def _kills(tally: Tally, conducted: Callable[..., None], straight: Path, place: Path, seconds: float, count: int) -> None:
    """SIGKILL the study or, every other time, one of its runs, at moments drawn from the time that all of it takes."""
    from tests.utils.compare import forked

    rng = random.Random(0)
    for number in range(count):
        project = place / str(number)
        project.mkdir(parents=True)
        moment = rng.uniform(0, seconds)
        if number % 2:
            with mock.patch.object(forked.ForkExecutor, "kills", (moment / 2,)):
                conducted(project)
        else:
            child = forked.forked(lambda project=project: conducted(project))
            time.sleep(moment)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            _wait(child)
            conducted(project)
        same = _measured(project / "study") == _measured(straight)
        tally.fault(same, f"killed after {moment:.2f} s: {'the same bytes' if same else 'another result'}")
        shutil.rmtree(project)


def _wait(child: int) -> int:
    from tests.utils.compare import forked

    while (code := forked.ended(child)) is None:
        time.sleep(0.01)
    return code


@contextlib.contextmanager
def _copy(straight: Path, place: Path) -> Iterator[Path]:
    place.mkdir()
    yield Path(shutil.copytree(straight, place / "study"))
    shutil.rmtree(place)


def _damage(tally: Tally, conducted: Callable[..., None], straight: Path, place: Path, kinds: tuple[str, ...]) -> None:
    """A bit of a result flips, or the file ends early: the run is measured or made again, and the study says so."""
    from utils.compare import load_study

    for file in RESULTS if len(kinds) > 1 else RESULTS[:1]:
        for kind in kinds:
            with _copy(straight, place) as study:
                path = study / "runs" / "tiny" / "seed1" / file
                content = bytearray(path.read_bytes())
                content[len(content) // 2] ^= 1
                path.write_bytes({"bit": bytes(content), "cut": bytes(content[: len(content) // 2]), "empty": b""}[kind])
                conducted(study.parent)
                same = (study / "results.csv").read_bytes() == (straight / "results.csv").read_bytes()
                noted = any("damaged" in note for note in load_study(study).run("tiny", 1).notes)
                tally.fault(same and noted, f"{file} ({kind}): same results: {same}, noted: {noted}")


def _two(tally: Tally, conducted: Callable[..., None], straight: Path, place: Path) -> None:
    """The same command twice at once: one does it, the other says who does."""
    from tests.utils.compare import forked

    def quietly() -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what the refused one says is not for this terminal
        conducted(place)

    place.mkdir()
    children = [forked.forked(quietly) for _ in range(2)]
    codes = sorted(_wait(child) for child in children)
    same = _measured(place / "study") == _measured(straight)
    tally.fault(codes in ([0, 2], [0, 0]) and same, f"two at once: they ended with {codes}, the same bytes: {same}")


def _missing(tally: Tally, straight: Path, place: Path) -> None:
    """Without one of the seeds there is no verdict."""
    from utils.compare import load_study
    from utils.compare.verdicts import compare

    with _copy(straight, place) as study:
        shutil.rmtree(study / "runs" / "tiny-se" / "seed1")
        found = compare(load_study(study), 100).comparisons["tiny-se"]
        tally.fault(found.verdict == "no verdict" and bool(found.reason), f"a missing seed: {found.verdict} ({found.reason})")


def _full(tally: Tally, conducted: Callable[..., None], straight: Path, place: Path) -> None:
    """The disk is full when results are written: the study says so, and the same command does the rest later."""
    from utils.compare import evaluate_run as measure

    def full(*_: object) -> None:
        raise UserError("last.npz: cannot be written") from OSError(errno.ENOSPC, "No space left on device")

    place.mkdir()
    said = ""
    with mock.patch.object(measure, "match_detections", full):
        try:
            conducted(place)
        except UserError as error:
            said = str(error)
    conducted(place)
    same = _measured(place / "study") == _measured(straight)
    tally.fault("repeat the command to try again" in said and same, f"a full disk: said {said!r:.100}, the same bytes: {same}")
