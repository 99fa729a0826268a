"""Processes that load: each with a pipe of its own, and replaced when it dies or hangs."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import signal
import time
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import cv2
import torch

from utils.data.loading.dataset import Part, Parts
from utils.data.loading.sampler import Work
from utils.errors import UserError
from utils.log import LOG

AHEAD = 2
"""Pieces of work that a process has before it."""
PATIENCE = 300.0
"""Seconds of waiting for one process after which it hangs."""
TRIES = 4
"""Processes that a piece of work is given to before loading is given up."""

_TICK = 1.0
_SIGNALS = ("SIGINT", "SIGUSR1")  # a terminal or batch system sends them to every process; the training decides what they mean


@dataclasses.dataclass(slots=True)
class _Member:
    """A process.

    Attributes:
        pending: numbers and pieces of work that it has not answered yet, the first being under way.
        waited: seconds that it has been waited for since its last answer.
    """

    process: BaseProcess
    pipe: Connection
    pending: collections.deque[tuple[int, Work]]
    waited: float = 0.0


class Crew:
    """A fixed number of processes that load pieces of work ahead, and give them back in order.

    What a process loads depends on the work alone, so that it does not matter which one does it, nor how often.

    Args:
        parts: how to load.
        size: number of processes, at least 1.
        patience: see `PATIENCE`.

    Attributes:
        replaced: how many processes had to be replaced so far.
    """

    def __init__(self, parts: Parts, size: int, *, patience: float = PATIENCE) -> None:
        self.replaced = 0
        self._parts, self._size, self._patience = parts, size, patience
        self._members: list[_Member] = []
        self._given = 0
        self._done: dict[int, Part] = {}
        self._tries: collections.Counter[int] = collections.Counter()

    @property
    def room(self) -> int:
        """How many more pieces of work can be given."""
        return self._size * AHEAD - self.waiting

    @property
    def waiting(self) -> int:
        """How many pieces were given and not taken."""
        return sum(len(member.pending) for member in self._members) + len(self._done)

    @property
    def processes(self) -> list[BaseProcess]:
        """The processes there are now."""
        return [member.process for member in self._members]

    def give(self, work: Work) -> None:
        """Give a piece of work to the process that has least before it."""
        if not self._members:
            self._members = [self._new_member() for _ in range(self._size)]
        member = min(self._members, key=lambda m: len(m.pending))
        member.pending.append((self._given, work))
        self._given += 1
        self._send(member, work)

    def take(self) -> Part:
        """Wait for the piece that was given first of those not taken, and return what came of it.

        Raises:
            UserError: it was given to several processes, and none came to an end with it.
        """
        number = self._given - self.waiting
        while number not in self._done:
            self._listen()
        self._tries.pop(number, None)
        return self._done.pop(number)

    def close(self) -> None:
        """End the processes."""
        for member in self._members:
            _end(member)
        self._members.clear()

    def _listen(self) -> None:
        """Take answers, and see to those who will not answer any more."""
        busy = [member for member in self._members if member.pending]
        start = time.monotonic()
        ready = wait([member.pipe for member in busy], _TICK)
        spent = time.monotonic() - start
        for member in busy:
            member.waited += spent
            if member.pipe in ready:
                self._receive(member)
            elif member.waited > self._patience:
                self._replace(member, f"has not answered for {self._patience:.0f} s")

    def _receive(self, member: _Member) -> None:
        try:
            part = member.pipe.recv()
        except (EOFError, OSError):
            member.process.join()
            self._replace(member, f"ended ({_ending(member.process.exitcode)})")
            return
        number, _ = member.pending.popleft()
        self._done[number] = part
        member.waited = 0.0

    def _send(self, member: _Member, work: Work) -> None:
        with contextlib.suppress(OSError):  # it has died, which is noticed when it is listened to; the work is done again then
            member.pipe.send(work)

    def _replace(self, member: _Member, what: str) -> None:
        """Put a new process in the place of one that is lost, with the same work before it."""
        number, work = member.pending[0]
        self._tries[number] += 1
        self.replaced += 1
        _end(member)
        if self._tries[number] >= TRIES:
            names = [str(self._parts.path(sample.index)) for sample in work.samples]
            raise UserError(
                f"a loader process {what}, the {TRIES}th with the same images: {', '.join(names[:8])}{' ...' if names[8:] else ''}. "
                "If the machine is short of memory, lower --workers (0 loads in the training process) or give a container more "
                "shared memory (docker: --shm-size); else look at these images"
            )
        LOG.warning("a loader process %s; another one takes its place", what)
        new = self._new_member()
        member.process, member.pipe, member.waited = new.process, new.pipe, 0.0
        for _, again in member.pending:
            self._send(member, again)

    def _new_member(self) -> _Member:
        """Start a process.

        OpenCV's threads do not survive a fork, but the copy waits for them for ever. So there are none at that moment, and the
        process, which takes turns with others on the processors as it is, inherits a count of one.
        """
        context = torch.multiprocessing.get_context()
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(self._parts, theirs, os.getpid()), daemon=True)
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            process.start()
        finally:
            cv2.setNumThreads(threads)
            theirs.close()  # so that its end is noticed: nobody else holds the other side
        return _Member(process, ours, collections.deque())


def _serve(parts: Parts, pipe: Connection, parent: int) -> None:
    """Load what comes through the pipe until the other side is gone: what a loader process does."""
    for name in _SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        while True:
            while not pipe.poll(5):
                if os.getppid() != parent:  # its end of the pipe may still be open in another loader process
                    return
            pipe.send(parts[pipe.recv()])
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _end(member: _Member) -> None:
    member.process.kill()
    member.process.join()
    member.pipe.close()


def _ending(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return name + (", as the system does when memory is short" if name in ("SIGKILL", "SIGBUS") else "")
