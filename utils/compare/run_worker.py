"""One run of a study in a separate process: ``python -m utils.compare.run_worker STUDY VARIANT SEED``.

It may be started any number of times, on any machine with access to the folder: finished work is kept, an interrupted run resumes from
its last intact checkpoint, and while one process works on a run, a second one waits.
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
from utils.compare.checksummed_json import MAX_BYTES, digest, read_json, write_json
from utils.compare.config import local_flags
from utils.compare.plan_io import read_plan
from utils.compare.run_result import RESULT, read_run_result, write_run_result
from utils.compare.stopping import ARM_ENDED, why_stopped
from utils.compare.study import RunResult, StudyPlan, Variant, model_file, run_folder
from utils.errors import UserError
from utils.files.lock import folder_lock
from utils.files.run_folders import refuse_links
from utils.files.safe_open import read_regular
from utils.log import LOG, start_log
from utils.versions import file_digest

USAGE = "parts.json"
"""File with the time and memory of the processes that trained a run, and the version of the code they began with."""
_CLAIM_TIMEOUT = 90.0  # seconds an earlier process may take to save and exit after its parent died


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """Arguments of ``python -m utils.compare.run_worker``."""

    study: str = option("", "study folder", positional=True)
    variant: str = option("", "variant", positional=True)
    seed: int = option(0, "seed", positional=True, type=int)
    device: str = option("", "cpu, mps, 0, ...; '' takes the first GPU, else the CPU")
    workers: int = option(8, "maximum number of dataloader processes; 0 loads in this process")
    cache: str = option("", "keep decoded images in 'ram' or on 'disk'")
    noplots: bool = option(False, "save no plots")
    save_period: int = option(-1, "also keep a checkpoint every N epochs")
    save_interval: float = option(10.0, "save within an epoch every N minutes; 0 saves after epochs only")
    follow: bool = option(False, "save and exit when standard input is closed: the parent process is gone")


def main(argv: list[str] | None = None) -> None:
    """Carry out a run, unless it is done.

    Raises:
        UserError: an error that is not the variant's fault, such as a full disk or a missing dataset.
        StopError: a signal asked to stop; everything is saved.
    """
    config, _ = parse(WorkerConfig, argv, description=__doc__ or "")
    if config.follow:
        _stop_with_parent()
    plan = read_plan(Path(config.study))
    set_threads(plan.threads)
    start_log()
    if why := why_stopped(Path(config.study), plan, config.variant, config.seed):
        LOG.info(why)
        sys.exit(ARM_ENDED)
    variant = plan.variant(config.variant)
    Worker(Path(config.study), plan.of(variant), variant, config).carry_out()


def _stop_with_parent() -> None:
    """Stop as after SIGTERM once the other end of standard input is closed, however the parent ended."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1024):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def set_threads(count: int) -> None:
    """Use the number of CPU threads of the study's plan, on which the last bits of a sum depend."""
    # torch reads these when it is first imported
    os.environ.update({name: str(count) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")})
    import torch

    torch.set_num_threads(count)


@contextlib.contextmanager
def _claim(study: Path, variant: str, seed: int) -> Iterator[None]:
    """Hold a run exclusively. An earlier process whose parent was killed may still be saving: wait for it."""
    refuse_links(study)
    folder = study / "claims" / variant / f"seed{seed}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be created ({error.strerror or error})") from error
    with contextlib.ExitStack() as stack:
        begun = time.monotonic()
        while True:
            try:
                stack.enter_context(folder_lock(folder))
                break
            except UserError:
                if time.monotonic() - begun > _CLAIM_TIMEOUT:
                    raise
                time.sleep(0.2)
        yield


@dataclasses.dataclass(slots=True)
class Worker:
    """Carries out one run."""

    study: Path
    plan: StudyPlan
    variant: Variant
    config: WorkerConfig
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return run_folder(self.study, self.variant.name, self.config.seed)

    def carry_out(self) -> None:
        """Train, measure and write the result, unless done already."""
        with _claim(self.study, self.variant.name, self.config.seed):
            before = read_run_result(self.study, self.variant.name, self.config.seed)
            if before.state != "missing":
                LOG.info("%s, seed %d: already %s", self.variant.name, self.config.seed, before.state)
                return
            if before.error:
                self.notes.append(f"{before.error}; repeated")
                LOG.warning("%s: %s; repeating the run", self.folder, before.error)
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                result = self._result(before)
            except OSError as error:
                raise UserError(f"{error.filename or self.folder}: {error.strerror or error}; repeat the command to try again") from error
            except UserError as error:
                if _is_environment_error(error):
                    raise
                LOG.warning("%s, seed %d failed: %s", self.variant.name, self.config.seed, error)
                text = str(error).replace(f"{self.study}{os.sep}", "")  # the same wherever the study folder is
                result = dataclasses.replace(before, state="failed", error=" ".join(text.split()))
            write_run_result(self.folder, dataclasses.replace(result, notes=tuple(self.notes)))

    def _result(self, missing: RunResult) -> RunResult:
        if self.variant.error:
            raise UserError(self.variant.error)
        if digest(self.variant.spec) != self.variant.digest:
            file = model_file(self.study, self.variant.name)
            raise UserError(f"{file}: damaged; repeat the compare.py command, which restores it") from OSError("damaged")
        from models import load_plugins
        from utils.compare.evaluate_run import measure, open_splits
        from utils.compare.provenance import data_digest, device_name, versions
        from utils.compare.start import measure_start, start_weights
        from utils.device import select_device
        from utils.training.checkpoint import load_checkpoint

        load_plugins(tuple(self.plan.plugins))
        device = select_device(self.config.device)
        splits = open_splits(self.plan)
        found = {split: data_digest(index) for split, index in splits.items()}
        made_with = {**versions(), "data": digest(found)[:16], "device": device_name(device), "threads": str(self.plan.threads)}
        made_with |= {f"plug-in {path}": file_digest(path)[:16] for path in self.plan.plugins}  # one may be edited meanwhile
        if self.plan.weights and (start := file_digest(self.plan.weights)) != self.plan.weights_digest:
            made_with["start weights"] = f"{start[:16]}, not the planned ones"
        seed = self.plan.seed_of(self.config.seed)
        if self.plan.data.folds:
            from utils.compare.folds import fold_plan

            self.plan = fold_plan(self.plan, self.study, self.config.seed)
            splits = open_splits(self.plan)
        origin = start_weights(self.plan, self.variant, seed, self.study)
        payload = self._trained(origin, seed)
        best_epoch = int(load_checkpoint(self.folder / "weights" / "best.pt")["epoch"])
        (self.folder / RESULT).unlink(missing_ok=True)
        measured, last_epoch = self.plan.data.measured, int(payload["epoch"])
        scores = measure(self.plan, self.folder, splits[measured], device, self.config.workers, same=best_epoch == last_epoch)
        before = measure_start(self.plan, self.variant, origin, seed, device, self.config.workers)
        usage = self._usage()
        self.notes += [f"{count} x {kind}" for kind, count in sorted(_event_counts(self.folder).items())]
        return dataclasses.replace(
            missing,
            state="done",
            error="",
            split=measured,
            epochs=last_epoch + 1,
            last=scores["last"],
            best=scores["best"],
            best_epoch=best_epoch,
            train_seconds=usage["seconds"],
            train_memory_mb=usage["memory_mb"],
            made_with=made_with,
            start=before,
        )

    def _trained(self, origin: str, seed: int) -> dict[str, Any]:
        """Train to the end from the weights `origin`, resuming an interrupted run; return the last checkpoint's content."""
        from utils.training.checkpoint import load_checkpoint
        from utils.training.resume import is_finished, newest_checkpoint

        path = newest_checkpoint(self.folder)
        payload = load_checkpoint(path) if path else None
        if payload and (reason := self._restart_reason(payload)):
            self.notes.append(f"{reason}; trained again from epoch 0")
            LOG.warning("%s: %s; training again from epoch 0", self.folder, reason)
            payload = None
        if payload and is_finished(payload):
            return payload
        if payload:
            self.notes.append(f"resumed from epoch {int(payload['epoch']) + 1}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._train(origin, seed, resume=payload is not None)
        path = newest_checkpoint(self.folder)
        assert path is not None, "training ended without a checkpoint"
        return load_checkpoint(path)

    def _usage(self) -> dict[str, Any]:
        """What the processes before took, and the code they began with; this code if that is not known."""
        from utils.compare.provenance import code_digest

        start = {"seconds": 0.0, "memory_mb": 0.0, "code": code_digest()}
        known = read_json(self.folder / USAGE) or start
        return known if {k: type(v) for k, v in known.items()} == {"seconds": float, "memory_mb": float, "code": str} else start

    def _restart_reason(self, payload: dict[str, Any]) -> str:
        """Why resuming the checkpoint would mix what is not comparable, or ""."""
        from utils.compare.provenance import code_digest
        from utils.files.checksum import has_valid_checksum
        from utils.training.resume import is_finished

        begun, now = self._usage()["code"], code_digest()
        best = self.folder / "weights" / "best.pt"
        if begun != now:
            return f"begun with another version of Attune's code ({begun}, now {now})"
        if is_finished(payload) and not (best.is_file() and has_valid_checksum(best)):
            return "best.pt is damaged"
        return ""

    def _train(self, origin: str, seed: int, *, resume: bool) -> None:
        """Train, and record time and memory even if the training fails."""
        from utils.config import Hyp, TrainConfig
        from utils.device import peak_memory_mb
        from utils.training.session import train

        earlier = self._usage()
        write_json(self.folder / USAGE, earlier)
        local = local_flags(self.config)
        own: dict[str, Any] = {"cfg": str(model_file(self.study, self.variant.name)), "seed": seed, "exist_ok": True}
        own |= {"weights": origin, "data": self.plan.data.source, "plugins": tuple(self.plan.plugins)}
        own |= {"project": str(self.folder.parent), "name": self.folder.name}
        config = TrainConfig(**{**self.plan.flags, **own, **local, "resume": str(self.folder) if resume else ""})
        given = frozenset({"resume", *local}) if resume else frozenset({*self.plan.flags, *own, *local})
        begun = time.monotonic()
        try:
            train(config, Hyp(**self.plan.hyp), given, {})  # type: ignore[arg-type]
        finally:
            seconds, memory = earlier["seconds"] + time.monotonic() - begun, max(earlier["memory_mb"], peak_memory_mb())
            with contextlib.suppress(UserError):
                write_json(self.folder / USAGE, {**earlier, "seconds": seconds, "memory_mb": memory})


def _event_counts(folder: Path) -> Counter[str]:
    """How often each kind of fault occurred in training and was recovered from."""
    kinds: Counter[str] = Counter()
    with contextlib.suppress(OSError):
        for line in read_regular(folder / "events.jsonl", MAX_BYTES).decode(errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a line truncated by a kill
                kinds[str(json.loads(line)["event"])] += 1
    return kinds


def _is_environment_error(error: BaseException) -> bool:
    """Whether a disk or file error caused it, rather than the variant: it can be fixed and the run repeated."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


if __name__ == "__main__":
    run(main)
