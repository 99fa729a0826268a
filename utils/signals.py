"""Signals that ask a training to stop at the next point where nothing is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

NAMES = ("SIGTERM", "SIGINT", "SIGUSR1")
"""Sent by the user, by a batch system that needs the machine, or by one that warns of the time limit."""


class StopRequest:
    """Whether a signal has asked to stop.

    Args:
        apart: seconds within which a second SIGINT counts as the first. torchrun forwards the Ctrl-C that the terminal has
            already sent to every process.
        quiet: print nothing when a signal comes.

    Attributes:
        by: the name of the first signal; empty before.
    """

    def __init__(self, *, apart: float = 0.0, quiet: bool = False) -> None:
        self.by = ""
        self._apart, self._quiet = apart, quiet
        self._owner = os.getpid()
        self._interrupted = float("inf")  # when the first Ctrl-C came

    def take(self, number: int, _frame: FrameType | None) -> None:
        """The handler of all signals.

        Raises:
            KeyboardInterrupt: it is the second Ctrl-C.
        """
        if os.getpid() != self._owner:
            return  # a dataloader worker, which gets the terminal's Ctrl-C too, works until the training stops it
        if number == signal.SIGINT:
            if time.monotonic() - self._interrupted > self._apart:
                raise KeyboardInterrupt
            self._interrupted = min(self._interrupted, time.monotonic())
        if not self.by:
            self.by = signal.Signals(number).name
            text = f"\n{self.by}: stopping as soon as everything is saved; Ctrl-C twice exits at once\n"
            if not self._quiet:
                with contextlib.suppress(OSError):
                    os.write(2, text.encode())  # sys.stderr may be in the middle of a write, and is not reentrant


@contextlib.contextmanager
def stop_requests(*, apart: float = 0.0, quiet: bool = False) -> Iterator[StopRequest]:
    """Treat SIGTERM, SIGINT and SIGUSR1 (where they exist) as requests to stop while the block runs.

    The handlers are restored afterwards. Ignored signals stay ignored: a shell keeps Ctrl-C from background jobs that way.
    Python delivers signals to the main thread only; in another one no request ever comes.
    """
    request = StopRequest(apart=apart, quiet=quiet)
    with _handled_by(request.take):
        yield request


def ending_at_once() -> contextlib.AbstractContextManager[None]:
    """Let the signals of `stop_requests` end the process while the block runs, for it waits where Python calls no handler."""
    return _handled_by(signal.SIG_DFL)


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> Iterator[None]:
    main = threading.current_thread() is threading.main_thread()
    before = {n: signal.getsignal(n) for name in NAMES if main and (n := getattr(signal, name, None))}
    try:
        for number, previous in before.items():
            if previous is not signal.SIG_IGN:
                signal.signal(number, handler)
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, signal.SIG_DFL if previous is None else previous)


def ignore_signals() -> None:
    """Let no further signal change the exit status of a process that has saved and is exiting.

    torchrun sends SIGTERM to the other ranks as soon as one has ended, and a user may press Ctrl-C again.
    """
    for name in NAMES:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
