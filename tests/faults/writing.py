"""SIGKILL while a checkpoint is written: an intact one is there at every instant, and the next start removes leftovers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch

from tests.faults.tally import Tally
from tests.faults.training import wait
from utils.errors import UserError
from utils.files.atomic import remove_leftovers
from utils.training import checkpoint
from utils.training.checkpoint import LAST, PREVIOUS, load_checkpoint, save_checkpoint
from utils.training.resume import newest_checkpoint

SHARES = (0.0, 0.001, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 0.999, 1.0)
"""Of the bytes of a checkpoint, after which the writer is killed."""
CALLS = ("open", "write_checksum", "chmod", "fsync", "hardlink_to", "replace", "replace again", "fsync again")
"""System calls in the order of a save; the writer is killed before or after each."""


def run(folder: Path, *, short: bool) -> Tally:
    """Kill a writer at every point of a save, over an older checkpoint and its predecessor, and with no links to be had."""
    tally = Tally("writing")
    size = _size(folder / "size.pt")
    cases: list[tuple[str, Callable[[], None]]] = [(f"after {share:.1%} of the bytes", _kill_in_bytes(size, share)) for share in SHARES]
    cases += [(f"before {call}", _kill_at(call, after=False)) for call in CALLS]
    cases += [(f"after {call}", _kill_at(call, after=True)) for call in CALLS]
    cases += [(f"without links, after {call}", _without_links(_kill_at(call, after=True))) for call in ("replace", "replace again")]
    for number, (what, prepare) in enumerate(cases[:: 5 if short else 1]):
        wrong = _killed(folder / str(number), prepare, tally)
        tally.fault(not wrong, f"killed {what}: {wrong}")
    return tally


def _content(number: int) -> dict[str, Any]:
    return {"epoch": number, "model": {f"w{i}": torch.full((3000,), float(number)) for i in range(20)}}


def _size(path: Path) -> int:
    save_checkpoint(path, _content(0))
    return path.stat().st_size


def _save(folder: Path, number: int) -> None:
    save_checkpoint(folder / LAST, _content(number), previous=folder / PREVIOUS)


def _killed(run_folder: Path, prepare: Callable[[], None], tally: Tally) -> str:
    """Save 1 and 2, be killed in saving 3, look what there is, and save 4; what went wrong in words, if anything."""
    folder = run_folder / "weights"
    folder.mkdir(parents=True)
    _save(folder, 1)
    _save(folder, 2)
    pid = os.fork()
    if not pid:
        prepare()
        _save(folder, 3)
        os._exit(0)
    if (code := wait(pid)) != -signal.SIGKILL:
        return f"the writer ended with {code}"
    newest = newest_checkpoint(run_folder)
    if newest is None:
        tally.checkpoints_lost += 1
        return "no whole checkpoint is left"
    wrong = _wrong(folder, load_checkpoint(newest))
    remove_leftovers(folder)
    left = {p.name for p in folder.iterdir()}
    _save(folder, 4)
    if not {LAST, PREVIOUS} >= left or {p.name for p in folder.iterdir()} != {LAST, PREVIOUS}:
        wrong += f" left behind: {sorted(left)}"
    return wrong if load_checkpoint(folder / LAST)["epoch"] == 4 else f"{wrong} the next save failed"


def _wrong(folder: Path, newest: dict[str, Any]) -> str:
    if newest["epoch"] not in (2, 3) or any(not bool((w == newest["epoch"]).all()) for w in newest["model"].values()):
        return f"the newest is {newest['epoch']}"
    try:
        return (
            "" if load_checkpoint(folder / PREVIOUS)["epoch"] == newest["epoch"] - 1 or newest["epoch"] == 2 else "its predecessor is older"
        )
    except UserError as error:
        return str(error)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_in_bytes(size: int, share: float) -> Callable[[], None]:
    """Let the process die when that share of the checkpoint's bytes is written."""

    class Counted:
        def __init__(self, file: IO[bytes]) -> None:
            self.file, self.left = file, int(size * share)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, piece: bytes) -> int:
            view = memoryview(piece).cast("B")
            if len(view) >= self.left:
                self.file.write(view[: self.left])
                self.file.flush()
                _die()
            self.left -= len(view)
            return self.file.write(view)

    def prepare() -> None:
        save, write_checksum = torch.save, checkpoint.write_checksum
        counted: list[Counted] = []

        def counting(content: Any, file: IO[bytes]) -> None:
            counted.append(Counted(file))
            save(content, counted[0])  # type: ignore[arg-type]

        torch.save = counting  # type: ignore[assignment]
        checkpoint.write_checksum = lambda _: write_checksum(counted[0])  # type: ignore[arg-type]

    return prepare


def _kill_at(call: str, *, after: bool) -> Callable[[], None]:
    """Let the process die before or after a call."""
    name, _, again = call.partition(" ")
    owner: Any = {"fsync": os, "write_checksum": checkpoint}.get(name, Path)

    def prepare() -> None:
        function, calls = getattr(owner, name), []

        def deadly(*args: Any, **settings: Any) -> Any:
            calls.append(name)
            mine = len(calls) == (2 if again else 1)
            if mine and not after:
                _die()
            result = function(*args, **settings)
            if mine:
                _die()
            return result

        setattr(owner, name, deadly)

    return prepare


def _without_links(prepare: Callable[[], None]) -> Callable[[], None]:
    """The same on a file system that has no hard links."""

    def refuse(*_: Any) -> None:
        raise OSError("no links here")

    def both() -> None:
        Path.hardlink_to = refuse  # type: ignore[method-assign]
        prepare()

    return both
