"""Signals that ask a training to stop: noted when they come, obeyed where nothing is lost by it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

NAMES = ("SIGTERM", "SIGINT", "SIGUSR1")
"""Sent by a person or a shell, by a batch system that needs the machine, or by one that warns of the time limit."""


class StopRequest:
    """Whether a signal has asked to stop.

    Args:
        apart: seconds within which a second SIGINT counts as the first. torchrun passes on the Ctrl-C that the terminal has
            already sent to every process.
        quiet: say nothing when a signal comes.

    Attributes:
        by: the name of the first signal that came; empty before.
    """

    def __init__(self, *, apart: float = 0.0, quiet: bool = False) -> None:
        self.by = ""
        self._apart, self._quiet = apart, quiet
        self._owner = os.getpid()
        self._interrupted = float("inf")  # when the first Ctrl-C came

    def take(self, number: int, _frame: FrameType | None) -> None:
        """Note a signal; the handler of all of them.

        Raises:
            KeyboardInterrupt: it is the second Ctrl-C.
        """
        if os.getpid() != self._owner:
            return  # a loader process, which a terminal sends its Ctrl-C too: it works on until the training is done with it
        if number == signal.SIGINT:
            if time.monotonic() - self._interrupted > self._apart:
                raise KeyboardInterrupt
            self._interrupted = min(self._interrupted, time.monotonic())
        if not self.by:
            self.by = signal.Signals(number).name
            self._say(f"\n{self.by}: stopping as soon as everything is saved; Ctrl-C twice ends at once\n")

    def _say(self, text: str) -> None:
        if not self._quiet:
            with contextlib.suppress(OSError):
                os.write(2, text.encode())  # a stream may be in the middle of writing when a signal comes, and does not bear a second


@contextlib.contextmanager
def stop_requests(*, apart: float = 0.0, quiet: bool = False) -> Iterator[StopRequest]:
    """Take SIGTERM, SIGINT and SIGUSR1 (where there are such) as requests to stop while the block runs.

    What was done about them before is put back afterwards. Signals that are ignored stay so: that is how a shell keeps Ctrl-C from
    jobs in the background. Python hands signals to the main thread only; in another one no request ever comes.
    """
    request = StopRequest(apart=apart, quiet=quiet)
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    before = {n: signal.getsignal(n) for n in numbers}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, request.take)
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def ignore_signals() -> None:
    """Let no further signal change the exit status of a process that has stopped and saved, and is on its way out.

    torchrun sends SIGTERM to the other ranks as soon as one has ended, and a person may press Ctrl-C once more.
    """
    for name in NAMES:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
