"""One run of a study in a process of its own: ``python -m utils.compare.run_worker STUDY VARIANT SEED``.

It may be started any number of times, by anyone, on any machine that sees the folder: what is done stays done, what was begun goes
on from its last whole checkpoint, and while one process is at work on a run, a second one waits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from utils.cli import option, parse, run
from utils.compare.checksummed_json import digest, file_digest, read_json, write_json
from utils.compare.plan_io import read_plan
from utils.compare.run_result import RESULT, read_run_result, write_run_result
from utils.compare.study import RunResult, StudyPlan, Variant, model_file, run_folder
from utils.errors import UserError
from utils.files.lock import folder_lock
from utils.log import LOG, start_log

USAGE = "parts.json"
"""Time and memory of the processes that trained a run, as far as they lived to tell."""
_PATIENCE = 90.0  # seconds that a process may take to save and leave after its parent has died


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """Arguments of ``python -m utils.compare.run_worker``."""

    study: str = option("", "study folder", positional=True)
    variant: str = option("", "variant", positional=True)
    seed: int = option(0, "seed", positional=True, type=int)
    device: str = option("", "cpu, mps, 0, ...; '' takes the first GPU, else the CPU")
    workers: int = option(8, "most loader processes; 0 loads in this process")
    cache: str = option("", "keep decoded images in 'ram' or on 'disk'")
    noplots: bool = option(False, "draw no pictures")
    save_period: int = option(-1, "also keep a checkpoint every so many epochs")
    save_interval: float = option(10.0, "save within an epoch every so many minutes; 0 saves after epochs only")
    follow: bool = option(False, "save and end when standard input is closed: the process that started this one is gone")


def main(argv: list[str] | None = None) -> None:
    """Carry out a run, unless it is done.

    Raises:
        UserError: what keeps this process from it but says nothing about the variant: a full disk, data that are gone.
        StopError: a signal has asked to stop; everything is saved.
    """
    config, _ = parse(WorkerConfig, argv, description=__doc__ or "")
    if config.follow:
        _follow()
    plan = read_plan(Path(config.study))
    set_threads(plan.threads)
    start_log()
    Worker(Path(config.study), plan, plan.variant(config.variant), config).carry_out()


def _follow() -> None:
    """End as after SIGTERM when the other end of standard input goes, by whatever death."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1024):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def set_threads(count: int) -> None:
    """Compute with as many threads as the study was planned with: the last bits of a sum depend on it."""
    # torch reads these when it is first imported
    os.environ.update({name: str(count) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")})
    import torch

    torch.set_num_threads(count)


@contextlib.contextmanager
def _claim(study: Path, variant: str, seed: int) -> Iterator[None]:
    """Have a run to oneself. An earlier process may still be saving: its parent was killed, and it has not noticed yet."""
    folder = study / "claims" / variant / f"seed{seed}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror or error})") from error
    with contextlib.ExitStack() as stack:
        begun = time.monotonic()
        while True:
            try:
                stack.enter_context(folder_lock(folder))
                break
            except UserError:
                if time.monotonic() - begun > _PATIENCE:
                    raise
                time.sleep(0.2)
        yield


@dataclasses.dataclass(slots=True)
class Worker:
    """A run and everything it needs."""

    study: Path
    plan: StudyPlan
    variant: Variant
    config: WorkerConfig
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def home(self) -> Path:
        """The run folder."""
        return run_folder(self.study, self.variant.name, self.config.seed)

    def carry_out(self) -> None:
        """Train, measure, and write the result, as far as that is still to do."""
        with _claim(self.study, self.variant.name, self.config.seed):
            before = read_run_result(self.study, self.variant.name, self.config.seed)
            if before.state != "missing":
                LOG.info("%s, seed %d: %s already", self.variant.name, self.config.seed, before.state)
                return
            if before.error:
                self.notes.append(f"{before.error}; carried out again")
                LOG.warning("%s: %s; carrying it out again", self.home, before.error)
            try:
                self.home.mkdir(parents=True, exist_ok=True)
                result = self._result()
            except OSError as error:
                raise UserError(f"{error.filename or self.home}: {error.strerror or error}; the same command tries again") from error
            except UserError as error:
                if _of_the_machine(error):
                    raise
                LOG.warning("%s, seed %d failed: %s", self.variant.name, self.config.seed, error)
                text = str(error).replace(f"{self.study}{os.sep}", "")  # the row is the same wherever the study lies
                result = self._blank("failed", error=" ".join(text.split()))
            write_run_result(self.home, dataclasses.replace(result, notes=tuple(self.notes)))

    def _blank(self, state: str, error: str = "") -> RunResult:
        return RunResult(variant=self.variant.name, seed=self.config.seed, state=state, folder=self.home, error=error)

    def _result(self) -> RunResult:
        if self.variant.error:
            raise UserError(self.variant.error)
        if digest(self.variant.spec) != self.variant.digest:
            file = model_file(self.study, self.variant.name)
            raise UserError(f"{file}: damaged; run compare.py again, which restores it") from OSError("damaged")
        from models import load_plugins
        from utils.compare.evaluate_run import measure, open_splits
        from utils.compare.provenance import data_digest, device_name, versions
        from utils.device import select_device
        from utils.training.checkpoint import load_checkpoint

        load_plugins(tuple(self.plan.plugins))
        device = select_device(self.config.device)
        splits = open_splits(self.plan)
        found = {split: data_digest(index) for split, index in splits.items()}
        made_with = {**versions(), "data": digest(found)[:16], "device": device_name(device)}
        made_with |= {"threads": str(self.plan.threads), **self._inputs()}
        payload = self._trained()
        best_epoch = int(load_checkpoint(self.home / "weights" / "best.pt")["epoch"])
        (self.home / RESULT).unlink(missing_ok=True)
        index, same = splits[self.plan.data.measured], best_epoch == int(payload["epoch"])
        scores: dict[str, Any] = measure(self.plan, self.home, index, device, self.config.workers, same=same)
        parts = read_json(self.home / USAGE) or {}
        self.notes += [f"{count} x {kind}" for kind, count in sorted(_mishaps(self.home).items())]
        return dataclasses.replace(
            self._blank("done"),
            split=self.plan.data.measured,
            epochs=int(payload["epoch"]) + 1,
            **scores,
            best_epoch=best_epoch,
            train_seconds=float(parts.get("seconds", 0.0)),
            train_memory_mb=float(parts.get("memory_mb", 0.0)),
            made_with=made_with,
        )

    def _inputs(self) -> dict[str, str]:
        """Digests of the user's own files that a run rests on: one that is edited while the study is under way shows."""
        found = {f"plug-in {path}": file_digest(Path(path))[:16] for path in self.plan.plugins}
        return found | ({"start weights": file_digest(Path(self.plan.weights))[:16]} if self.plan.weights else {})

    def _trained(self) -> dict[str, Any]:
        """Train to the end, on from where an earlier process was stopped; the last checkpoint's content."""
        from utils.training.checkpoint import load_checkpoint
        from utils.training.resume import is_finished, newest_whole

        path = newest_whole(self.home)
        payload = load_checkpoint(path) if path else None
        if payload and (reason := self._unusable(payload)):
            self.notes.append(f"{reason}; trained again from the start")
            LOG.warning("%s: %s; training again from the start", self.home, reason)
            payload = None
        if payload and is_finished(payload):
            return payload
        if payload:
            self.notes.append(f"went on from epoch {int(payload['epoch']) + 1}")
        else:
            shutil.rmtree(self.home, ignore_errors=True)
        self._train(resume=payload is not None)
        path = newest_whole(self.home)
        assert path is not None, "training ended without a checkpoint"
        return load_checkpoint(path)

    def _unusable(self, payload: dict[str, Any]) -> str:
        """Why a checkpoint cannot be gone on from without mixing what is not comparable, or ""."""
        from utils.compare.provenance import code_digest
        from utils.files.checksum import has_valid_checksum
        from utils.training.resume import is_finished

        marks = read_json(self.home / USAGE) or {}
        best = self.home / "weights" / "best.pt"
        if marks.get("code", code_digest()) != code_digest():
            return "begun with other code"
        if is_finished(payload) and not (best.is_file() and has_valid_checksum(best)):
            return "best.pt is damaged"
        return ""

    def _train(self, *, resume: bool) -> None:
        from utils.compare.config import train_config
        from utils.compare.provenance import code_digest
        from utils.config import Hyp
        from utils.training.session import train

        self.home.mkdir(parents=True, exist_ok=True)
        earlier = read_json(self.home / USAGE) or {"seconds": 0.0, "memory_mb": 0.0, "code": code_digest()}
        write_json(self.home / USAGE, earlier)
        local = {name: getattr(self.config, name) for name in ("device", "workers", "cache", "noplots", "save_period", "save_interval")}
        own: dict[str, Any] = {"cfg": str(model_file(self.study, self.variant.name)), "seed": self.config.seed, "exist_ok": True}
        own |= {"weights": self.plan.weights, "data": self.plan.data.source, "plugins": tuple(self.plan.plugins)}
        own |= {"project": str(self.home.parent), "name": self.home.name}
        config = train_config(self.plan.flags, **own, **local, resume=str(self.home) if resume else "")
        given = frozenset({"resume", *local}) if resume else frozenset({*self.plan.flags, *own, *local})
        begun = time.monotonic()
        try:
            train(config, Hyp(**self.plan.hyp), given, {})  # type: ignore[arg-type]
        finally:
            seconds, memory = earlier["seconds"] + time.monotonic() - begun, max(earlier["memory_mb"], peak_memory_mb())
            with contextlib.suppress(UserError):
                write_json(self.home / USAGE, {**earlier, "seconds": seconds, "memory_mb": memory})


def _mishaps(home: Path) -> Counter[str]:
    """What went wrong in the training and was dealt with there, by kind."""
    kinds: Counter[str] = Counter()
    with contextlib.suppress(OSError):
        for line in (home / "events.jsonl").read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a line that a kill cut off
                kinds[str(json.loads(line)["event"])] += 1
    return kinds


def _of_the_machine(error: BaseException) -> bool:
    """Whether the disk or a file is to blame, rather than the variant: that may be mended and tried again."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def peak_memory_mb() -> float:
    """Largest memory so far, in 1e6 bytes: of the GPU where one is used, else of this process."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


if __name__ == "__main__":
    run(main)
