"""Cameras that misbehave: the good ones lose no frame, the bad ones are tried again with pauses, and nothing spins or hangs."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from tests.faults.cameras import Camera, cameras, number_of
from tests.faults.tally import Tally
from utils.errors import UserError
from utils.inference.streams import Stream, Streams, Timeouts
from utils.log import LOG

QUICK = Timeouts(min_pause=0.05, max_pause=0.4, timeout=2.0, give_up=20.0)

DOWN = ("missing", "silent", "garbage", "leading", "failing", "dripping", "page", "empty", "closing")
"""Never a frame."""

PARTLY = {"slow": 3, "stalling": 7, "negative": 1, "resetting": 4, "halves": 10, "sizes": 20, "lying": 1, "endless": 1}
"""Frames that come at least."""

LIMIT = 60.0
"""Seconds after which a run is ended, whatever came."""


class Watch:
    """Several cameras watched until enough has been seen: frames of each, and whether each shows the number it is given."""

    def __init__(self, urls: list[str], enough: Callable[[Watch], bool], timeouts: Timeouts = QUICK) -> None:
        """Watch, and close everything again."""
        self.frames: Counter[str] = Counter()
        self.inexact: set[str] = set()
        start = time.monotonic()
        self.source = Streams(urls, timeouts=timeouts)
        for taken in self.source:
            name = str(taken.path).rpartition("/")[2]
            self.frames[name] += 1
            if number_of(taken.image) != taken.number:
                self.inexact.add(name)
            self.seconds = time.monotonic() - start
            if enough(self) or self.seconds > LIMIT:
                break
        self.seconds = time.monotonic() - start
        self.failures = {name.rpartition("/")[2] for name in self.source.failures}
        self.source.close()
        self.closing = time.monotonic() - start - self.seconds

    def sound(self, name: str) -> bool:
        """Whether a camera sent frames, was opened once only, and none of its frames was lost or handed out twice."""
        return self.frames[name] > 10 and name not in self.inexact and Camera.visits[name] == 1

    def patient(self, name: str, each: int = 1) -> bool:
        """Whether a camera was not opened more often than the pauses allow; a redirection counts `each` times."""
        pause = QUICK.min_pause if self.frames[name] else QUICK.max_pause
        return 1 <= Camera.visits[name] <= each * (6 + self.seconds / pause)


def run(folder: Path, *, short: bool) -> Tally:
    """Watch bad cameras together with good ones: some at once, and in the long form one by one, too."""
    tally = Tally("streams")
    LOG.setLevel(logging.CRITICAL)
    names = [*DOWN, *PARTLY, "circling"]
    for size in (6,) if short else (6, 1):
        for first in range(0, len(names), size):
            _beside(names[first : first + size], tally)
    _flapping(tally)
    _dying(tally)
    _all_dead(tally)
    _nobody(tally)
    _idle(tally)
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("http://")]
    tally.fault(not left, f"threads left: {left}")
    return tally


def _beside(names: list[str], tally: Tally) -> None:
    """Watch until the good camera has sent enough, and each bad one what it sends at all, or was tried twice."""

    def enough(watch: Watch) -> bool:
        tried = all(Camera.visits[name] > 1 and name in _down(watch) for name in names if name not in PARTLY)
        came = all(watch.frames[name] >= least for name, least in PARTLY.items() if name in names)
        return watch.frames["good"] > 20 and tried and came

    with cameras() as site:
        watch = Watch([site + name for name in ("good", *names)], enough)
        tally.fault(watch.sound("good"), f"good beside {names}: {watch.frames['good']} frames, opened {Camera.visits['good']} times")
        for name in names:
            least = PARTLY.get(name)
            expected = watch.frames[name] >= least if least else not watch.frames[name] and name in watch.failures
            ok = expected and watch.patient(name, 10 if name == "circling" else 1)
            said = f"{watch.frames[name]} frames, down {watch.failures}, {Camera.visits[name]} attempts in {watch.seconds:.1f} s"
            tally.fault(ok, f"{name}: {said}")
        tally.fault(watch.closing < LIMIT, f"closing took {watch.closing:.1f} s")


def _down(watch: Watch) -> set[str]:
    return {name.rpartition("/")[2] for name in watch.source.failures}


def _flapping(tally: Tally) -> None:
    """One camera drops twenty times and then stays; the other loses nothing."""
    timeouts = Timeouts(min_pause=0.02, max_pause=0.1, timeout=2.0, give_up=20.0)
    with cameras() as site:

        def enough(watch: Watch) -> bool:
            return Camera.visits["flapping"] > Camera.flaps and watch.frames["flapping"] > 2 * Camera.flaps and watch.frames["good"] > 20

        watch = Watch([site + "flapping", site + "good"], enough, timeouts)
        said = f"flapping: broke off or could not be opened {Camera.flaps} times"
        ok = Camera.visits["flapping"] == Camera.flaps + 1 and any(said in note for note in watch.source.notes)
        tally.fault(ok, f"{Camera.visits['flapping'] - 1} flaps, notes {watch.source.notes}")
        tally.fault(watch.sound("good"), f"good beside flapping: {watch.frames['good']} frames")


def _dying(tally: Tally) -> None:
    """One camera dies for good; the other goes on, and the dead one is named."""
    with cameras() as site:
        watch = Watch([site + "dying", site + "good"], lambda watch: Camera.visits["dying"] > 3 and "dying" in _down(watch))
        ok = watch.failures == {"dying"} and watch.frames["dying"] <= 12 and watch.patient("dying")
        tally.fault(ok, f"dying: {watch.frames['dying']} frames, down {watch.failures}, {Camera.visits['dying']} attempts")
        tally.fault(watch.sound("good"), f"good beside dying: {watch.frames['good']} frames")


def _all_dead(tally: Tally) -> None:
    """When no camera sends any more, the iteration ends by itself."""
    with cameras() as site:
        timeouts = Timeouts(min_pause=0.05, max_pause=0.4, timeout=1.0, give_up=2.0)
        watch = Watch([site + "dying", site + "missing"], lambda _: False, timeouts)
    tally.fault(watch.seconds < LIMIT and watch.failures == {"dying", "missing"}, f"all dead: {watch.seconds:.1f} s, down {watch.failures}")


def _nobody(tally: Tally) -> None:
    """Where no camera can be opened, an error names them, without their passwords."""
    with cameras() as site:
        secret = site.replace("http://", "http://me:hunter2@")
        try:
            Watch([site + "missing", secret + "closing", "http://127.0.0.1:1/refused"], lambda _: True)
        except UserError as error:
            ok = "missing" in str(error) and "refused" in str(error) and "hunter2" not in str(error)
            tally.fault(ok, f"nobody: {error}")
        else:
            tally.fault(False, "nobody: no error")


def _idle(tally: Tally) -> None:
    """While everything is down, nothing spins: cameras are tried as often as the pauses allow, and asked for a frame hardly more often."""
    timeouts = Timeouts(min_pause=0.2, max_pause=1.0, timeout=1.0, give_up=2.0)
    asked, take = itertools.count(), Stream.take

    def counted(stream: Stream) -> tuple[int, float, NDArray[np.uint8]] | None:
        next(asked)
        return take(stream)

    with cameras() as site:
        source = Streams([site + "dying", site + "dying-2"], timeouts=timeouts)
        for _ in source:
            if len(source.failures) == 2:
                break
        before = Camera.visits.total()
        with mock.patch.object(Stream, "take", counted):
            for _ in source:
                pass
        source.close()
    tried, turns = Camera.visits.total() - before, next(asked) / 2
    tally.fault(tried <= 2 * timeouts.give_up / timeouts.min_pause, f"{tried} attempts in {timeouts.give_up} s")
    tally.fault(turns <= 2 * tried + timeouts.give_up / 0.5 + 5, f"{turns:.0f} turns for {tried} attempts: it spins")
