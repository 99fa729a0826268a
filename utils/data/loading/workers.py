"""Loader processes, each with its own pipe, replaced when one dies or hangs."""

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

from utils.data.loading.dataset import BatchDataset, LoadedBatch
from utils.data.loading.sampler import BatchPlan
from utils.errors import UserError
from utils.log import LOG

AHEAD = 2
"""Plans queued for each worker."""
PATIENCE = 300.0
"""Seconds without an answer after which a worker counts as hung."""
TRIES = 4
"""Workers that are tried on a plan before loading fails."""

_TICK = 1.0
_SIGNALS = ("SIGINT", "SIGUSR1")  # sent to every process by terminals and batch systems; the training process handles them


@dataclasses.dataclass(slots=True)
class _Worker:
    """A loader process.

    Attributes:
        pending: numbers and plans without an answer yet, the first being loaded.
        waited: seconds without an answer.
    """

    process: BaseProcess
    pipe: Connection
    pending: collections.deque[tuple[int, BatchPlan]]
    waited: float = 0.0


class WorkerPool:
    """A fixed number of workers that load batches ahead and return them in order.

    What is loaded depends on the plan alone, so any worker may load it, and more than once.

    Args:
        dataset: loads a plan.
        size: number of workers, >= 1.
        patience: see `PATIENCE`.

    Attributes:
        replaced: number of workers replaced so far.
    """

    def __init__(self, dataset: BatchDataset, size: int, *, patience: float = PATIENCE) -> None:
        self.replaced = 0
        self._dataset, self._size, self._patience = dataset, size, patience
        self._workers: list[_Worker] = []
        self._given = 0
        self._done: dict[int, LoadedBatch] = {}
        self._tries: collections.Counter[int] = collections.Counter()

    @property
    def room(self) -> int:
        """Number of plans that can be given now."""
        return self._size * AHEAD - self.waiting

    @property
    def waiting(self) -> int:
        """Number of plans given and not taken."""
        return sum(len(worker.pending) for worker in self._workers) + len(self._done)

    @property
    def processes(self) -> list[BaseProcess]:
        """The current processes."""
        return [worker.process for worker in self._workers]

    def give(self, plan: BatchPlan) -> None:
        """Give a plan to the worker with the shortest queue."""
        if not self._workers:
            self._workers = [self._new_worker() for _ in range(self._size)]
        worker = min(self._workers, key=lambda m: len(m.pending))
        worker.pending.append((self._given, plan))
        self._given += 1
        self._send(worker, plan)

    def take(self) -> LoadedBatch:
        """Wait for the first plan given and not taken, and return its batch.

        Raises:
            UserError: several workers have failed on it.
        """
        number = self._given - self.waiting
        while number not in self._done:
            self._listen()
        self._tries.pop(number, None)
        return self._done.pop(number)

    def close(self) -> None:
        """Stop the workers."""
        for worker in self._workers:
            _end(worker)
        self._workers.clear()

    def _listen(self) -> None:
        """Receive answers, and replace workers that are dead or hung."""
        busy = [worker for worker in self._workers if worker.pending]
        start = time.monotonic()
        ready = wait([worker.pipe for worker in busy], _TICK)
        spent = time.monotonic() - start
        for worker in busy:
            worker.waited += spent
            if worker.pipe in ready:
                try:
                    batch = worker.pipe.recv()
                except (EOFError, OSError):
                    worker.process.join()
                    self._replace(worker, f"ended ({_ending(worker.process.exitcode)})")
                else:
                    number, _ = worker.pending.popleft()
                    self._done[number] = batch
                    worker.waited = 0.0
            elif worker.waited > self._patience:
                self._replace(worker, f"has not answered for {self._patience:.0f} s")

    def _send(self, worker: _Worker, plan: BatchPlan) -> None:
        with contextlib.suppress(OSError):  # it is dead, which is noticed when listening; its plans are sent again then
            worker.pipe.send(plan)

    def _replace(self, worker: _Worker, reason: str) -> None:
        """Replace a dead or hung worker by a new one with the same queue."""
        number, plan = worker.pending[0]
        self._tries[number] += 1
        self.replaced += 1
        _end(worker)
        if self._tries[number] >= TRIES:
            names = [str(self._dataset.path(sample.index)) for sample in plan.samples]
            raise UserError(
                f"a loader process {reason}, the {TRIES}th with the same images: {', '.join(names[:8])}{' ...' if names[8:] else ''}. "
                "If the machine is short of memory, lower --workers (0 loads in the training process) or give a container more "
                "shared memory (docker: --shm-size); else check these images"
            )
        LOG.warning("a loader process %s; it is replaced", reason)
        new = self._new_worker()
        worker.process, worker.pipe, worker.waited = new.process, new.pipe, 0.0
        for _, again in worker.pending:
            self._send(worker, again)

    def _new_worker(self) -> _Worker:
        """Start a process.

        OpenCV's threads do not survive a fork, and the child would wait for them forever. So there are none at that moment, and the
        child inherits a thread count of one.
        """
        context = torch.multiprocessing.get_context()
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(self._dataset, theirs, os.getpid()), daemon=True)
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            process.start()
        finally:
            cv2.setNumThreads(threads)
            theirs.close()  # so that its end is noticed: no other process holds that side
        return _Worker(process, ours, collections.deque())


def _serve(dataset: BatchDataset, pipe: Connection, parent: int) -> None:
    """Load the plans that come through the pipe until its other side is closed: the main loop of a worker."""
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
            pipe.send(dataset[pipe.recv()])
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _end(worker: _Worker) -> None:
    worker.process.kill()
    worker.process.join()
    worker.pipe.close()


def _ending(code: int | None) -> str:
    name = {-number: number.name for number in signal.Signals}.get(code or 0, f"exit status {code}")
    return name + (", as the system does when memory runs out" if name in ("SIGKILL", "SIGBUS") else "")
