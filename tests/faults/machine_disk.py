"""Writes that fail: now and then, for good, or all of them."""

from __future__ import annotations

import dataclasses
import errno
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.tally import Tally, bytes_changed, snapshot
from tests.faults.training import Training, differences, outcome
from utils.training import history
from utils.training.checkpoint import load_checkpoint

FOREVER = 10**9


@dataclasses.dataclass(frozen=True)
class Broken:
    """Some calls on files fail.

    Attributes:
        call: open, fsync, replace or mkdir.
        name: what the file's path ends with.
        calls: the first and last of those that fail, counted from 1.
        error: the system's error.
        fatal: whether the training is to end with a message, and to go on once the disk is well.
        flags: of train.py.
    """

    call: str
    name: str
    calls: tuple[int, int]
    error: int
    fatal: bool = False
    flags: tuple[str, ...] = ("--noplots",)

    def __str__(self) -> str:
        last = "on" if self.calls[1] == FOREVER else str(self.calls[1])
        return f"{self.call} of {self.name} fails with {errno.errorcode[self.error]}, {self.calls[0]} to {last}"

    def prepare(self) -> None:
        """Break the calls, in this process for the rest of its life."""
        count = 0

        def check(path: str) -> None:
            nonlocal count
            if path.endswith(self.name):
                count += 1
                if self.calls[0] <= count <= self.calls[1]:
                    raise OSError(self.error, os.strerror(self.error), path)

        if self.call == "fsync":
            fsync = os.fsync

            def checked(descriptor: int) -> None:
                check(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
                fsync(descriptor)

            os.fsync = checked
            return
        method = getattr(Path, self.call)

        def method_checked(path: Path, *arguments: Any, **named: Any) -> Any:
            writes = self.call != "open" or any(c in (arguments[0] if arguments else named.get("mode", "r")) for c in "wa+x")
            if writes:
                check(str(path))
            return method(path, *arguments, **named)

        setattr(Path, self.call, method_checked)


FAULTS = (
    Broken("open", ".last.pt.tmp", (3, 5), errno.ENOSPC),
    Broken("open", ".results.csv.tmp", (3, 3), errno.ENOSPC),
    Broken("fsync", ".last.pt.tmp", (4, 4), errno.EIO),
    Broken("replace", ".last.pt.tmp", (6, 9), errno.EROFS),
    Broken("fsync", ".results.csv.tmp", (3, 4), errno.EIO),
    Broken("open", ".best.pt.tmp", (1, 2), errno.EDQUOT),
    Broken("open", "events.jsonl", (1, FOREVER), errno.ENOSPC),
    Broken("open", ".part", (1, FOREVER), errno.EACCES, flags=()),
    Broken("open", ".results.csv.tmp", (3, FOREVER), errno.ENOSPC, fatal=True),
    Broken("open", ".last.pt.tmp", (7, FOREVER), errno.EIO, fatal=True),
    Broken("open", ".opt.yaml.tmp", (1, FOREVER), errno.EROFS, fatal=True),
    Broken("mkdir", "weights", (1, FOREVER), errno.EROFS, fatal=True),
)


def disk_faults(tally: Tally, folder: Path, *, short: bool) -> None:
    """Let writes fail, and compare what came of it with a training whose disk was well."""
    place = folder / "disk"
    place.mkdir()
    training = Training(place, "--workers", "0")
    before = snapshot(training.data.parent)
    code = training.finish("straight", "--noplots")
    if code:
        tally.fault(False, f"the undisturbed run ended with {code}: {training.log('straight')}")
        return
    expected = outcome(training.run_folder("straight"))
    for number, fault in enumerate(FAULTS[:2] if short else FAULTS):
        wrong = _broken(training, f"run{number}", fault, expected)
        tally.fault(not wrong, f"{fault}: {wrong}")
    if not short:
        for name, wrong in (("the disk is full for good", _full(training)), ("TensorBoard", _board(training, expected))):
            tally.fault(not wrong, f"{name}: {wrong}")
    tally.bytes_changed += bytes_changed(before, training.data.parent)


def _broken(training: Training, name: str, fault: Broken, expected: dict[str, str]) -> str:
    code = _finish(training, name, fault.prepare, *fault.flags)
    if code != (2 if fault.fatal else 0):
        return f"ended with {code}: {training.log(name)}"
    if fault.fatal:
        if "Traceback" in training.log(name) or os.strerror(fault.error) not in training.log(name):
            return f"no message: {training.log(name)}"
        code = training.finish(name, "--noplots")
    return f"went on and ended with {code}: {training.log(name)}" if code else differences(expected, training.run_folder(name))


def _finish(training: Training, name: str, prepare: Callable[[], None], *flags: str) -> int:
    from tests.faults.training import wait

    return wait(training.start(name, *flags, prepare=prepare))


def _full(training: Training) -> str:
    """No file may grow beyond half a checkpoint: the system itself refuses the writes. A twin that is left alone comes to the same."""
    name, last, more = "full", training.run_folder("full") / "weights" / "last.pt", ("--noplots", "--epochs", "3")
    for twin in (name, "twin"):
        if code := training.finish(twin, "--noplots", "--epochs", "1"):
            return f"{twin} ended with {code}: {training.log(twin)}"
    content = last.read_bytes()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) // 2, resource.RLIM_INFINITY))

    code = _finish(training, name, limit, *more)
    if code != 2 or "cannot be written" not in training.log(name):
        return f"ended with {code}: {training.log(name)}"
    if last.read_bytes() != content or load_checkpoint(last)["epoch"] != 0:
        return "the checkpoint is another one"
    codes = [training.finish(twin, *more) for twin in (name, "twin")]
    return f"went on and ended with {codes}" if any(codes) else differences(outcome(training.run_folder("twin")), last.parent.parent)


def _board(training: Training, expected: dict[str, str]) -> str:
    class Board:
        def add_scalar(self, *_: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        close = add_scalar

    def prepare() -> None:
        history._tensorboard = lambda *_: Board()

    code = _finish(training, "board", prepare, "--noplots")
    return f"ended with {code}: {training.log('board')}" if code else differences(expected, training.run_folder("board"))
